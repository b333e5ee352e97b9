"""Starting what a user starts, as processes of their own, and ending them.

Belongs here: the main job and Dagster's UI with its daemon, on a state of a test's own. Not here: what a test expects.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from exfm.state import ROOT

BIN = Path(sys.executable).parent


def environment(state: Path, project: str = "tests.tiny:PROJECT", **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER_"))}
    return {**kept, "EXFM_PROJECT": project, "EXFM_STATE": str(state), "OMP_NUM_THREADS": "1", **more}


def main_job(surroundings: dict[str, str], *arguments: str, background: bool = False) -> subprocess.Popen[str]:
    """The main job in a session of its own, so that a test ends it and nothing else; ``background`` as in ``ui``."""
    command = [sys.executable, "-m", "exfm_assets.main_job", *arguments]
    return subprocess.Popen(
        command, env=surroundings, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, preexec_fn=_in_the_background if background else _as_a_terminal_starts_it,
    )  # fmt: skip


def home_of(surroundings: dict[str, str]) -> str:
    command = [sys.executable, "-m", "exfm_assets.home"]
    done = subprocess.run(command, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def instance_of(surroundings: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(home_of(surroundings)) as opened:
        yield opened


def ui(surroundings: dict[str, str], port: int, log: Path, *, background: bool = False) -> subprocess.Popen[str]:
    """``make ui`` in a session of its own; in the background of a script, Ctrl-C is ignored from the start."""
    make = shutil.which("make")
    assert make is not None
    with log.open("a") as out:
        return subprocess.Popen(
            [make, "ui"], env={**surroundings, "PORT": str(port)}, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
            preexec_fn=_in_the_background if background else _as_a_terminal_starts_it,
        )  # fmt: skip


def _as_a_terminal_starts_it() -> None:
    """Nothing is ignored: tests that a script put into the background have SIGINT ignored, and Dagster, in their own
    process, then ignores SIGTERM as well; children would inherit both."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _in_the_background() -> None:
    _as_a_terminal_starts_it()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def members(session: int) -> list[int]:
    """Living processes of a session that a test started, zombies left out."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            pids.append(int(stat.parent.name))
    return pids


def kill_session(process: "subprocess.Popen[str]") -> None:
    """``kill -9`` all of a session that a test started."""
    for pid in members(process.pid):
        with_signal(pid, signal.SIGKILL)
    process.wait()


def with_signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_until(true: Callable[[], bool], seconds: float, every: float = 0.5) -> bool:
    """Wait for something to become true; whether it did."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if true():
            return True
        time.sleep(every)
    return true()
