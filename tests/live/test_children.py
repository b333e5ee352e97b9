"""Processes beside a live world: who is theirs, what they cost, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from exfm_assets import live_children
from exfm_assets.live_children import PARENT, Children, processes_of

ROOT = Path(__file__).parents[2]
SLEEPS = "import time; time.sleep(60)"


def until(is_so: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def children(tmp_path: Path, server: str, dagster: str = SLEEPS) -> Children:
    made = Children(tmp_path, 1, 2)
    made._commands = {"server": [sys.executable, "-c", server], "dagster": [sys.executable, "-c", dagster]}
    return made


def test_both_end_with_the_world_and_theirs_with_them(tmp_path: Path) -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPS!r}])"
    made = children(tmp_path, SLEEPS, parent)
    with made.running() as ended:
        until(lambda: len(psutil.Process().children(recursive=True)) >= 3)
        ours = psutil.Process().children(recursive=True)
        assert not ended.is_set()
    until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in ours))


def test_one_that_ends_by_itself_is_said_with_what_it_said(tmp_path: Path) -> None:
    made = children(tmp_path, "import sys; print('no port is free'); sys.exit(3)")
    with made.running() as ended:
        assert ended.wait(30)
    why = made.why()
    assert "server ended with status 3" in why and "no port is free" in why and str(tmp_path / "server.log") in why


def test_what_each_part_costs_is_summed_over_processes_that_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_children, "LOOK_SECONDS", 0.05)
    works = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass\ntime.sleep(60)"
    made = children(tmp_path, SLEEPS, works)
    with made.running():
        until(lambda: made.cpu["daemon"] >= 0.5)
    assert made.cpu["daemon"] == pytest.approx(0.6, abs=0.4)
    assert "Dagster's daemon" in made.summary() and "together" in made.summary()


def test_only_descendants_are_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS]) as process:
        try:
            pids = {pid for pid, _ in processes_of({process.pid})}
            assert pids == {process.pid}
            assert os.getpid() in {pid for pid, _ in processes_of({os.getpid()})}
        finally:
            process.kill()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = "from exfm_assets.live_children import end_with_parent; end_with_parent(); import time; time.sleep(60)"
    parent = (
        "import os, subprocess, sys, time\n"
        f"env = {{**os.environ, {PARENT!r}: str(os.getpid())}}\n"
        f"made = subprocess.Popen([sys.executable, '-c', {child!r}], env=env)\n"
        "print(made.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(2.0)  # it has begun to watch
        process.send_signal(signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
