"""The server's page: what it shows is what is stored, nothing of it comes from elsewhere, and a browser draws it."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn
from starlette.testclient import TestClient

from exfm.state import State
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.releases.history import history_of
from pipeline.report.vega import javascript, script_file
from pipeline.workspace import Workspace
from serving.answering import Answering
from serving.app import Server
from serving.metrics import SECONDS
from serving.page import SCRIPT
from serving.page_data import PageData
from serving.samples import _between, _Counted, _quantile
from tests.conftest import Ran

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    folder = tmp_path / ran.work.state.folder.name
    shutil.copytree(ran.work.state.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "log"))
    return Workspace(ran.work.project, State(folder=folder, log=ran.work.state.log))


@pytest.fixture
def server(work: Workspace) -> Server:
    return Server(Answering(work.project, work.state))


def traffic(work: Workspace, *lines: str) -> None:
    (work.state.folder / "traffic.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def told(work: Workspace) -> dict[str, Any]:
    return PageData(work.project, work.state).told()


def test_students_are_shown_as_they_are_stored(work: Workspace) -> None:
    page = told(work)
    assert list(page["students"]) == [student.name for student in work.project.students]
    for student in work.project.students:
        shown, stored = page["students"][student.name], evaluations_of(work, student)
        judged = pl.DataFrame(shown["judged"])
        expected = stored.filter(pl.col("model").is_in(["student", "control", "teacher", "best"]))
        assert judged["model"].to_list() == expected["model"].to_list()
        assert judged["ne"].to_list() == [value if np.isfinite(value) else None for value in expected["ne"]]
        history = history_of(work, student)
        assert [change["number"] for change in shown["released"]] == [change.number for change in history]
        assert shown["served"]["why"] == history[-1].why
        assert (
            shown["gate"]["outcome"]
            == json.loads((work.state.release(student.name) / "gate.json").read_text())["outcome"]
        )


def test_what_is_missing_or_damaged_is_left_out(work: Workspace) -> None:
    student = work.project.students[0].name
    paths = sorted(work.state.evaluations(student).glob("slice=*/part.parquet"))
    before = told(work)["students"][student]["judged"]
    paths[0].write_bytes(b"no parquet")
    (work.state.release(student) / "gate.json").write_text("{", encoding="utf-8")
    (work.state.release(student) / "current.json").unlink()
    shown = told(work)["students"][student]
    assert 0 < len(shown["judged"]) < len(before)
    assert shown["served"] is None and shown["gate"]["outcome"] is None
    shutil.rmtree(work.state.folder / "tables")
    assert told(work)["students"][student]["judged"] == []


def test_an_evaluation_that_is_written_anew_is_read_anew(work: Workspace) -> None:
    student, data = work.project.students[0].name, PageData(work.project, work.state)
    path = sorted(work.state.evaluations(student).glob("slice=*/part.parquet"))[-1]
    assert data.told()["students"][student]["judged"]
    frame = pl.read_parquet(path, hive_partitioning=False).with_columns(ne=pl.lit(0.125))
    frame.write_parquet(path)
    at = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(at, at))
    assert data.told()["students"][student]["judged"][-1]["ne"] == 0.125


def test_traffic_of_a_slice_in_which_a_world_began_again_is_one_slice(work: Workspace) -> None:
    def line(clicks: int, at: str = "2026-03-01T12:00:00+00:00") -> str:
        by = {"one": {"impressions": 30, "clicks": clicks}, "popularity": {"impressions": 10, "clicks": 1}}
        return json.dumps({"slice": "s", "start": at, "surfaces": {"feed": by}})

    traffic(work, line(6), line(12), line(3, "2026-03-01T12:01:00+00:00"), '{"half')
    shown = told(work)["traffic"]
    assert [(each["at"][14:16], each["by"], each["rate"], each["share"]) for each in shown] == [
        ("00", "one", 0.3, 0.75), ("00", "popularity", 0.1, 0.25),
        ("01", "one", 0.1, 0.75), ("01", "popularity", 0.1, 0.25),
    ]  # fmt: skip


def test_the_page_and_its_data_are_served(server: Server, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(server.app()) as client:
        page, data = client.get("/"), client.get("/page.json")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert data.json()["project"] == work.project.name and data.json()["requests"] == []
        assert client.get("/page.js").content == b""
        monkeypatch.setenv(SCRIPT, str(Path(__file__)))
        assert client.get("/page.js").content == Path(__file__).read_bytes()


def test_nothing_of_the_page_comes_from_elsewhere() -> None:
    import serving

    text = (Path(serving.__path__[0]) / "page.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"https://vega.github.io/schema/vega-lite/v5.json"}
    assert re.findall(r"(?:src|href)=\"([^\"]+)\"", text) == ["/page.js"]
    assert "innerHTML" not in text and "document.write" not in text


def test_quantiles_lie_where_those_of_the_answers_do() -> None:
    draws = np.random.default_rng(0).gamma(2.0, 0.004, 5_000)
    within = {border: float((draws <= border).sum()) for border in (*SECONDS, float("inf"))}
    for share in (0.5, 0.99):
        expected = 1000 * float(np.quantile(draws, share))
        found = _quantile(within, share)
        borders = [1000 * border for border in (0.0, *SECONDS)]
        at = np.searchsorted(borders, expected)
        assert found is not None and borders[at - 1] <= found <= borders[at]
    assert _quantile({}, 0.5) is None and _quantile({0.1: 0.0, float("inf"): 0.0}, 0.5) is None


def test_a_worker_that_is_replaced_makes_no_count_negative() -> None:
    before, now = (
        _Counted(100.0, 7.0, {0.1: 90.0, float("inf"): 100.0}),
        _Counted(40.0, 2.0, {0.1: 40.0, float("inf"): 40.0}),
    )
    between = _between(before, now, 5.0)
    assert between["answered"] == between["refused"] == 0.0 and between["p99"] is None


def test_requests_are_sampled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.samples.EVERY_SECONDS", 0.2)
    body = json.dumps({"user": 3, "candidates": [1, 2, 3]})
    student = server.answering.project.students[0].name
    with TestClient(server.app()) as client:
        for _ in range(20):
            assert client.post(f"/rank/{student}", content=body).status_code == 200
        end, counted = time.monotonic() + 20, 0.0
        while counted < 15 and time.monotonic() < end:
            samples = client.get("/page.json").json()["requests"]
            counted = sum(each["answered"] for each in samples) * 0.2
            time.sleep(0.1)
        assert counted >= 15
        assert all(each["p99"] >= each["p50"] > 0 for each in samples if each["p50"] is not None)


@pytest.fixture
def address(server: Server, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a real server."""
    javascript()
    monkeypatch.setenv(SCRIPT, str(script_file()))
    line = {
        "start": "2026-01-05T00:00:00+00:00",
        "surfaces": {"feed": {"popularity": {"impressions": 10, "clicks": 1}}},
    }
    traffic(work, json.dumps(line))
    with socket.socket() as listens:
        listens.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(server.app(), log_level="error"))
        thread = threading.Thread(target=running.run, args=([listens],))
        thread.start()
        while not running.started and thread.is_alive():
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listens.getsockname()[1]}/"
        finally:
            running.should_exit = True
            thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_draws_it(address: str, work: Workspace) -> None:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom", address
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for student in work.project.students:
        assert f"<td>{student.name}</td>" in done.stdout
        for chart in ("ne", "calibration", "behind"):
            section = done.stdout.partition(f'id="{chart}-{student.name}"')[2].partition("</figure>")[0]
            assert "<svg" in section and "mark-line" in section, chart
    assert 'id="rate-feed"' in done.stdout
    state = done.stdout.partition('id="state"')[2].partition("</p>")[0]
    assert " UTC. " in state and "does not answer" not in state
