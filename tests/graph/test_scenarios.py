"""What happens by itself, scene by scene: what was asked for, what was made, what is served. Nothing is made twice."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exfm.feature_views import FeatureView
from exfm.freshness import Freshness
from exfm.learning import Teacher, Training
from exfm.project import Upkeep
from exfm_assets import conditions
from exfm_assets.corrections import cost_of
from models.errors import LearningError
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices import provenance
from pipeline.training.joint_training import JointTrainer
from tests.graph.scene import WORLD, Scene
from tests.tiny import tiny_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scenarios")]  # what all of them begin with is made once

TABLES = ("impressions", "outcomes", "interactions", "features/item_activity", "logged_inputs")
CHAIN = ("labels", "teacher/large/checkpoint", "student/feed_click/control", "student/feed_click/checkpoint")
OTHER = replace(WORLD, seed=8)  # the same slices as another world would have them
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Four slices have ended, their labels are closed, all is made of them; look, don't touch."""
    scene = Scene(Path(tmp_path_factory.mktemp("settled"))).land(*range(4)).day(4.6)
    story = scene.settle()
    assert not story.failed and not story.twice
    return scene


@pytest.fixture
def scene(settled: Scene, tmp_path: Path) -> Scene:
    """The same, to be played with."""
    shutil.copytree(settled.folder, tmp_path, dirs_exist_ok=True)
    copied = Scene(tmp_path).day(4.6)
    copied.record_all()
    assert copied.settle().asked == []
    return copied


def test_fresh(scene: Scene) -> None:
    assert scene.serves() == scene.key(2)
    assert set(scene.marks().values()) == {"PASS"}


def test_a_slice_lands(scene: Scene) -> None:
    story = scene.land(4).day(5.01).settle()
    assert all(story.made[table] == scene.keys(4) for table in TABLES)
    assert not story.made["labels"] and not story.failed  # their windows are open
    story = scene.day(5.6).settle()
    assert all(story.made[asset] == scene.keys(4) for asset in CHAIN)
    assert scene.serves() == scene.key(3) and not story.twice


def test_a_catch_up_is_asked_for_as_a_whole(scene: Scene) -> None:
    story = scene.land(*range(4, 9)).day(9.6).settle()
    assert not story.failed and not story.twice
    assert all(story.made[asset] == scene.keys(*range(4, 9)) for asset in (*TABLES, *CHAIN))
    assert [tick for tick in story.asked if "student/feed_click/checkpoint" in tick] == story.asked[:1]  # one run
    assert len(story.asked) <= 5 and scene.serves() == scene.key(7)


def test_stale(scene: Scene) -> None:
    """The stream stops: what is kept is marked by the age of its data, not of its record."""
    students = tuple(replace(student, freshness=Freshness(fail=3 * DAY)) for student in scene.project.students)
    scene.declare(replace(scene.project, students=students))
    story = scene.day(5.4).settle()  # the fifth slice ended without a file
    assert story.made["impressions"] == scene.keys(4) and not story.failed
    assert scene.marks()["student/feed_click/release"] == "PASS"
    scene.day(7.6).settle()
    assert scene.marks()["student/feed_click/release"] == "FAIL"
    story = scene.land(7, 8).day(9.6).settle()
    assert not story.failed and not story.twice
    assert scene.serves() == scene.key(7) and set(scene.marks().values()) == {"PASS"}


@pytest.mark.long
def test_an_empty_slice_filled_later(scene: Scene) -> None:
    scene.day(5.6).settle()
    assert scene.work.table("impressions").rows(scene.project.stream.slice_at(4)) == 0
    story = scene.land(4).settle()
    assert all(story.made[asset] == scene.keys(4) for asset in (*TABLES, *CHAIN)), story.made
    assert not story.failed and not story.twice
    assert scene.work.table("impressions").rows(scene.project.stream.slice_at(4)) > 0


def test_a_late_slice(scene: Scene) -> None:
    """It comes when later ones are there already: what reads it is made again, once, in order."""
    scene.land(5, 6).day(7.6).settle()
    story = scene.land(4).settle()
    assert story.made["impressions"] == scene.keys(4) and not story.failed and not story.twice
    assert story.made["features/item_activity"] == scene.keys(4, 5, 6)
    assert story.made["teacher/large/checkpoint"] == scene.keys(4, 5, 6)
    assert story.made["student/feed_click/checkpoint"] == scene.keys(4, 5, 6)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the automation says that corrections cost."""
    said: list[str] = []

    def noted(*given: Any) -> str:
        said.append(cost_of(*given))
        return said[-1]

    monkeypatch.setattr(conditions, "cost_of", noted)
    return said


def test_a_corrected_slice(scene: Scene, costs: list[str]) -> None:
    story = scene.land(2, world=OTHER).settle()
    assert len(costs) == 1  # once, in the first tick, for all tables of the log
    assert costs[0].startswith(
        "impressions 2026-01-03, 2026-01-04: the log's impressions changed since. To be made again: "
    )
    asked = {asset for tick in story.asked for asset in tick}
    sums = {"release_gates", "drift_report", "report", "online_store"}
    named = int(costs[0].partition("again: ")[2].partition(" assets")[0])
    assert abs(named - len(asked | sums)) <= 3 and "2026-01-03...2026-01-04, about " in costs[0]
    assert "Upkeep" not in costs[0]
    assert story.made["impressions"] == scene.keys(2) and not story.failed and not story.twice
    assert story.made["labels"] == scene.keys(2)
    assert all(story.made[asset] == scene.keys(2, 3) for asset in CHAIN[1:])
    assert scene.settle().asked == []


@pytest.mark.long
def test_a_correction_that_is_too_old_is_only_reported(scene: Scene, costs: list[str]) -> None:
    """It would cost as many slices of training as it is old."""
    scene.declare(replace(scene.project, upkeep=Upkeep(retrain=1)))
    story = scene.land(1, world=OTHER).settle()
    assert story.made["impressions"] == story.made["labels"] == scene.keys(1) and not story.failed
    # Views count a week, so the newest slice's inputs changed as well; it continues what the others learnt before.
    assert all(story.made[asset] in ([], scene.keys(3)) for asset in CHAIN[1:])
    assert len(costs) == 1 and "stays, for Upkeep.retrain=1 slices" in costs[0]
    findings = scene.stale("teacher/large/checkpoint")
    assert findings[0].startswith("teacher/large/checkpoint 2026-01-02: made of other labels, logged_inputs than are")
    story = scene.land(4).day(5.6).settle()  # and what comes later is learnt all the same
    assert story.made["teacher/large/checkpoint"] == scene.keys(4) and not story.failed


def test_a_new_student_on_a_running_system(scene: Scene) -> None:
    """It begins with the stream, is judged as it learns, and nobody else is asked for anything."""
    new = replace(scene.project.student("feed_click"), name="new")
    scene.declare(replace(scene.project, students=(*scene.project.students, new)))
    story = scene.settle()
    sliced = {asset for asset, made in story.made.items() if made != [""] * len(made)}
    mine = {f"student/new/{part}" for part in ("checkpoint", "control", "evaluation")}
    assert sliced == {*mine, "student_progress"} and not story.failed and not story.twice
    assert all(story.made[asset] == scene.keys(*range(4)) for asset in mine)
    assert scene.serves("new") == scene.key(2)


def test_a_student_declared_otherwise(scene: Scene) -> None:
    old = scene.project.student("feed_click")
    changed = replace(old, training=Training(batch_size=128))
    scene.declare(replace(scene.project, students=(changed, *scene.project.students[1:])))
    story = scene.settle()
    mine = {f"student/feed_click/{part}" for part in ("checkpoint", "control", "evaluation")}
    assert {asset for asset in story.made if asset.startswith(("student/", "teacher/"))} - mine <= {
        "student/feed_click/release"
    }
    assert not story.failed and not story.twice
    assert story.made["student/feed_click/checkpoint"] == scene.keys(*range(4))
    assert story.made["student/feed_click/evaluation"] == scene.keys(2, 3)  # nobody served the first two


def with_user_activity(scene: Scene, **training: object) -> Teacher:
    """The teacher reads one more view, which nobody else reads."""
    view = next(view for view in tiny_project().feature_views if view.name == "user_activity")
    assert isinstance(view, FeatureView)
    teacher = scene.project.teachers[0]
    changed = replace(teacher.training, **training)  # type: ignore[arg-type]
    grown = replace(teacher, inputs=(*teacher.inputs, "user_activity"), training=changed)
    scene.declare(replace(scene.project, feature_views=(*scene.project.feature_views, view), teachers=(grown,)))
    return grown


def test_a_new_feature(scene: Scene) -> None:
    """The view is made of all slices, and joined; what was learnt stands, and the next slice continues it with more."""
    teacher = with_user_activity(scene)
    story = scene.settle()
    every = scene.keys(*range(4))
    assert story.made["features/user_activity"] == story.made["logged_inputs"] == every and not story.failed
    models = [asset for asset in story.made if asset.startswith(("teacher/", "student/")) and "/release" not in asset]
    assert models == [] and not story.twice
    assert not story.made["features/item_activity"] and not story.made["labels"]
    store, stream = CheckpointStore.of(scene.work, teacher), scene.project.stream
    before = [store.manifest(stream.slice_at(index)) for index in range(4)]
    story = scene.land(4).day(5.6).settle()
    assert all(story.made[asset] == scene.keys(4) for asset in CHAIN) and not story.failed and not story.twice
    grown = store.manifest(stream.slice_at(4))
    columns = [f"user_activity__{name}" for name in scene.project.view("user_activity").features]
    assert grown.grown_by == columns == [name for name in grown.encoder if name not in before[3].encoder]
    assert grown.parent == before[3].version and grown.declaration != before[3].declaration
    assert [store.manifest(stream.slice_at(index)) for index in range(4)] == before
    assert not scene.stale("teacher/large/checkpoint") and not scene.stale("teacher/large/predictions")
    story = scene.land(5).day(6.6).settle()  # it goes on as any other, and scores what comes
    assert all(story.made[asset] == scene.keys(5) for asset in CHAIN) and not story.failed and not story.twice
    assert store.manifest(stream.slice_at(5)).grown_by == []


@pytest.mark.long
def test_a_new_feature_without_a_warm_start(scene: Scene) -> None:
    """All that reads it is made again; nothing else is, and changing one's mind costs nothing."""
    with_user_activity(scene, warm_start=False)
    story = scene.settle()
    every = scene.keys(*range(4))
    assert story.made["features/user_activity"] == story.made["logged_inputs"] == every and not story.failed
    assert story.made["teacher/large/checkpoint"] == every and not story.twice
    assert not story.made["features/item_activity"] and not story.made["labels"]
    (teacher,) = scene.project.teachers
    warm = replace(teacher, training=replace(teacher.training, warm_start=True))
    scene.declare(replace(scene.project, teachers=(warm,)))
    assert not scene.settle().asked


@pytest.mark.long
def test_a_student_gets_a_feature(scene: Scene) -> None:
    """It, its control and its evaluations stand; on the next slice both go on with it."""
    old, sibling = scene.project.students
    grown = replace(old, inputs=("surface", *old.inputs, "item_activity"))
    scene.declare(replace(scene.project, students=(grown, sibling)))
    story = scene.settle()
    assert not story.failed and {asset for asset in story.made if "release" not in asset} <= {
        "feature_registry", "online_store", "release_gates", "drift_report", "report"
    }, story.made  # fmt: skip
    assert scene.serves() == scene.key(2)
    story = scene.land(4).day(5.6).settle()
    assert all(story.made[asset] == scene.keys(4) for asset in CHAIN) and not story.failed and not story.twice
    slice_ = scene.project.stream.slice_at(4)
    added = ["surface", *(f"item_activity__{name}" for name in scene.project.view("item_activity").features)]
    manifests = [
        CheckpointStore.of(scene.work, grown, control=is_control).manifest(slice_) for is_control in (False, True)
    ]
    assert [manifest.grown_by for manifest in manifests] == [added, added]
    assert scene.serves() == scene.key(3)
    story = scene.land(4, world=OTHER).settle()  # the first grown slice is corrected: from the same parent again
    assert all(story.made[asset] == scene.keys(4) for asset in CHAIN) and not story.failed and not story.twice
    assert CheckpointStore.of(scene.work, grown).manifest(slice_).grown_by == added


def test_the_code_of_a_table_changed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slices are made again; they hold the same, so nothing else is."""
    monkeypatch.setitem(provenance.CODE_VERSIONS, "labels", "2")
    story = scene.settle()
    assert story.made["labels"] == scene.keys(*range(4)) and not story.failed
    assert {asset for asset in story.made if asset.startswith(("student/", "teacher/", "features/"))} <= {
        "student/feed_click/release", "student/feed_convert/release"
    }  # fmt: skip


@pytest.mark.long
def test_a_crash_in_training(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is left alone for ten minutes, then tried again; what does not hang on it goes on."""
    train, crashing = JointTrainer.train, True

    def crash(self: JointTrainer, requests, supervised):  # type: ignore[no-untyped-def]
        if crashing and any(request.name == "teacher/large" for request in requests):
            raise LearningError("planted")
        return train(self, requests, supervised)

    monkeypatch.setattr(JointTrainer, "train", crash)
    story = scene.land(4).day(5.6).settle()
    assert story.failed == ["planted"] and not story.made["teacher/large/checkpoint"]
    assert story.made["logged_inputs"] == scene.keys(4)
    crashing = False
    scene.clock += timedelta(minutes=11)
    story = scene.settle()
    assert story.made["teacher/large/checkpoint"] == scene.keys(4) and not story.failed
    assert scene.serves() == scene.key(3)
