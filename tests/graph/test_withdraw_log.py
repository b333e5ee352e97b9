"""Withdrawing a slice of the log: its rows, the labels that hang on them, what learnt from it; and giving it back."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.project import Upkeep
from exfm.stream import Slice
from exfm_assets.withdraw import restored_now, withdrawn_now
from pipeline.gate.releasing import release_candidate
from pipeline.releases.choosing import promote
from pipeline.releases.release import TAKEN_BACK, current_release
from pipeline.releases.withdrawing import touched_by
from pipeline.slices.withdrawals import withdrawals
from tests.graph.scene import Scene
from tests.graph.test_withdraw import manifest

CHECKPOINT, CONTROL = "student/feed_click/checkpoint", "student/feed_click/control"
TEACHER = "teacher/large/checkpoint"

pytestmark = pytest.mark.xdist_group("withdraw")


def slice_at(scene: Scene, index: int) -> Slice:
    return scene.project.stream.slice_at(index)


def withdraw(scene: Scene, table: str, index: int, why: str = "a click farm") -> list[str]:
    return list(withdrawn_now(scene.work, table, scene.key(index), why, scene.instance))


def bytes_of(scene: Scene) -> dict[str, str]:
    """Every stored table's files; models are compared by their versions, which digest all they learnt from."""
    folder = scene.work.state.folder
    files = [*folder.glob("tables/*/slice=*/*.parquet"), *folder.glob("tables/features/*/slice=*/*.parquet")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def versions(scene: Scene) -> dict[str, list[str]]:
    models = ("teacher/large", "student/feed_click", "control/feed_click")
    return {model: [manifest(scene, model, at)["version"] for at in range(7)] for model in models}


@pytest.mark.slow
def test_poisoned_outcomes(seven: Scene) -> None:
    """Labels whose windows reach into the slice are unknown, by hand; all that learnt from it goes back and on."""
    stream, student = seven.project.stream, seven.project.student("feed_click")
    poisoned = slice_at(seven, 3)
    served, before = current_release(seven.work, student), versions(seven)
    outcomes = seven.work.table("outcomes").read([poisoned])
    lines = withdraw(seven, "outcomes", 3)
    assert lines[0].startswith(f"outcomes {seven.key(3)} was withdrawn at ") and "a click farm" in lines[0]
    assert "quarantine/outcomes; labels whose windows reach into it are unknown, not 0" in lines[0]
    assert f"teacher/large learnt from it since {seven.key(2)}: it learns and scores those slices again" in lines[1]
    assert f"student/feed_click learnt from it since {seven.key(2)}" in lines[2]
    now = current_release(seven.work, student)
    assert served is not None and now is not None and now.action == TAKEN_BACK and now.slice < seven.key(2)
    story = seven.settle(25)
    assert not story.failed and not story.twice.keys() - {"student_progress"}, (story.failed, story.twice)
    assert story.made["outcomes"] == seven.keys(3) and not story.made["impressions"] and not story.made["interactions"]
    assert seven.work.table("outcomes").rows(poisoned) == 0
    refused = seven.work.quarantine("outcomes").read([poisoned])
    assert refused.filter(pl.col("reason") == "withdrawn: a click farm").height == outcomes.height > 0
    assert_labels_by_hand(seven, poisoned)
    assert story.made[TEACHER] == story.made[CHECKPOINT] == seven.keys(2, 3, 4, 5, 6)
    assert story.made[CONTROL][-5:] == seven.keys(2, 3, 4, 5, 6)  # and those before whose weights retention dropped
    after = versions(seven)
    assert all(after[model][:2] == before[model][:2] and after[model][2] != before[model][2] for model in after)
    released = current_release(seven.work, student)
    assert released is not None and released.slice == seven.key(5) and released.number > served.number
    assert touched_by(seven.work, student, released) is None
    with pytest.raises(DeclarationError, match=r"which was withdrawn: a click farm"):
        promote(seven.work, student, str(served.number), why="")
    assert not seven.stale(CHECKPOINT) and not seven.stale("labels") and seven.settle().asked == []
    assert stream.longest_window <= timedelta(days=1)  # or more slices would hang on it


def assert_labels_by_hand(scene: Scene, gone: Slice) -> None:
    stream = scene.project.stream
    unknown = 0
    for index in range(1, 6):
        slice_ = slice_at(scene, index)
        outcomes = scene.work.table("outcomes").read(
            [each for each in (slice_at(scene, index), slice_at(scene, index + 1))]
        )
        happened = {(row["impression_id"], row["task"]): row["outcome_timestamp"] for row in
                    outcomes.sort("outcome_timestamp", descending=True).iter_rows(named=True)}  # fmt: skip
        for row in scene.work.table("labels").read([slice_]).iter_rows(named=True):
            for task in stream.tasks:
                shown = row["event_timestamp"]
                ends = shown + task.window
                at = happened.get((row["impression_id"], task.name))
                expected = int(at is not None and shown <= at <= ends)
                if shown < gone.end and ends >= gone.start:
                    expected = None  # type: ignore[assignment]
                    unknown += 1
                assert row[task.name] == expected, (slice_.key, row, at)
    assert unknown > 100


@pytest.mark.slow
def test_poisoned_impressions_and_their_outcomes(seven: Scene) -> None:
    """Nothing is learnt of them; outcomes that come later are no orphans of the log's making."""
    gone = slice_at(seven, 4)
    shown = seven.work.table("impressions").read([gone])["impression_id"]
    withdraw(seven, "impressions", 4, "a test system wrote here")
    story = seven.settle(25)
    assert not story.failed and not story.twice.keys() - {"student_progress"}, (story.failed, story.twice)
    assert story.made["impressions"] == seven.keys(4)
    assert seven.work.table("impressions").rows(gone) == seven.work.table("labels").rows(gone) == 0
    refused = seven.work.quarantine("impressions").read([gone])
    assert set(refused.filter(pl.col("reason").str.starts_with("withdrawn"))["impression_id"]) == set(shown)
    later = seven.work.quarantine("outcomes").read([gone, slice_at(seven, 5)])
    mine = later.filter(pl.col("impression_id").is_in(shown.implode()))
    assert mine.height > 0 and mine["reason"].str.starts_with("withdrawn: its impression was").all()
    assert manifest(seven, "teacher/large", 4)["rows"] == manifest(seven, "student/feed_click", 4)["rows"] == 0
    assert story.made[TEACHER] == story.made[CHECKPOINT] == seven.keys(4, 5, 6)
    assert seven.settle().asked == []


@pytest.mark.long
@pytest.mark.slow
def test_older_than_corrections_are_made_good(seven: Scene) -> None:
    """A withdrawal is made good at any age; a correction of the same age is only reported."""
    seven.declare(replace(seven.project, upkeep=Upkeep(look_back=2, retrain=1)))
    assert seven.settle().asked == []
    withdraw(seven, "outcomes", 1)
    story = seven.settle(25)
    assert not story.failed and story.made["outcomes"] == seven.keys(1)
    assert story.made[TEACHER] == story.made[CHECKPOINT] == seven.keys(*range(7))
    assert story.made["student/feed_click/evaluation"] == seven.keys(*range(7))
    assert not seven.stale(CHECKPOINT) and not seven.stale("student/feed_click/evaluation")
    assert seven.settle().asked == []
    seven.land(2, world=replace(seven.world, seed=8))
    story = seven.settle(25)
    assert not story.made["impressions"] and seven.stale("impressions")


@pytest.mark.long
@pytest.mark.slow
def test_given_back(seven: Scene) -> None:
    """All is as it was, to the byte; the record stays."""
    tables, models = bytes_of(seven), versions(seven)
    withdraw(seven, "outcomes", 5)
    assert not seven.settle(25).failed and bytes_of(seven) != tables
    said = restored_now(seven.work, "outcomes", seven.key(5), "the source wrote it anew")
    assert "; given back at " in said and "the source wrote it anew" in said
    story = seven.settle(25)
    assert not story.failed and not story.twice.keys() - {"student_progress"}
    assert story.made["outcomes"] == seven.keys(5)
    assert bytes_of(seven) == tables and versions(seven) == models and seven.settle().asked == []
    assert [(each.model, bool(each.restored)) for each in withdrawals(seven.work)] == [("outcomes", True)]
    withdraw(seven, "outcomes", 5, "again")  # it can be withdrawn once more
    assert [bool(each.restored) for each in withdrawals(seven.work)] == [True, False]


@pytest.mark.slow
def test_twice_unknown_and_killed(seven: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.releases import withdrawing

    student = seven.project.student("feed_click")
    with monkeypatch.context() as patched:
        patched.setattr(withdrawing, "name_served", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            withdraw(seven, "interactions", 2, "killed")
    assert len(withdrawals(seven.work)) == 1
    _, now = release_candidate(seven.work, student, "cpu")  # as the automation does
    assert now is not None and now.action == TAKEN_BACK and touched_by(seven.work, student, now) is None
    assert "killed" in withdraw(seven, "interactions", 2, "again")[0] and len(withdrawals(seven.work)) == 1
    for table, slice_key, why, message in (
        ("outcomes", seven.key(2), "", "say why"),
        ("outcomes", "2026-02-01", "?", "is no slice of outcomes that has begun: use one of 2026-01-01 to 2026-01-0"),
        ("labels", seven.key(2), "?", "is not a declared table of the log"),
    ):
        with pytest.raises(DeclarationError, match=message):
            list(withdrawn_now(seven.work, table, slice_key, why, dg.DagsterInstance.ephemeral()))
    with pytest.raises(DeclarationError, match="outcomes 2026-01-03 is not withdrawn"):
        restored_now(seven.work, "outcomes", seven.key(2), "?")
    with pytest.raises(DeclarationError, match="only slices of the log are given back"):
        restored_now(seven.work, "teacher/large", seven.key(2), "?")
    assert Path(seven.work.state.folder / "withdrawals.json").is_file()
