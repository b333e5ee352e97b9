"""``exfm live`` as it is started: students are released, chosen by, and kept; Ctrl-C leaves nothing; it goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from exfm.atomic_write import write_text
from exfm_assets.live import LOCK, main
from pipeline.live.live_world import read_traffic

ROOT = Path(__file__).parents[2]
STUDENTS = ("feed_click", "video_click")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def living(state: Path, log: Path, port: int, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER_"))}
    command = [sys.executable, "-m", "exfm_assets.command", "live", "--port", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, "--ui-port", str(free_port()), *arguments], cwd=ROOT, stdout=out, stderr=out,
            env={**kept, "EXFM_STATE": str(state), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            each.kill()
        process.kill()
        process.wait()


def until(is_so: Callable[[], object], process: "subprocess.Popen[bytes]", seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.5)


def chosen(state: Path) -> set[str]:
    """Students that chose more than half of what was shown in the newest slice."""
    found: set[str] = set()
    for told in read_traffic(state / "live"):
        for by in told["surfaces"].values():
            shown = sum(count["impressions"] for count in by.values())
            found |= {who for who, count in by.items() if who in STUDENTS and count["impressions"] > shown / 2}
    return found


def ctrl_c(process: "subprocess.Popen[bytes]", log: Path) -> None:
    ours = psutil.Process(process.pid).children(recursive=True)
    assert len(ours) > 3
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, log.read_text()[-3000:]
    end = time.monotonic() + 30
    while left := [each for each in ours if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_students_are_released_traffic_moves_to_them_and_a_second_start_goes_on(tmp_path: Path) -> None:
    state, log, port = tmp_path / "state", tmp_path / "live.log", free_port()
    state.mkdir()
    with living(state, log, port) as process:
        until(lambda: chosen(state) == set(STUDENTS), process, 420, log)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.json", timeout=20) as answer:
            assert b'"release' in answer.read()
        again = subprocess.run(
            [sys.executable, "-m", "exfm_assets.command", "live"], cwd=ROOT, capture_output=True, text=True,
            check=False,
            env={**os.environ, "EXFM_STATE": str(state), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert again.returncode == 2 and "lives in" in again.stdout
        ctrl_c(process, log)
    said, before = log.read_text(), len(read_traffic(state / "live", 1000))
    assert "release 1 serves" in said and "Of one processor" in said
    with living(state, log, port) as process:
        # What was released serves at once: nobody waits for a gate again.
        until(lambda: len(read_traffic(state / "live", 1000)) >= before + 2 and chosen(state), process, 240, log)
        ctrl_c(process, log)
    assert "goes on" in log.read_text()


@pytest.mark.slow
def test_a_port_that_is_taken_ends_it_and_is_said(tmp_path: Path) -> None:
    log = tmp_path / "live.log"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with living(tmp_path / "state", log, taken.getsockname()[1]) as process:
            assert process.wait(150) == 1, log.read_text()[-3000:]
    assert "can't be listened on" in log.read_text()


def test_a_new_world_is_not_begun_over_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXFM_STATE", str(tmp_path))
    monkeypatch.setenv("EXFM_PROJECT", "live")
    kept = tmp_path / "simulated" / "tables" / "part"
    write_text(kept, "mine")
    assert main(["--fresh"]) == 2
    assert "simulated" in capsys.readouterr().out and kept.read_text() == "mine"
    assert (tmp_path / LOCK).is_file()
