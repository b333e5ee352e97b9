"""After the gate: a poisoned release goes back once by itself, a canary serves or is dropped; a person decides on."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.learning import Gate, Student
from exfm.serving import Serving
from pipeline.gate.afterwards import predecessor
from pipeline.gate.releasing import held_back, release_candidate
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases import history
from pipeline.releases.afterwards import NOT_WORSE, WAITS, WORSE, read_afterwards
from pipeline.releases.choosing import promote, roll_back, unpin
from pipeline.releases.history import changing, dropped, history_of, numbered
from pipeline.releases.publishing import mend_release, publish
from pipeline.releases.release import Released, current_release
from pipeline.releases.verdict import Verdict
from pipeline.releases.withdrawing import withdraw
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_workspace

pytestmark = pytest.mark.xdist_group("afterwards")

TOLERANT = Gate(tolerance=1.0, judged_rows=300, calibration=10.0, rows=300)
STRICT = replace(TOLERANT, tolerance=0.0)
TRAIN = 'key:"student/feed_click/checkpoint" or key:"student/feed_click/control"'


def flip(work: Workspace, index: int) -> None:
    """Clicks of a slice become no clicks, and the other way round."""
    table, slice_ = work.table("labels"), work.project.stream.slice_at(index)
    frame, before = table.read([slice_]), table.sidecar(slice_)
    assert before is not None
    table.write(slice_, frame.with_columns(click=1 - frame["click"]), before.made_of, before.log, before.notes)


def quick(work: Workspace) -> Workspace:
    """The first student learns enough of a slice of some hundred rows to be better, or much worse, after it."""
    first, *others = work.project.students
    training = replace(first.training, batch_size=8, learning_rate=0.005)
    changed = replace(
        first, inputs=("user_id", "item_id", "device"), training=training, distillation=None, teacher=None
    )
    return replace(work, project=replace(work.project, students=(changed, *others)))


@pytest.fixture(scope="module")
def learnt(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """The student has learnt from all slices, of one world with flipped labels in slice 2; look, don't touch."""
    worlds = {}
    for name in ("sound", "poisoned"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(ran.work.state.folder, folder / "tiny")
        work = worlds[name] = quick(tiny_workspace(folder))
        if name == "poisoned":
            flip(work, 2)
        assert run(work, FIRST, LAST, select=TRAIN, checks=False).success
    return worlds


@pytest.fixture
def poisoned(learnt: dict[str, Workspace], tmp_path: Path) -> Workspace:
    shutil.copytree(learnt["poisoned"].state.folder, tmp_path / "tiny")
    return began(quick(tiny_workspace(tmp_path)))


@pytest.fixture
def sound(learnt: dict[str, Workspace], tmp_path: Path) -> Workspace:
    shutil.copytree(learnt["sound"].state.folder, tmp_path / "tiny")
    return began(quick(tiny_workspace(tmp_path)))


def began(work: Workspace) -> Workspace:
    """The checkpoint of slice 1 serves, and the labels of slice 4 are not closed yet."""
    student, slice_ = work.project.students[0], work.project.stream.slice_at(1)
    shutil.rmtree(work.state.release(student.name))
    with changing(work, student):
        publish(work, student, slice_, CheckpointStore.of(work, student).manifest(slice_).version, "cpu")
    hide(work)
    return work


def hide(work: Workspace) -> None:
    folder = work.state.table("labels")
    (folder / work.project.stream.slice_at(4).folder).rename(folder / "aside")


def close(work: Workspace) -> None:
    """The labels of slice 4 come."""
    folder = work.state.table("labels")
    (folder / "aside").rename(folder / work.project.stream.slice_at(4).folder)


def declared(work: Workspace, gate: Gate, **serving: Any) -> tuple[Workspace, Student]:
    first, *others = work.project.students
    student = replace(first, gate=gate, serving=Serving(**serving))
    return replace(work, project=replace(work.project, students=(student, *others))), student


def released(work: Workspace, gate: Gate, **serving: Any) -> tuple[Verdict, Released]:
    """Materialise the release of a student that is declared so."""
    verdict, served = release_candidate(*declared(work, gate, **serving), "cpu")
    assert served is not None
    return verdict, served


def story(work: Workspace) -> list[tuple[str, int, int | None]]:
    """Action, what serves then, its canary."""
    entries = history_of(work, work.project.students[0])
    return [(each.action, each.number, each.canary and each.canary.number) for each in entries]


def slice_served(work: Workspace) -> int:
    served = current_release(work, work.project.students[0])
    assert served is not None
    return work.project.stream.slice_of(served.slice).index


# Going back.


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
    assert predecessor(work, student) is None and len(story(work)) == 3


def test_the_next_candidate_is_judged_as_ever(poisoned: Workspace) -> None:
    work = poisoned
    released(work, TOLERANT)
    close(work)
    strict_once, student = declared(work, STRICT)
    from pipeline.gate.afterwards import look_after
    from pipeline.gate.judged_rows import JudgedRows

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
    assert read_afterwards(work, student)["served"].outcome == WAITS
    assert "so these rows decide nothing" in read_afterwards(work, student)["served"].reason
    assert slice_served(work) == 2 and len(story(work)) == 2


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
    before = predecessor(work, student)
    assert before is not None and before.number == 1
    (work.state.release(student.name) / before.version / "serving.safetensors").write_bytes(b"")
    assert predecessor(work, student) is None
    close(work)
    released(work, STRICT)
    assert "rolled back" not in [action for action, *_ in story(work)]


def test_an_answer_is_looked_up_not_made_again(poisoned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    work = poisoned
    released(work, TOLERANT)
    close(work)
    released(work, replace(TOLERANT, tolerance=50.0))
    from pipeline.gate import afterwards

    monkeypatch.setattr(afterwards, "compared_on", lambda *_: pytest.fail("nothing is scored again"))
    released(work, replace(TOLERANT, tolerance=50.0))


# Canaries.


def test_a_canary_is_decided_on_when_a_slice_has_come(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    verdict, served = released(work, TOLERANT, canary=0.2)
    assert verdict.passed and story(work) == [("released", 1, None), ("canary", 1, 2)]
    assert served.canary is not None and served.canary.version == verdict.candidate and slice_served(work) == 1
    assert released(work, TOLERANT, canary=0.2)[1] == served  # nothing has come since
    assert read_afterwards(work, student)["canary"].outcome == WAITS
    close(work)
    verdict, later = released(work, TOLERANT, canary=0.2)
    assert story(work)[2:] == [("released", 2, None), ("canary", 2, 3)]  # it serves, and the next one is tried
    assert later.version == served.canary.version and later.canary is not None
    assert later.canary.slice == work.project.stream.slice_at(3).key == verdict.slice
    assert "release 2 against 1 on" in history_of(work, student)[2].why
    assert [release.number for release in numbered(history_of(work, student)).values()] == [1, 2, 3]


def test_a_canary_that_is_worse_is_dropped_and_not_tried_again(poisoned: Workspace) -> None:
    work, student = poisoned, poisoned.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2)
    close(work)
    _, after = released(work, STRICT, canary=0.2)
    assert story(work)[2:] == [("canary dropped", 1, None)] and slice_served(work) == 1
    assert served.canary is not None and after.dropped == served.canary.version
    assert read_afterwards(work, student)["canary"].outcome == WORSE and after.why.startswith("release 2 against 1")
    hide(work)
    verdict, after = released(work, TOLERANT, canary=0.2)
    assert verdict.passed and verdict.candidate == served.canary.version and len(story(work)) == 3
    assert roll_back_fails(work, student)


def roll_back_fails(work: Workspace, student: Student) -> bool:
    """A canary is no release to go back to."""
    with pytest.raises(DeclarationError, match="no whole release is older"):
        roll_back(work, student, why="")
    return True


def test_a_canary_waits_for_as_many_slices_as_are_declared_and_others_wait_for_it(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2, canary_slices=2)
    close(work)
    verdict, after = released(work, TOLERANT, canary=0.2, canary_slices=2)
    assert after == served and verdict.passed and verdict.slice == work.project.stream.slice_at(3).key
    assert held_back(work, student, verdict, after) == f"{verdict.candidate} waits until canary 2 is decided on"
    _, after = released(work, TOLERANT)  # no canary is declared any more: it passed its gate
    assert story(work)[2:] == [("released", 2, None), ("released", 3, None)]


@pytest.mark.parametrize(("act", "told"), [
    (lambda work, student: promote(work, student, "2", why="mine"), ("promoted", 2, None)),
    (lambda work, student: promote(work, student, "1", why="mine"), ("promoted", 1, None)),
])  # fmt: skip
def test_a_person_ends_a_canary(
    sound: Workspace, act: Callable[[Workspace, Student], Any], told: tuple[str, int, int | None]
) -> None:
    work, student = sound, sound.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2)
    assert served.canary is not None
    act(work, student)
    assert story(work)[2:] == [told]
    assert set(dropped(history_of(work, student))) == ({served.canary.version} if told[1] == 1 else set())
    released(work, TOLERANT, canary=0.2)
    assert story(work)[2:] == [told]


def test_a_canary_whose_files_are_damaged_is_dropped(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2)
    assert served.canary is not None
    (work.state.release(student.name) / served.canary.version / "model.onnx").write_bytes(b"")
    released(work, TOLERANT, canary=0.2)
    assert story(work)[-1] == ("canary dropped", 1, None) and slice_served(work) == 1


def test_a_canary_of_a_withdrawn_slice_is_dropped_and_mending_keeps_a_sound_one(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2)
    (work.state.release(student.name) / "current.json").write_bytes(b"{")
    assert mend_release(work, student, "cpu") is not None  # it is not known any more that there was one
    assert current_release(work, student) != served
    _, served = released(work, TOLERANT, canary=0.2)
    if served.canary is None:
        return
    withdraw(work, f"student/{student.name}", work.project.stream.slice_at(2).key, why="flipped")
    released(work, TOLERANT, canary=0.2)
    assert story(work)[-1][0] == "canary dropped" and "was withdrawn: flipped" in history_of(work, student)[-1].why


@pytest.mark.parametrize("at", ["history", "current.json"])
def test_a_process_killed_while_a_canary_begins_has_begun_it_or_not(
    sound: Workspace, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    work, student = sound, sound.project.students[0]
    before, write = current_release(work, student), history._write

    def killed(path: Path, entry: Released) -> None:
        if at in (path.name, path.parent.name):
            raise KeyboardInterrupt
        write(path, entry)

    with monkeypatch.context() as patched:
        patched.setattr(history, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            released(work, TOLERANT, canary=0.2)
    assert current_release(work, student) == before and story(work) == [("released", 1, None)]
    released(work, TOLERANT, canary=0.2)
    assert story(work) == [("released", 1, None), ("canary", 1, 2)]


def test_the_asset_says_what_became_of_a_canary(poisoned: Workspace) -> None:
    def materialised(gate: Gate) -> dict[str, Any]:
        work, _ = declared(poisoned, gate, canary=0.2)
        result = run(work, FIRST, LAST, select='key:"student/feed_click/release"', checks=False)
        (event,) = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}

    first = materialised(TOLERANT)
    assert first["canary"] == 2 and first["release"] == 1 and "| 1 | 2 | canary |" in first["changes"]
    close(poisoned)
    second = materialised(STRICT)
    assert "canary" not in second and "| 1 | – | canary dropped | release 2 against 1" in second["changes"]
    assert pl.read_json(poisoned.state.release("feed_click") / "current.json")["number"][0] == 1
