"""What goes wrong for one student stays with it: the others are trained, judged and released."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from exfm.learning import Student, Training
from exfm.project import Retention
from pipeline.releases.release import current_release
from pipeline.workspace import Workspace
from tests.graph.runs import FIRST, LAST, run, sentences
from tests.tiny import tiny_project, tiny_workspace


def with_student(folder: Path, student: Student) -> Workspace:
    return tiny_workspace(folder, tiny_project(students=(student, *tiny_project().students)))


def versions(work: Workspace) -> dict[str, str]:
    """Of every checkpoint: what it is made of. Its bits also depend on who trained beside it, to rounding."""
    paths = sorted((work.state.folder / "checkpoints").rglob("manifest.json"))
    return {str(path.relative_to(work.state.folder)): json.loads(path.read_text())["version"] for path in paths}


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


@pytest.mark.slow
def test_a_new_student_and_the_newest_slice_alone(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-04").success
    before = {student.name: current_release(work, student) for student in work.project.students}
    new = replace(work.project.students[0], name="newcomer")
    grown = with_student(tmp_path, new)
    result = run(grown, LAST, LAST)
    assert not result.success
    (message,) = sentences(result)
    assert "student/newcomer: " in message and "no checkpoint trained on slice 2026-01-04" in message
    made = materialised(result)
    assert {"student_progress", "release_gates", "drift_report", "report"} <= made
    assert not any("newcomer" in name for name in made)
    for student in work.project.students:
        assert {f"student/{student.name}/{part}" for part in ("checkpoint", "control", "evaluation", "release")} <= made
        assert current_release(grown, student) not in (None, before[student.name])
    progress = grown.table("student_progress").read([grown.project.stream.slice_of(LAST)])
    failed = progress.filter(progress["reason"] != "")
    assert failed["student"].unique().to_list() == ["newcomer"]
    assert failed.filter(failed["part"] != "evaluation")["version"].null_count() == 2
    # What the sentence asks for is done, and the newcomer is there as if it had always been.
    assert run(grown).success
    anew = with_student(tmp_path / "anew", new)
    assert run(anew).success
    assert versions(grown) == versions(anew)


@pytest.mark.slow
def test_a_student_whose_loss_is_no_number_leaves_those_beside_it_alone(tmp_path: Path) -> None:
    first, second = tiny_project().students
    wild = replace(first, training=Training(batch_size=256, learning_rate=1e30))
    result = run(tiny_workspace(tmp_path, tiny_project(students=(wild, second))), FIRST, "2026-01-02")
    assert not result.success
    assert any(
        "lower Training.learning_rate" in message and f"student/{wild.name}" in message for message in sentences(result)
    )
    assert f"student/{second.name}/checkpoint" in materialised(result)
    assert f"student/{wild.name}/checkpoint" not in materialised(result)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["control", "checkpoint"])
def test_a_part_made_alone_drops_no_weights_that_an_evaluation_still_needs(tmp_path: Path, part: str) -> None:
    short = tiny_project(retention=Retention(last=1))
    work = tiny_workspace(tmp_path, short)
    assert run(work, select='not (group:"studies" or key:"student/*" or group:"upkeep")').success
    student = work.project.students[0]
    both = f'key:"student/{student.name}/checkpoint" or key:"student/{student.name}/control"'
    assert run(work, FIRST, "2026-01-03", select=both).success
    assert run(work, "2026-01-04", LAST, select=f'key:"student/{student.name}/{part}"').success
    judged = run(work, "2026-01-03", LAST, select=f'key:"student/{student.name}/evaluation"')
    assert judged.success, sentences(judged)
