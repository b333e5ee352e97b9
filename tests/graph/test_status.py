"""``exfm status``: what somebody on call asks, in one screen, worst first."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from rich.text import Text

from exfm_assets import status as command
from exfm_assets.home import dagster_home
from pipeline.releases.choosing import roll_back
from pipeline.releases.release import current_release
from pipeline.report.status import status_of
from pipeline.upkeep.refresh import refresh_of
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.test_releases import released
from tests.tiny import tiny_workspace


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def test_what_is_worst_comes_first_and_says_why(work: Workspace) -> None:
    first, second = work.project.students
    before = status_of(work)
    assert {student.tone for student in before.students} == {"good"} and before.tone == "good"
    served = current_release(work, second)
    mine = next(student for student in before.students if student.name == second.name)
    assert served is not None and mine.serves.startswith(f"release {served.number} ({served.version}) since ")
    assert "passed: slice" in mine.gate and "NE " in mine.quality and mine.drift == "none"
    assert mine.next == "the log is closed: nothing more comes" and refresh_of(work, second) is None
    released(work, 1)
    released(work, 2)
    roll_back(work, first, why="it recommends one item to all")
    shutil.rmtree(work.state.release(second.name))
    after = status_of(work)
    assert [(student.name, student.tone) for student in after.students] == [(second.name, "bad"), (first.name, "warn")]
    assert after.tone == "bad" and after.students[0].serves.startswith("nothing serves")
    assert after.students[0].next == "it trains on what has come since: it was never released"
    assert "is pinned since" in after.students[1].gate and "one item to all" in after.students[1].gate


@pytest.fixture
def said(work: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    monkeypatch.setenv("EXFM_PROJECT", "tests.tiny:PROJECT")
    monkeypatch.setenv("EXFM_STATE", str(work.state.folder.parent))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def call() -> str:
        status = command.main([])
        return f"{status}\n{capsys.readouterr().out}"

    return call


def test_the_command_says_it_in_words_where_there_are_no_colours(work: Workspace, said: Callable[[], str]) -> None:
    out = said()
    assert out.startswith("0\ngreen: student feed_") and "\x1b" not in out and "no run is under way" in out
    assert "green: teacher/large/checkpoint: its data ends " in out
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        tags = {"dagster/partition": "2026-01-05"}
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
    shutil.rmtree(work.state.release("feed_click"))
    out = said()
    assert out.startswith("1\nred: student feed_click") and f"run {run.run_id[:8]}: " in out and "of 2026-01-05" in out


def test_when_the_next_refresh_is_due(work: Workspace) -> None:
    from dataclasses import replace

    live = replace(work.project, stream=replace(work.project.stream, until=None))
    now = datetime(2026, 1, 6, 13, tzinfo=UTC)
    later = replace(work, project=live, now=lambda: now)
    mine = next(student for student in status_of(later).students if student.name == "feed_click")
    served = current_release(work, work.project.student("feed_click"))
    assert served is not None and served.slice == "2026-01-04"
    limits = live.release_limits(live.student("feed_click"))
    due = datetime(2026, 1, 5, tzinfo=UTC) + limits.warn - live.stream.slice_length
    if now < due:
        assert mine.next == f"it trains on what has come since at {due:%Y-%m-%d %H:%M} UTC, or when it drifts"
    else:
        assert "behind the stream" in mine.next


def test_nothing_is_cut_on_a_narrow_screen(work: Workspace) -> None:
    status = status_of(work)
    for width in (80, 120, 170):
        lines = [line for block in command.lines_of(status, ["abc: 3 assets"], width) for line in block.splitlines()]
        plain = [Text.from_markup(line).plain for line in lines]
        assert max(map(len, plain)) <= width
        joined = " ".join(" ".join(plain).split())
        for student in status.students:
            assert " ".join(student.gate.split()) in joined and " ".join(student.serves.split()) in joined
