"""Withdrawing a checkpoint: what it touched, what is made again, what is served, what Feast says now and of before."""

from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.stream import Slice
from exfm_assets.definitions import build_defs
from exfm_assets.withdraw import withdrawn_now
from models.manifest import load_manifest
from models.weights import read_state
from pipeline.gate.releasing import release_candidate
from pipeline.registry.plain_manifests import read_manifest
from pipeline.releases import withdrawing
from pipeline.releases.choosing import promote, roll_back
from pipeline.releases.history import history_of
from pipeline.releases.release import TAKEN_BACK, current_release
from pipeline.releases.withdrawing import settle, touched_by, withdraw
from pipeline.slices.withdrawals import touching, withdrawals
from pipeline.tables import DataError
from tests.graph.scene import Scene

CHECKPOINT, CONTROL = "student/feed_click/checkpoint", "student/feed_click/control"
TEACHER, PREDICTIONS = "teacher/large/checkpoint", "teacher/large/predictions"

pytestmark = pytest.mark.xdist_group("withdraw")


@pytest.fixture
def scene(seven: Scene) -> Scene:
    return seven


def manifest(scene: Scene, model: str, index: int) -> dict[str, Any]:
    found = read_manifest(scene.work, model, scene.project.stream.slice_at(index))
    assert found is not None
    return found


def weights(scene: Scene, model: str, index: int) -> dict[str, Any]:
    folder = scene.work.state.checkpoints(model) / scene.project.stream.slice_at(index).folder
    return dict(read_state(folder, load_manifest(folder)))


def asked_of_feast(scene: Scene, slice_: Slice, as_of: datetime) -> pl.DataFrame:
    """The teacher's logits of a slice, as Feast had them at a moment."""
    from feature_repo.store import read_supervision

    rows = scene.work.table("logged_inputs").read([slice_], columns=["impression_id", "event_timestamp"])
    read = read_supervision(scene.work.store, rows.to_arrow(), as_of, ["feed_click_supervision"])
    return pl.DataFrame(read).sort("impression_id")


@pytest.mark.slow
def test_the_newest_snapshot(scene: Scene) -> None:
    before = {at: manifest(scene, "student/feed_click", at)["version"] for at in range(7)}
    withdrawal = withdraw(scene.work, "teacher/large", scene.key(6), why="it diverged")
    assert withdrawal.predictions == () and not withdrawal.students  # nothing was scored by it yet
    story = scene.settle(20)
    assert story.made[TEACHER] == scene.keys(6) and not story.failed and not story.twice
    assert not story.made[PREDICTIONS] and not story.made[CHECKPOINT]
    now, parent = manifest(scene, "teacher/large", 6), manifest(scene, "teacher/large", 5)
    assert now["rows"] == 0 and now["trained_until"] == parent["trained_until"]
    mine, his = weights(scene, "teacher/large", 6), weights(scene, "teacher/large", 5)
    assert all((mine[name] == his[name]).all() for name in his)  # it learnt nothing
    assert before == {at: manifest(scene, "student/feed_click", at)["version"] for at in range(7)}
    story = scene.land(7).day(8.6).settle(20)  # and goes on
    assert story.made[TEACHER] == scene.keys(7) and manifest(scene, "teacher/large", 7)["rows"] > 0


@pytest.mark.long
@pytest.mark.slow
def test_an_old_one_that_students_used(scene: Scene) -> None:
    """Older than weights are kept, and than corrections are made good: a withdrawal is made good all the same."""
    stream = scene.project.stream
    served = current_release(scene.work, scene.project.student("feed_click"))
    assert served is not None and served.slice == scene.key(5)
    old, at = stream.slice_at(4), scene.work.now()
    known = asked_of_feast(scene, old, at)
    control = {index: manifest(scene, "control/feed_click", index)["version"] for index in range(7)}
    bad = manifest(scene, "teacher/large", 2)["version"]
    lines = list(withdrawn_now(scene.work, "teacher/large", bad, "flipped labels", scene.instance))
    assert lines[0].startswith(f"teacher/large {scene.key(2)} ({bad}) was withdrawn at ")
    assert f"predictions of 4 slices, {scene.key(3)} to {scene.key(6)}" in lines[1]
    assert f"student/feed_click learnt from it since {scene.key(3)}" in lines[2]
    now = current_release(scene.work, scene.project.student("feed_click"))
    assert (
        now is not None and now.action == TAKEN_BACK and now.slice == scene.key(2)
    )  # the newest that it did not touch
    assert "flipped labels" in now.why
    verdict, after = release_candidate(scene.work, scene.project.student("feed_click"), "cpu")
    assert not verdict.passed and "has learnt from what was withdrawn" in verdict.reason and after == now
    story = scene.settle(25)
    assert not story.failed and not story.twice.keys() - {"student_progress"}, (story.failed, story.twice)
    assert story.made[TEACHER] == scene.keys(2, 3, 4, 5, 6) and story.made[PREDICTIONS] == scene.keys(3, 4, 5, 6)
    assert set(story.made[CHECKPOINT]) >= set(scene.keys(3, 4, 5, 6)) and not story.made[CONTROL]
    assert not story.made["logged_inputs"] and not story.made["labels"] and not story.made["features/item_activity"]
    assert control == {index: manifest(scene, "control/feed_click", index)["version"] for index in range(7)}
    versions = {manifest(scene, "teacher/large", index)["version"] for index in range(7)}
    for index in range(3, 7):
        assert set(manifest(scene, "student/feed_click", index)["teacher_checkpoints"]) <= versions
    released = current_release(scene.work, scene.project.student("feed_click"))
    assert released is not None and released.slice == scene.key(5) and released.number > served.number
    assert touched_by(scene.work, scene.project.student("feed_click"), released) is None
    # Feast: as of before, what was known then; now, other scores of the same rows.
    assert asked_of_feast(scene, old, at).equals(known)
    newest = asked_of_feast(scene, old, scene.work.now())
    assert newest.height == known.height and not newest.equals(known)
    assert not scene.stale(CHECKPOINT) and not scene.stale(PREDICTIONS) and scene.settle().asked == []


@pytest.mark.slow
def test_twice_and_unknown(scene: Scene) -> None:
    first = withdraw(scene.work, "teacher/large", scene.key(3), why="bad")
    assert withdraw(scene.work, "teacher/large", scene.key(3), why="bad again") == first
    with pytest.raises(DeclarationError, match="withdraw: say why"):
        withdraw(scene.work, "teacher/large", scene.key(4), why="")
    withdraw(scene.work, "teacher/large", scene.key(5), why="worse")
    with pytest.raises(DeclarationError, match="is no checkpoint of teacher/large: use a version, or a slice of 2026"):
        withdraw(scene.work, "teacher/large", "2026-02-01", why="?")
    with pytest.raises(DeclarationError, match="is not a declared kind of model"):
        withdraw(scene.work, "views/large", scene.key(3), why="?")
    story = scene.settle(25)
    assert not story.failed and story.made[TEACHER] == scene.keys(3, 4, 5, 6)
    assert [manifest(scene, "teacher/large", at)["rows"] > 0 for at in range(7)] == [True] * 3 + [
        False,
        True,
        False,
        True,
    ]
    assert [each.why for each in withdrawals(scene.work)] == ["bad", "worse"]


@pytest.mark.slow
def test_killed_between_the_record_and_the_releases(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    student = scene.project.student("feed_click")
    with monkeypatch.context() as patched:
        patched.setattr(withdrawing, "name_served", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(withdrawn_now(scene.work, "teacher/large", scene.key(2), "killed", scene.instance))
    served = current_release(scene.work, student)
    assert len(withdrawals(scene.work)) == 1 and served is not None and touched_by(scene.work, student, served)
    _, now = release_candidate(scene.work, student, "cpu")  # as the automation does
    assert now is not None and now.action == TAKEN_BACK and touched_by(scene.work, student, now) is None
    lines = list(withdrawn_now(scene.work, "teacher/large", scene.key(2), "again", scene.instance))
    assert "killed" in lines[0] and len(withdrawals(scene.work)) == 1  # typed again, it finishes what was begun
    assert settle(scene.work, student).now == now and len(history_of(scene.work, student)) == now.change  # once


@pytest.mark.long
@pytest.mark.slow
def test_what_a_withdrawal_touched_can_not_be_chosen_again(scene: Scene) -> None:
    student = scene.project.student("feed_click")
    touched = current_release(scene.work, student)
    assert touched is not None
    list(withdrawn_now(scene.work, "teacher/large", scene.key(2), "bad", scene.instance))
    with pytest.raises(DeclarationError, match=r"it learnt from teacher/large 2026-01-03, which was withdrawn: bad"):
        promote(scene.work, student, str(touched.number), why="")
    assert not scene.settle(25).failed
    newest = current_release(scene.work, student)
    back = roll_back(scene.work, student, why="")
    assert newest is not None and newest.number > touched.number > back.number
    assert touched_by(scene.work, student, back) is None
    _, now = release_candidate(scene.work, student, "cpu")
    assert now == back  # it stays, pinned


@pytest.mark.slow
def test_a_damaged_record_is_named_and_not_passed_over(scene: Scene) -> None:
    withdraw(scene.work, "teacher/large", scene.key(6), why="bad")
    path = scene.work.state.folder / "withdrawals.json"
    for damage in ("{}x", '{"a": 1}', "null", '[{"model": "a"}]'):
        path.write_text(damage)
        with pytest.raises(DataError, match=r"withdrawals.json is damaged .*: restore it"):
            withdrawals(scene.work)


@pytest.mark.slow
def test_a_students_own_checkpoint(scene: Scene) -> None:
    withdrawal = withdraw(scene.work, "student/feed_click", scene.key(5), why="a bad seed")
    assert withdrawal.students == {"feed_click": scene.key(5)} and not withdrawal.predictions
    story = scene.settle(20)
    assert not story.failed and story.made[CHECKPOINT] == story.made[CONTROL] == scene.keys(5, 6)
    assert not story.made[TEACHER] and not story.made["student/feed_convert/checkpoint"]
    assert manifest(scene, "student/feed_click", 5)["rows"] == manifest(scene, "control/feed_click", 5)["rows"] == 0
    assert manifest(scene, "student/feed_click", 5)["teacher_checkpoints"] == []


@pytest.mark.slow
def test_the_same_as_a_job_in_the_ui(scene: Scene) -> None:
    config = {"model": "teacher/large", "checkpoint": scene.key(6), "why": "by hand"}
    job = build_defs(scene.work).resolve_job_def("withdraw")
    result = job.execute_in_process({"ops": {"withdraw_checkpoint": {"config": config}}},
                                    instance=dg.DagsterInstance.ephemeral())  # fmt: skip
    assert result.success and [each.why for each in withdrawals(scene.work)] == ["by hand"]
    assert touching(scene.work, "feed_click", scene.key(6), "2026") is None
