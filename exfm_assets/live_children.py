"""The processes beside a live world: the server, and Dagster with its daemon.

Belongs here: starting them, ending all of them, what they cost. Not here: what they do.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARENT = "EXFM_ENDS_WITH"  # process id: a child ends when its parent is another one
LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 90.0
FIRST_RUN = "first run"
PARTS = {
    "world": "the world", "server": "server", "webserver": "Dagster's webserver", "daemon": "Dagster's daemon",
    "code": "Dagster's code location", "run": "runs",
}  # fmt: skip


class Children:
    """Two commands, each with all that it starts.

    Args:
        folder: of their logs.
        first_run: what is over is run through once, then Dagster begins: it would come to the same, a tick at a time.
        tell: of a first run that failed.
    """

    def __init__(
        self, folder: Path, port: int, ui_port: int, *, first_run: bool = False, tell: Callable[[str], None] = print
    ) -> None:
        self.folder, self._tell = folder, tell
        exfm = [sys.executable, "-m", "exfm_assets.command"]
        self._commands = {
            "server": [*exfm, "serve", "--port", str(port), "--log-days", "2"],
            "dagster": [*exfm, "ui", "-h", "127.0.0.1", "-p", str(ui_port)],
        }
        self._first_run = [*exfm, "run", "--quiet"] if first_run else None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended, self._stop = threading.Event(), threading.Event()
        self._began = time.monotonic()
        self.cpu: dict[str, float] = defaultdict(float)
        self._seen: dict[tuple[int, float], float] = {}

    @contextmanager
    def running(self) -> Iterator[threading.Event]:
        """Both run; the event is set when one has ended by itself."""
        self._began = time.monotonic()
        watcher = threading.Thread(target=self._watch, daemon=True)
        try:
            self._start("server", self._commands["server"])
            if self._first_run is None:
                self._start("dagster", self._commands["dagster"])
            else:
                self._start(FIRST_RUN, self._first_run)
            watcher.start()
            yield self._ended
        finally:
            self._stop.set()
            watcher.join()
            self._end()

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, process_group=0,
                env={**os.environ, PARENT: str(os.getpid())},
            )  # fmt: skip

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._measure()
            ended = {name for name, process in self._processes.items() if process.poll() is not None}
            if ended - {FIRST_RUN}:
                self._ended.set()
                return
            if "dagster" not in self._processes and FIRST_RUN in ended:
                if (status := self._processes[FIRST_RUN].returncode) != 0:
                    path = self.folder / f"{FIRST_RUN}.log"
                    self._tell(f"the first run ended with status {status}, {path} says why: Dagster tries again")
                self._start("dagster", self._commands["dagster"])

    def _end(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        until = time.monotonic() + PATIENCE_SECONDS
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.1))
            with suppress(ProcessLookupError, PermissionError):  # of what it left behind, if anything
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def why(self) -> str:
        """What ended by itself, with the end of what it said."""
        failed = (name for name, each in self._processes.items() if each.returncode not in (0, -signal.SIGTERM))
        name = next((name for name in failed if name != FIRST_RUN), "")
        path = self.folder / f"{name}.log"
        said = path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:] if path.is_file() else []
        status = self._processes[name].returncode if name else 0
        return "\n".join([f"exfm live: its {name} ended with status {status}; the end of {path}:", *said])

    def _measure(self) -> None:
        """Add the processor time that each part took since the last look."""
        roots = {process.pid for process in self._processes.values()}
        for (pid, started), (part, seconds) in processes_of(roots | {os.getpid()}).items():
            self.cpu[part] += max(seconds - self._seen.get((pid, started), 0.0), 0.0)
            self._seen[pid, started] = seconds

    def summary(self) -> str:
        """How much of one processor each part took on average."""
        lasted = time.monotonic() - self._began
        parts = [f"{PARTS[part]} {self.cpu[part] / lasted:.0%}" for part in PARTS if self.cpu[part]]
        whole = sum(self.cpu.values()) / lasted
        return f"Of one processor, over {lasted / 60:.0f} minutes: {', '.join(parts)}; together {whole:.0%}."


def processes_of(roots: set[int]) -> dict[tuple[int, float], tuple[str, float]]:
    """(process id, start) -> part and seconds of processor time, of some processes and all that they started."""
    found: dict[int, tuple[int, str, float, float]] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for path in Path("/proc").glob("[0-9]*/stat"):  # none where there is no /proc: then nothing is told
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        seconds = (int(fields[11]) + int(fields[12])) / ticks
        found[int(path.parent.name)] = (int(fields[1]), command, seconds, float(fields[19]))
    told: dict[tuple[int, float], tuple[str, float]] = {}
    for pid, (_, command, seconds, started) in found.items():
        above = pid
        while above not in roots and above in found:
            above = found[above][0]
        if above in roots:
            told[pid, started] = (_part_of(pid, command), seconds)
    return told


def _part_of(pid: int, command: str) -> str:
    if pid == os.getpid():
        return "world"
    for words, part in (
        ("execute_run", "run"), ("execute_step", "run"), ("dagster-webserver", "webserver"),
        ("dagster_webserver", "webserver"), ("daemon", "daemon"), ("grpc", "code"),
        ("exfm_assets.command serve", "server"), ("exfm_assets.command run", "run"), ("ready_process", "run"),
    ):  # fmt: skip
        if words in command:
            return part
    return "run" if "spawn" in command or "forkserver" in command else "daemon"


def end_with_parent() -> None:
    """Let this process end when its parent does, if it was told to: one that is killed can't end it."""
    parent = os.environ.pop(PARENT, "")
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
