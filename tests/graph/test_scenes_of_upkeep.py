"""Scenes of drift and gates: what drift asks for, once and again, and what a gate that refuses leaves as it is."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from exfm.freshness import Freshness
from exfm.learning import Gate, Teacher
from exfm.project import Drift, Project
from exfm.simulation import Event, Simulation
from pipeline.drift.check import no_drift
from pipeline.drift.report import asks, drift_rows, drifted, news
from pipeline.releases.verdict import REFUSED, verdict_of
from tests.graph.scene import WORLD, Scene, Story, scene_project

pytestmark = pytest.mark.xdist_group("upkeep")  # what all of them begin with is made once

DAY = timedelta(days=1)
CHECKPOINT, CONTROL = "student/feed_click/checkpoint", "student/feed_click/control"
BROKEN = replace(WORLD, events=(Event(kind="null", day=0, strength=1.0, of="device"),))  # a column turned null
STUCK = replace(WORLD, events=(Event(kind="stuck", day=0, strength=1.0, of="device"),))  # it has one value only


def patient() -> Project:
    """Nothing is refreshed for its age, so whatever asks for training is drift."""
    project = scene_project()
    students = tuple(
        replace(student, freshness=Freshness(warn=40 * DAY, fail=50 * DAY)) for student in project.students
    )
    return replace(project, students=students, drift=Drift(slices=2))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(Path(tmp_path_factory.mktemp("upkeep")), patient()).land(*range(5)).day(5.6)
    assert not scene.settle().failed
    return scene


@pytest.fixture
def scene(settled: Scene, tmp_path: Path) -> Scene:
    shutil.copytree(settled.folder, tmp_path, dirs_exist_ok=True)
    copied = Scene(tmp_path, patient()).day(5.6)
    copied.record_all()
    assert copied.settle().asked == []
    return copied


def landed(scene: Scene, index: int, world: Simulation = WORLD) -> Story:
    """A slice lands, and its labels close."""
    story = scene.land(index, world=world).day(index + 1.6).settle(20)
    again = {"student_progress"}  # it is judged, then trained
    for student in scene.project.students:
        # Where several slices were learnt at once, the first of them would have served this one, so that judges it.
        if len(story.made[f"student/{student.name}/checkpoint"]) > scene.project.stream.serving_lag(student.task):
            again.add(f"student/{student.name}/evaluation")
    assert not story.failed and not story.twice.keys() - again
    return story


@pytest.mark.slow
def test_drift_once_and_twice_in_a_row(scene: Scene) -> None:
    assert scene.serves() == scene.key(3)
    story = landed(scene, 5)
    assert not story.made[CHECKPOINT] and story.made["teacher/large/checkpoint"] == scene.keys(5)  # nothing changed
    assert scene.serves() == scene.key(4)  # the newest checkpoint, judged by now
    story = landed(scene, 6, BROKEN)
    assert story.made[CHECKPOINT] == story.made[CONTROL] == scene.keys(5, 6)  # all that has come since
    assert scene.serves() == scene.key(5)  # the newest checkpoint that was judged on a slice it has not learnt from
    # The gate lets through what has learnt from the broken slice: that is the new normal, and asks for nothing.
    asked = [landed(scene, index, BROKEN).made[CHECKPOINT] for index in (7, 8, 9)]
    assert asked == [[], [], []] and scene.serves() == scene.key(6), drift_rows(scene.work).rows()
    assert landed(scene, 10, STUCK).made[CHECKPOINT] == scene.keys(7, 8, 9, 10)  # another drift
    assert landed(scene, 11, STUCK).made[CHECKPOINT] == [] and scene.serves() == scene.key(10)


@pytest.mark.slow
@pytest.mark.long  # the tries themselves: test_drift_tries.py
def test_a_drift_that_no_candidate_mends_is_tried_three_times_and_left_alone(scene: Scene) -> None:
    """Its gate lets none through, so what serves never learns from it; it is said once, and its freshness stays."""
    strict = Gate(tolerance=-0.9, judged_rows=100, calibration=10.0, rows=100)
    first, *others = scene.project.students
    scene.declare(replace(scene.project, students=(replace(first, gate=strict), *others)))
    landed(scene, 5)
    stories = {index: landed(scene, index, BROKEN) for index in range(6, 11)}
    asked = {index: story.made[CHECKPOINT] for index, story in stories.items()}
    assert asked == {6: scene.keys(5, 6), 7: scene.keys(7), 8: scene.keys(8), 9: [], 10: []}
    assert scene.serves() == scene.key(3) and stories[10].made["student/feed_click/evaluation"] == scene.keys(10)
    rows = drift_rows(scene.work)
    assert asks(scene.work, scene.project.students[0], rows) is None
    found = rows.filter(model="student/feed_click", measure="inputs", slice=scene.key(6)).row(0, named=True)
    assert found["drifted"] and found["state"] == "left alone"
    assert "3 candidates have learnt from it and did not come to serve" in found["reason"]
    said = drifted(rows, "student/feed_click")
    assert said is not None and not no_drift("student/feed_click")(scene.work, []).passed
    assert news(rows, rows).is_empty()
    # What serves is refreshed when it grows stale, whatever drifted.
    stale = replace(first, gate=strict, freshness=Freshness(warn=8 * DAY, fail=50 * DAY))
    scene.declare(replace(scene.project, students=(stale, *others)))
    assert landed(scene, 11, BROKEN).made[CHECKPOINT] == scene.keys(9, 10, 11)
    # What is left alone hides no other change.
    scene.declare(replace(scene.project, students=(replace(first, gate=strict), *others)))
    assert landed(scene, 12, STUCK).made[CHECKPOINT] == scene.keys(12)


@pytest.mark.slow
@pytest.mark.long  # a release that is refused: test_upkeep.py
def test_a_failed_gate_leaves_what_serves_and_says_why(scene: Scene) -> None:
    strict = Gate(tolerance=-0.9, judged_rows=100, calibration=10.0, rows=100)
    first, *others = scene.project.students
    refused = replace(first, gate=strict, freshness=Freshness(fail=4 * DAY))
    scene.declare(replace(scene.project, students=(refused, *others)))
    for index in (5, 6, 7, 8):
        landed(scene, index)
        assert scene.serves() == scene.key(3)  # as before the gate was declared
    verdict = verdict_of(scene.work, refused)
    assert verdict.outcome == REFUSED and "worse than the -90 % that the gate allows" in verdict.reason
    assert scene.marks()["student/feed_click/release"] == "FAIL"
    assert scene.serves("feed_convert") is not None
    scene.declare(replace(scene.project, students=(first, *others)))
    story = landed(scene, 9)
    assert scene.serves() == scene.key(8) and story.made["student/feed_click/release"] == [""]


@pytest.mark.slow
def test_the_code_of_teachers_changed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the teacher's slices are made again; students learn the newest again (Upkeep.retrain)."""
    monkeypatch.setattr(Teacher, "code_version", 2)
    story = scene.settle(20)
    every = scene.keys(*range(5))
    assert story.made["teacher/large/checkpoint"] == every and not story.failed and not story.twice
    assert story.made["teacher/large/predictions"] == every[1:]
    assert story.made[CHECKPOINT] == every[2:]
    assert not story.made[CONTROL] and not story.made["logged_inputs"]
