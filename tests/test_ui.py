"""What ``make ui`` starts ends with it: commands that lose a signal, or leave something behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graph.processes import members, wait_until

DRIVER = """
import sys
from exfm_assets import ui
ui.ASK_AGAIN_SECONDS, ui.PATIENCE_SECONDS, ui.LEFT_BEHIND_SECONDS, ui.POLL_SECONDS = 0.4, 1.5, 1.0, 0.05
sys.exit(ui.supervise([sys.executable, "-c", sys.argv[1], sys.argv[2]]))
"""
READY = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); "
LEAVES = "import subprocess; subprocess.Popen(['sleep', '60']); "
ONCE = (
    "import signal\nseen = []\ndef lost(*_):\n    seen.append(1)\n    if len(seen) > 1:\n        sys.exit(3)\n"
    "signal.signal(signal.SIGTERM, lost)\n"
)
COMMANDS = {
    "ends": (READY + "time.sleep(60)", 128 + signal.SIGTERM),
    "loses the first signal": (f"import sys\n{ONCE}{READY}time.sleep(60)", 3),
    "ignores all": (f"import signal\nsignal.signal(15, signal.SIG_IGN)\n{READY}time.sleep(60)", 128 + signal.SIGKILL),
    "leaves a child behind": (f"{LEAVES}{READY}time.sleep(60)", 128 + signal.SIGTERM),
}


def started(command: str, ready: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", DRIVER, command, str(ready)], start_new_session=True)
    assert wait_until(ready.exists, 30, every=0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("name", COMMANDS)
def test_all_ends_when_it_is_asked_to(tmp_path: Path, name: str, number: signal.Signals) -> None:
    command, status = COMMANDS[name]
    process = started(command, tmp_path / "ready")
    assert len(members(process.pid)) >= 2
    os.kill(process.pid, number)
    assert process.wait(30) == status
    assert not members(process.pid)


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    process = started(f"{LEAVES}{READY}sys.exit(7)", tmp_path / "ready")
    assert process.wait(30) == 7 and not members(process.pid)
