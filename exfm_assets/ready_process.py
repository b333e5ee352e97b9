"""A process that gets ready for ``dagster asset materialize`` while it is still being planned what to make.

Belongs here: starting it, telling it what to run, or to go. Not here: what it runs (Dagster's command), the plan.

Importing what a run needs takes as long as the plan does, and there are two cores. So the process starts first and
imports; then one line on its standard input has the arguments of the command, or the pipe is closed and it ends.
"""

import atexit
import ctypes
import gc
import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from exfm.state import ROOT

# What most runs need, in the order in which they do. A run that is known meanwhile begins with the first two; a thread
# goes on with the rest, for steps are polars', SQLite's and torch's work more than Python's.
_NEEDED = (
    "dagster._cli", "exfm_assets.definitions", "feature_repo.store", "torch", "pipeline.training.teacher_walk",
    "river.drift.page_hinkley", "vl_convert",
)  # fmt: skip
_FIRST = 2
OBJECTS = 100_000  # new ones between two looks for cycles; Python's 700 take a fifth of a start's time


class ReadyProcess:
    """The parent's side.

    Args:
        home: Dagster's.
        variables: of the environment, beside those that are inherited.
        output: a file's descriptor, for all that the process says.
    """

    def __init__(self, home: Path, variables: Mapping[str, str], output: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exfm_assets.ready_process"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DAGSTER_HOME": str(home), **variables, "PYTHONUNBUFFERED": "1"},
            cwd=ROOT,
            preexec_fn=_end_with_parent,  # safe: no threads yet
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, command: Sequence[str]) -> None:
        """Run a command of Dagster's; a process that died meanwhile is found dead by ``is_over``."""
        try:
            self._pipe.write(json.dumps(list(command)).encode() + b"\n")
            self._pipe.flush()
        except BrokenPipeError:
            pass

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return self._process.wait()

    def dismiss(self) -> None:
        """Nothing is to be run: end it."""
        if not self.is_over():
            self._process.kill()  # it has only imported
        self._process.wait()
        self._pipe.close()

    @property
    def _pipe(self) -> io.BufferedIOBase:
        pipe = self._process.stdin
        assert isinstance(pipe, io.BufferedIOBase)
        return pipe


def _end_with_parent() -> None:
    """In the child: end the run cleanly when the parent is killed, instead of going on unseen."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def collect_seldom() -> None:
    """For a process that imports much and lives briefly: look for cycles of objects seldom."""
    gc.set_threshold(OBJECTS, 20, 100)


def main() -> int:
    """The process itself."""
    collect_seldom()
    rest = deque(_NEEDED)
    while rest and (len(_NEEDED) - len(rest) < _FIRST or not _is_told()):
        import_module(rest.popleft())
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    threading.Thread(target=_import_all, args=(rest,), daemon=True).start()
    sys.argv = json.loads(line)
    from dagster._cli import main as dagster

    try:
        dagster()
    except SystemExit as ended:  # click's way to say how it went
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _is_told() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _import_all(modules: Iterable[str]) -> None:
    for module in modules:
        with suppress(ImportError):  # who needs it says so
            import_module(module)


def leave(status: int) -> NoReturn:
    """End this process, after what was registered for its end: taking a thousand modules apart takes a second."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a closed pipe
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
