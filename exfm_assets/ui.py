"""Dagster's UI and daemon with the project's home: ``exfm ui [arguments of dagster dev]``.

Belongs here: what ``make ui`` runs, and ending all of it. Not here: where the home is (home.py).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import for_children
from exfm.state import ROOT, is_checkout
from exfm.writing import StateError
from exfm_assets.home import dagster_home

POLL_SECONDS, ASK_AGAIN_SECONDS = 0.2, 15.0
PATIENCE_SECONDS, LEFT_BEHIND_SECONDS = 60.0, 10.0  # Dagster waits as long for its own children


def main(arguments: list[str]) -> int:
    """Run ``dagster dev`` until it ends or is asked to; its exit status, 2 where it can't be started."""
    try:
        os.environ.update({"DAGSTER_HOME": str(dagster_home()), **for_children()})
        # A tick of the automation looks at all that is stored; Dagster's own limit is a minute.
        os.environ.setdefault("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "300")
    except (DeclarationError, StateError) as error:
        Console(highlight=False, soft_wrap=True).print(f"[red]{escape(str(error))}[/red]")
        return 2
    os.chdir(ROOT)  # the committed home's paths are relative to it
    executable = str(Path(sys.executable).parent / "dagster")
    code = [] if is_checkout() else ["-m", "exfm_assets.definitions"]  # a checkout's pyproject.toml says it
    return supervise([executable, "dev", *code, *arguments])


def supervise(command: list[str]) -> int:
    """Run a command with all that it starts as one group, which ends with it, and when this process is asked to end.

    Dagster's own ``dev`` loses a signal that comes while it starts, or ends and leaves its webserver and daemon behind;
    and where a shell put it in the background with Ctrl-C ignored, it ignores SIGTERM too. So it is asked again, and
    what is left of the group at the end is killed: runs that were under way are found dead, and asked for anew, by the
    next daemon.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: asked.append(received))  # before there is anything to end
    process = subprocess.Popen(command, process_group=0)
    deadline, again = None, 0.0
    while process.poll() is None:
        now = time.monotonic()
        if asked:
            deadline = deadline or now + PATIENCE_SECONDS
            if now > deadline:
                _signal_group(process.pid, signal.SIGKILL)
            elif now > again:
                process.send_signal(signal.SIGTERM)
                again = now + ASK_AGAIN_SECONDS
        time.sleep(POLL_SECONDS)
    ends = time.monotonic() + LEFT_BEHIND_SECONDS
    _signal_group(process.pid, signal.SIGTERM)
    while _signal_group(process.pid, 0) and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _signal_group(group: int, number: int) -> bool:
    """Signal all processes of a group; whether there are any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of zombies
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
