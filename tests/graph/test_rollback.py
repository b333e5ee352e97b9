"""A release that later slices show to be worse goes back, once, by itself; what a person chose stays."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.learning import Gate, Student
from exfm.project import Project
from pipeline.gate import afterwards
from pipeline.gate.afterwards import look_after, predecessors
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.releasing import held_back
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.afterwards import NEITHER, NOT_WORSE, WAITS, WORSE, read_afterwards
from pipeline.releases.choosing import promote, roll_back, unpin
from pipeline.releases.history import changing, dropped, history_of
from pipeline.releases.publishing import publish
from pipeline.releases.release import current_release
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import simulate
from pipeline.workspace import Workspace
from tests.graph.after_release import (
    STRICT,
    TOLERANT,
    close,
    declared,
    flip,
    hide,
    quick,
    released,
    slice_served,
    story,
)
from tests.graph.scene import WORLD, Scene, scene_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("afterwards")]


def test_a_release_that_new_rows_show_to_be_worse_goes_back_once(poisoned: Workspace) -> None:
    work, student = poisoned, poisoned.project.students[0]
    verdict, bad = released(work, TOLERANT)
    assert verdict.passed and slice_served(work) == 2 and story(work) == [("released", 1, None), ("released", 2, None)]
    released(work, STRICT)  # no slice has come since: there is nothing to say
    assert slice_served(work) == 2
    assert read_afterwards(work, student)["served"].outcome == WAITS
    close(work)
    verdict, served = released(work, STRICT)
    assert served.version == history_of(work, student)[0].version and slice_served(work) == 1
    assert story(work)[2:] == [("rolled back", 1, None)] and not served.pinned and served.dropped == bad.version
    assert "release 2 against 1 on" in served.why and "worse than the +0 % that the gate allows" in served.why
    assert verdict.outcome == "refused" and "against what serves" in verdict.reason  # it continues what was poisoned
    for gate in (STRICT, TOLERANT):  # whoever asks again, and however often
        assert gate == TOLERANT or released(work, gate)[1] == served
    hide(work)  # the same candidate as before, which a tolerant gate lets through
    verdict, after = released(work, TOLERANT)
    assert verdict.passed and verdict.candidate == bad.version and after == served
    said = held_back(work, student, verdict, after)
    assert said is not None and "is not released again: release 2 against 1" in said
    assert not list(predecessors(work, student)) and len(story(work)) == 3


def test_the_next_candidate_is_judged_as_ever(poisoned: Workspace) -> None:
    work = poisoned
    released(work, TOLERANT)
    close(work)
    strict_once, student = declared(work, STRICT)
    look_after(JudgedRows(strict_once, "cpu"), student)
    assert slice_served(work) == 1
    verdict, served = released(work, TOLERANT)
    assert verdict.passed and slice_served(work) == 3 and story(work)[-1] == ("released", 3, None)
    assert set(dropped(history_of(work, student))) == {history_of(work, student)[1].version}
    with pytest.raises(DeclarationError, match="no whole release is older"):  # never to what was dropped, and 1 is gone
        shutil.rmtree(work.state.release(student.name) / history_of(work, student)[0].version)
        roll_back(work, student, why="")
    assert promote(work, student, "2", why="a person may").number == 2
    assert dropped(history_of(work, student)) == {}


def test_a_sound_release_stays(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    released(work, TOLERANT)
    close(work)
    released(work, STRICT)
    found = read_afterwards(work, student)["served"]
    assert found.outcome == NOT_WORSE, found.reason
    assert found.slices == (work.project.stream.slice_at(4).key,) and found.rows > 300
    assert "rolled back" not in [action for action, *_ in story(work)]


def test_rows_that_are_wrong_themselves_take_nothing_back(sound: Workspace) -> None:
    """The labels of the newest slice are flipped: whoever has learnt most looks worst there."""
    work, student = sound, sound.project.students[0]
    released(work, TOLERANT)
    close(work)
    flip(work, 4)
    _, served = released(work, STRICT)
    assert read_afterwards(work, student)["served"].outcome == NEITHER
    assert "so these rows decide nothing" in read_afterwards(work, student)["served"].reason
    assert slice_served(work) == 2 and len(story(work)) == 2


def test_of_several_that_learnt_from_bad_rows_all_are_gone_back_from(poisoned_twice: Workspace) -> None:
    work, student = poisoned_twice, poisoned_twice.project.students[0]
    for index in (2, 3):
        slice_ = work.project.stream.slice_at(index)
        with changing(work, student):
            publish(work, student, slice_, CheckpointStore.of(work, student).manifest(slice_).version, "cpu")
    assert [each.number for each in predecessors(work, student)] == [2, 1]
    close(work)
    released(work, STRICT)
    found = read_afterwards(work, student)["served"]
    assert slice_served(work) == 1 and story(work)[-1] == ("rolled back", 1, None), found.reason
    assert "release 3 against 1 on" in found.reason and found.outcome == WORSE
    assert "rolled back" not in [action for action, *_ in story(work)[:-1]]


@pytest.mark.parametrize("choose", [
    lambda work, student: promote(work, student, "2", why="mine", pin=True),
    lambda work, student: promote(work, student, "2", why="mine"),
    lambda work, student: (roll_back(work, student, why="back"), unpin(work, student)),
])  # fmt: skip
def test_what_a_person_chose_is_left_alone(poisoned: Workspace, choose: Callable[[Workspace, Student], Any]) -> None:
    work, student = poisoned, poisoned.project.students[0]
    released(work, TOLERANT)
    choose(work, student)
    told = story(work)
    close(work)
    released(work, STRICT)
    assert "rolled back" not in [action for action, *_ in story(work)[len(told) :]]
    assert story(work)[: len(told)] == told  # but for a pin, the next candidate may be better than what was chosen


def test_what_was_before_is_gone_back_to_only_if_it_is_whole(poisoned: Workspace) -> None:
    work, student = poisoned, poisoned.project.students[0]
    released(work, TOLERANT)
    (before,) = predecessors(work, student)
    assert before.number == 1
    (work.state.release(student.name) / before.version / "serving.safetensors").write_bytes(b"")
    assert not list(predecessors(work, student))
    close(work)
    released(work, STRICT)
    assert "rolled back" not in [action for action, *_ in story(work)]


def test_an_answer_is_looked_up_not_made_again(poisoned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    work = poisoned
    released(work, TOLERANT)
    close(work)
    released(work, replace(TOLERANT, tolerance=50.0))
    monkeypatch.setattr(afterwards, "compared_on", lambda *_: pytest.fail("nothing is scored again"))
    released(work, replace(TOLERANT, tolerance=50.0))


def land_flipped(scene: Scene, index: int) -> None:
    """A slice is logged with clicks where there were none, and the other way round."""
    stream, slice_ = scene.project.stream, scene.project.stream.slice_at(index)
    made = simulate(scene.world, stream, slice_)
    clicks = pl.col("task") == "click"
    others = made.impressions.join(made.outcomes.filter(clicks), on="impression_id", how="anti").select(
        "impression_id",
        outcome_timestamp=pl.col("event_timestamp") + timedelta(minutes=1),
        task=pl.lit("click"),
    )
    flipped = pl.concat([made.outcomes.filter(~clicks), others.select(made.outcomes.columns)]).sort("outcome_timestamp")
    write_log(scene.work.state.log, replace(made, outcomes=flipped), slice_)


def scene_project_with(gate: Gate) -> Project:
    project = scene_project()
    students = quick(Workspace(project)).project.students
    return replace(project, students=tuple(replace(student, gate=gate) for student in students[:1]))


@pytest.mark.slow
def test_a_poisoned_student_serves_until_a_good_slice_comes_and_goes_back_once(tmp_path: Path) -> None:
    tolerant = replace(TOLERANT, tolerance=5.0)
    scene = Scene(tmp_path, scene_project_with(tolerant), replace(WORLD, impressions_per_day=2_400))
    for index in range(3):
        scene.land(index).day(index + 1.6).settle()
    assert scene.serves() == scene.key(1)
    land_flipped(scene, 3)
    scene.day(4.6).settle()
    assert scene.serves() == scene.key(2)  # judged on rows that are wrong: the gate is tolerant
    scene.land(4).day(5.6).settle()
    assert scene.serves() == scene.key(3)  # poisoned, and let through
    scene.declare(scene_project_with(replace(tolerant, tolerance=0.0)))
    scene.settle()
    bad = current_release(scene.work, scene.project.students[0])
    assert bad is not None and bad.slice == scene.key(3)
    told = []
    for index in (5, 6, 7):
        assert not scene.land(index).day(index + 1.6).settle().failed
        told.append(scene.serves())
    assert told[0] == scene.key(2)
    entries = history_of(scene.work, scene.project.students[0])
    back = [entry for entry in entries if entry.action == "rolled back"]
    assert [(entry.slice, entry.dropped) for entry in back] == [(scene.key(2), bad.version)]
    later = entries[entries.index(back[0]) + 1 :]
    assert bad.version not in {entry.version for entry in later}
