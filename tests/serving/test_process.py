"""The server as it is started: worker processes, a kill -9 of one, where torch is not installed, and Ctrl-C."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from tests.conftest import Ran

ROOT = Path(__file__).parents[2]
# As where torch is not installed: importing it fails.
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from serving.command import main; sys.exit(main({arguments!r}))"
)


class Running:
    """A server on a port of its own."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, state: Path) -> None:
        self.process, self.port, self.state = process, port, state

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def told(self) -> object:
        """What the server says of itself."""
        try:
            return self.ask("/ready"), self.ask("/students")
        except (OSError, urllib.error.URLError) as error:
            return error

    def until(self, is_so: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if is_so():
                    return
            except (OSError, urllib.error.URLError):
                pass
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < end, f"it never was: {self.told()}"
            time.sleep(0.05)


@contextmanager
def running(ran: Ran, folder: Path, *arguments: str) -> Iterator[Running]:
    """A server over a copy of a released project; all its processes are ended at the end."""
    state = folder / ran.work.state.folder.name
    shutil.copytree(ran.work.state.folder, state, ignore=shutil.ignore_patterns("tables", "checkpoints"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER_", "PROMETHEUS"))
    }
    environment = {**kept, "EXFM_PROJECT": "tests.tiny:PROJECT", "EXFM_STATE": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_TORCH.format(arguments=["--port", str(port), *arguments])]
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    server = Running(process, port, state)
    try:
        server.until(lambda: server.ask("/ready")[0] == 200)
        yield server
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        process.wait(30)
        _, alive = psutil.wait_procs(children, 10)
        assert not alive


BODY = {"user": 3, "candidates": [1, 2, 3]}


def test_it_answers_where_torch_is_not_installed_and_ctrl_c_ends_it(ran: Ran, tmp_path: Path) -> None:
    with running(ran, tmp_path) as server:
        status, answer = server.ask("/rank/feed_click", BODY)
        assert status == 200 and len(answer["scores"]) == 3
    logged = pl.read_parquet(server.state / "requests" / "feed_click" / "*" / "*.parquet", hive_partitioning=False)
    assert set(logged["served_request"]) == {answer["request_id"]}


def test_a_port_that_is_taken_is_one_sentence(ran: Ran, tmp_path: Path) -> None:
    with running(ran, tmp_path) as server:
        code = "import sys; from serving.command import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "--port", str(server.port)]
        environment = {**os.environ, "EXFM_PROJECT": "tests.tiny:PROJECT", "EXFM_STATE": str(tmp_path)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    why = "can't be listened on (Address already in use): choose another one with --host or --port"
    assert done.stderr.strip() == f"127.0.0.1:{server.port} {why}"


def _workers(server: Running) -> list[psutil.Process]:
    """Its living worker processes, without Python's own helper of them."""
    workers = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.Error):  # one that was killed just now
            if "resource_tracker" not in " ".join(child.cmdline()):
                workers.append(child)
    return workers


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_loses_no_answer_that_was_given(ran: Ran, tmp_path: Path) -> None:
    with running(ran, tmp_path, "--workers", "2") as server:
        answered: list[str] = []
        end, killed = time.monotonic() + 8, False
        assert len(_workers(server)) == 2
        while time.monotonic() < end:
            if not killed and time.monotonic() > end - 6:
                time.sleep(1.2)  # what was answered before is on the disk
                before = list(answered)
                _workers(server)[0].send_signal(signal.SIGKILL)
                killed = True
            try:
                status, answer = server.ask("/rank/feed_click", BODY)
            except (OSError, urllib.error.URLError):
                continue  # in flight when its worker was killed
            assert status == 200
            answered.append(answer["request_id"])
        server.until(lambda: len(_workers(server)) == 2)
        server.until(lambda: server.ask("/ready")[0] == 200)
    requests = server.state / "requests"
    from serving.request_log import recover

    recover(requests)
    logged = set(
        pl.read_parquet(requests / "feed_click" / "*" / "*.parquet", hive_partitioning=False)["served_request"]
    )
    assert killed and len(before) > 20 and set(before) <= logged
    assert len(set(answered) - logged) <= 400  # what came in the last half second
