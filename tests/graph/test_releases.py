"""What a person decides about what serves: list, show, compare, promote, roll back, pin; killed on the way."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.learning import Gate, Student
from exfm.state import ROOT
from exfm_assets import releases as command
from exfm_assets.definitions import build_defs
from exfm_assets.home import dagster_home
from models.checkpoint import load_checkpoint
from models.metrics import normalised_entropy
from pipeline.evaluation.summary import summary
from pipeline.gate.comparing import compare
from pipeline.gate.releasing import release_candidate
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases import history
from pipeline.releases.choosing import promote, release_named, roll_back, unpin
from pipeline.releases.history import changing, history_of, numbered
from pipeline.releases.publishing import mend_release, publish
from pipeline.releases.release import CURRENT, Released, current_release
from pipeline.releases.whole import release_fault
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import run
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import shown_of, tensors_of

OPEN = Gate(tolerance=1.0, judged_rows=300, calibration=10.0, rows=300)


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    """Three releases of the first student: of slices 2, 3 (which the run released) and 4 is not judged yet."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    shutil.rmtree(work.state.release(student_of(work).name))
    for index in (1, 2, 3):
        released(work, index)
    return work


def student_of(work: Workspace) -> Student:
    return work.project.students[0]


def released(work: Workspace, index: int) -> Released:
    student, slice_ = student_of(work), work.project.stream.slice_at(index)
    with changing(work, student):
        return publish(work, student, slice_, CheckpointStore.of(work, student).manifest(slice_).version, "cpu")


def told(work: Workspace) -> list[tuple[int, int, str, bool]]:
    return [(entry.change, entry.number, entry.action, entry.pinned) for entry in history_of(work, student_of(work))]


def test_releases_are_numbered_and_every_change_is_kept(work: Workspace) -> None:
    student = student_of(work)
    assert told(work) == [(1, 1, "released", False), (2, 2, "released", False), (3, 3, "released", False)]
    promoted = promote(work, student, "1", why="to look at it")
    assert promoted == current_release(work, student) and promoted.number == 1 and not promoted.pinned
    assert told(work)[-1] == (4, 1, "promoted", False)
    assert release_named(work, student, promoted.version).number == 1
    for unknown in ("4", "0", "nothing"):
        with pytest.raises(DeclarationError, match=r"is not one of student 'feed_click': use one of 1 to 3"):
            promote(work, student, unknown, why="")
    assert current_release(work, student) == promoted


def test_a_roll_back_is_kept_whatever_the_automation_would_release(work: Workspace) -> None:
    student = student_of(work)
    before = current_release(work, student)
    back = roll_back(work, student, why="it recommends one item to all")
    assert back.number == 2 and back.pinned and back.slice < before.slice  # type: ignore[union-attr]
    verdict, served = release_candidate(work, student, "cpu")
    assert verdict.passed and served == back == current_release(work, student)
    result = run(work, work.project.stream.slice_at(4).key, select='key:"student/feed_click/release"')
    assert result.success and not result.get_asset_materialization_events()
    row = summary(work).filter(student=student.name).row(0, named=True)
    assert row["not_released"].startswith("release 2 is pinned since ") and "one item to all" in row["not_released"]
    assert roll_back(work, student, why="").number == 1  # and once more
    with pytest.raises(DeclarationError, match="no whole release is older than 1"):
        roll_back(work, student, why="")
    freed = unpin(work, student)
    assert (freed.number, freed.pinned, freed.action) == (1, False, "unpinned")
    verdict, served = release_candidate(work, student, "cpu")
    assert served is not None and served.number == 3 and served.why == verdict.reason  # the gate decides again
    with pytest.raises(DeclarationError, match="nothing is pinned"):
        unpin(work, student)


def test_a_release_keeps_what_its_gate_said(work: Workspace) -> None:
    student = student_of(work)
    roll_back(work, student, why="", pin=False)
    shutil.rmtree(work.state.release(student.name) / history_of(work, student)[2].version)
    verdict, served = release_candidate(work, student, "cpu")
    assert served is not None and served.number == 3
    kept = json.loads((work.state.release(student.name) / served.version / "release.json").read_text())
    assert kept["gate"]["outcome"] == "passed" and kept["gate"]["reason"] == verdict.reason and kept["exfm"]


def test_a_damaged_release_is_no_way_back(work: Workspace) -> None:
    student = student_of(work)
    known = numbered(history_of(work, student))
    folder = work.state.release(student.name)
    (folder / known[2].version / "serving.safetensors").write_bytes(b"")
    with pytest.raises(DeclarationError, match="release 2: its files are missing or damaged"):
        promote(work, student, "2", why="")
    assert roll_back(work, student, why="").number == 1
    # What is served by hand stays so when its files are mended.
    (folder / known[1].version / "serving.safetensors").unlink()
    assert release_fault(work, student) is not None
    before = current_release(work, student)
    mended = mend_release(work, student, "cpu")
    assert mended is not None and release_fault(work, student) is None
    after = current_release(work, student)
    assert after is not None and before is not None and after.pinned in (True, before.pinned)


def test_mending_serves_what_was_served_and_keeps_a_pin(work: Workspace) -> None:
    """Not the newest by its file's time: that is what a person went back from."""
    student, folder = student_of(work), work.state.release(student_of(work).name)
    back = roll_back(work, student, why="bad")
    (folder / CURRENT).write_bytes(b"{")
    assert mend_release(work, student, "cpu") is not None
    mended = current_release(work, student)
    assert mended is not None and (mended.version, mended.pinned, mended.action) == (back.version, True, "mended")
    shutil.rmtree(folder / back.version)
    (folder / CURRENT).unlink()
    assert mend_release(work, student, "cpu") is not None
    older = current_release(work, student)
    assert older is not None and older.number == 1 and older.pinned


@pytest.mark.parametrize("at", ["history", CURRENT])
def test_a_process_killed_while_it_changes_what_serves_has_changed_nothing_or_all(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    student = student_of(work)
    before = current_release(work, student)
    write = history._write

    def killed(path: Path, entry: Released) -> None:
        if at in (path.name, path.parent.name):
            raise KeyboardInterrupt
        write(path, entry)

    with monkeypatch.context() as patched:
        patched.setattr(history, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            roll_back(work, student, why="killed")
    assert current_release(work, student) == before and len(told(work)) == 3
    assert roll_back(work, student, why="again").number == 2
    assert [entry[0] for entry in told(work)] == [1, 2, 3, 4] and history_of(work, student)[-1].why == "again"


@pytest.mark.slow
def test_two_at_once_change_what_serves_one_after_the_other(work: Workspace) -> None:
    """Ten processes promote ten times each: a hundred changes, each kept."""
    code = (
        "import sys; from pathlib import Path; from tests.tiny import tiny_workspace;"
        "from pipeline.releases.choosing import promote; work = tiny_workspace(Path(sys.argv[1]));"
        "[promote(work, work.project.students[0], str(1 + n % 3), why=sys.argv[2]) for n in range(5)]"
    )
    folder = work.state.folder.parent
    processes = [subprocess.Popen([sys.executable, "-c", code, str(folder), str(n)], cwd=ROOT) for n in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    entries = history_of(work, student_of(work))
    assert [entry.change for entry in entries] == list(range(1, 24))
    assert sorted(entry.why for entry in entries[3:]) == sorted(str(n) for n in range(4) for _ in range(5))
    assert entries[-1] == current_release(work, student_of(work))


def test_two_releases_are_compared_on_rows_that_neither_has_learnt_from(work: Workspace) -> None:
    student, stream = student_of(work), work.project.stream
    first, second = (release_named(work, student, name) for name in ("1", "3"))
    found = compare(work, student, first, second, "cpu")
    assert found.slices == (stream.slice_at(4).key,)
    inputs = SliceInputs(
        work, stream.slice_at(4), "cpu", with_labels=True, columns=students_columns(work.project, [student])
    )
    mine = np.flatnonzero((shown_of(inputs)["surface"] == student.surface).to_numpy())
    labels = work.table("labels").read([stream.slice_at(4)])[student.task][mine]
    known = labels.is_not_null().to_numpy()
    for release, ne in zip((first, second), found.ne, strict=True):
        learner, _ = load_checkpoint(work.state.release(student.name) / release.version, "cpu")
        logits = learner.predict(tensors_of(inputs))[:, 0].numpy()[mine][known]
        truth = labels.cast(pl.Float64).to_numpy()[known]
        assert ne == pytest.approx(normalised_entropy(logits, truth), abs=1e-6)
    assert found.difference.value == pytest.approx(found.ne[1] / found.ne[0] - 1, abs=1e-6)
    assert found.difference.low <= found.difference.value <= found.difference.high
    newest = released(work, 4)
    with pytest.raises(DeclarationError, match="no closed slice is newer than"):
        compare(work, student, first, newest, "cpu")


@pytest.fixture
def said(work: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``exfm releases`` on the workspace; what it prints."""
    monkeypatch.setenv("EXFM_PROJECT", "tests.tiny:PROJECT")
    monkeypatch.setenv("EXFM_STATE", str(work.state.folder.parent))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def call(*arguments: str, status: int = 0) -> str:
        assert command.main(list(arguments)) == status
        return capsys.readouterr().out

    return call


def test_the_command_says_what_serves_since_when_and_why(work: Workspace, said: Callable[..., str]) -> None:
    listed = said("list", "feed_click")
    assert "3 serves" in listed and listed.count("released") == 3
    out = said("rollback", "feed_click", "--why", "poisoned clicks")
    assert "feed_click serves release 2 (" in out and "it is pinned" in out
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["student", "feed_click", "release"]))
    assert event is not None and event.asset_materialization is not None
    assert event.asset_materialization.metadata["action"].value == "rolled back"
    listed = said("list", "feed_click")
    assert "2 serves, pinned" in listed and "poisoned clicks" in listed
    shown = said("show", "feed_click")
    assert "release 2" in shown and "rolled back: poisoned clicks" in shown and "teacher_checkpoints" in shown
    compared = said("compare", "feed_click", "1")
    assert "release 2 against 1: NE" in compared and "which neither has learnt from" in compared
    assert "serves release 3" in said("promote", "feed_click", "3")
    assert "is not a declared student" in said("list", "nobody", status=2)
    assert "nothing is pinned" in said("unpin", "feed_click", status=2)
    assert said("list").count("what served since when") == len(work.project.students)


@pytest.mark.parametrize(("job", "config", "number"), [
    ("rollback", {"student": "feed_click", "why": "by hand"}, 2),
    ("promote", {"student": "feed_click", "why": "by hand", "release": "1", "pin": False}, 1),
])  # fmt: skip
def test_the_same_as_a_job_in_the_ui(work: Workspace, job: str, config: dict[str, object], number: int) -> None:
    defs, instance = build_defs(work), dg.DagsterInstance.ephemeral()
    run_config = {"ops": {f"{job}_release": {"config": config}}}
    result = defs.resolve_job_def(job).execute_in_process(run_config, instance=instance)
    served = current_release(work, student_of(work))
    assert result.success and served is not None and (served.number, served.why) == (number, "by hand")
    event = instance.get_latest_materialization_event(dg.AssetKey(["student", "feed_click", "release"]))
    assert event is not None and event.asset_materialization is not None
    assert event.asset_materialization.metadata["release"].value == number


def test_a_project_without_students_has_no_release_to_choose() -> None:
    assert replace(tiny_project(), students=()).students == ()
    assert command.release_jobs(replace(tiny_project(), students=())) == []
