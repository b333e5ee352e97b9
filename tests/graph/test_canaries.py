"""Canaries: a share of users gets a release first; it serves or is dropped when slices have come, or by hand."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.learning import Gate, Student
from exfm_assets import releases as command
from pipeline.gate.releasing import held_back
from pipeline.releases import history
from pipeline.releases.afterwards import WAITS, WORSE, read_afterwards
from pipeline.releases.choosing import promote, roll_back
from pipeline.releases.history import dropped, history_of, numbered
from pipeline.releases.publishing import mend_release
from pipeline.releases.release import Released, current_release
from pipeline.releases.withdrawing import withdraw
from pipeline.report.status import status_of
from pipeline.workspace import Workspace
from tests.graph.after_release import STRICT, TOLERANT, close, declared, hide, released, slice_served, story
from tests.graph.runs import FIRST, LAST, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("afterwards")]


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


def test_mending_keeps_a_canary_and_one_of_a_withdrawn_slice_is_dropped(sound: Workspace) -> None:
    work, student = sound, sound.project.students[0]
    _, served = released(work, TOLERANT, canary=0.2)
    (work.state.release(student.name) / "current.json").write_bytes(b"{")
    assert mend_release(work, student, "cpu") is not None  # what serves says so no more; it begins again
    assert story(work)[-1] == ("mended", 1, None) and current_release(work, student) != served
    _, served = released(work, TOLERANT, canary=0.2)
    assert story(work)[-1] == ("canary", 1, 2)
    (work.state.release(student.name) / served.version / "serving.safetensors").unlink()
    assert mend_release(work, student, "cpu") is not None
    now = current_release(work, student)
    assert now is not None and now.canary == served.canary
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


def test_the_command_shows_a_canary(
    sound: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released(sound, TOLERANT, canary=0.2)
    monkeypatch.setenv("EXFM_PROJECT", "tests.tiny:PROJECT")
    monkeypatch.setenv("EXFM_STATE", str(sound.state.folder.parent))
    assert command.main(["list", "feed_click"]) == 0
    out = capsys.readouterr().out
    assert "1 serves, canary 2" in out and out.count("canary") == 2 and "released" in out
    assert command.main(["show", "feed_click", "2"]) == 0
    assert "release 2, version" in capsys.readouterr().out
    assert "canary 2 since" in status_of(sound).students[0].serves + status_of(sound).students[1].serves


def test_data_is_as_much_older_as_a_canary_takes(sound: Workspace) -> None:
    def best(**serving: Any) -> timedelta:
        work, student = declared(sound, STRICT, **serving)
        return work.project.release_limits(student).best

    assert best(canary=0.1, canary_slices=3) - best() == 3 * sound.project.stream.slice_length
    assert best(canary_slices=3, exploration=0.1) == best()
