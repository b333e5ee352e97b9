"""A table that is declared otherwise: nothing is trained again, and what serves is released anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from exfm.project import Project
from exfm.serving import Serving
from exfm.state import State
from pipeline.gate.releasing import release_candidate
from pipeline.gate.scoring import released_learner
from pipeline.registry.lineage import declaration_digest
from pipeline.releases.choosing import roll_back
from pipeline.releases.publishing import mend_release
from pipeline.releases.release import current_release, released_checkpoints, released_versions
from pipeline.releases.whole import whole_releases
from pipeline.verify.models_current import _release
from pipeline.workspace import Workspace
from tests.conftest import Ran


def declaring(project: Project, table: str) -> Project:
    first, *others = project.students
    return replace(project, students=(replace(first, serving=Serving(table=table)), *others))


@pytest.fixture
def state(ran: Ran, tmp_path: Path) -> State:
    folder = tmp_path / ran.work.state.folder.name
    shutil.copytree(ran.work.state.folder, folder, ignore=shutil.ignore_patterns("log"))
    return State(folder=folder, log=ran.work.state.log)


def dtype_of(work: Workspace, version: str) -> str:
    path = work.state.release(work.project.students[0].name) / version / "serving.safetensors"
    with safe_open(path, "np") as file:
        return str(file.get_slice("table.weight").get_dtype())


def test_what_serves_is_released_anew_with_the_table_that_is_declared(ran: Ran, state: State) -> None:
    before = Workspace(ran.work.project, state)
    was = current_release(before, before.project.students[0])
    assert was is not None and was.table == "float32"
    for number, (table, dtype) in enumerate((("int8", "I8"), ("bfloat16", "BF16")), was.number + 1):
        work = Workspace(declaring(ran.work.project, table), state)
        student = work.project.students[0]
        assert declaration_digest(work.project, student) == declaration_digest(
            before.project, before.project.students[0]
        )
        assert [fault.why for fault in _release(work, student)] == [
            f"{was.version} is served, and Serving.table is {table} now"
        ]
        verdict, released = release_candidate(work, student, "cpu")
        assert verdict.passed and released is not None
        assert (released.number, released.checkpoint, released.table) == (number, was.checkpoint, table)
        assert dtype_of(work, released.version) == dtype and not list(_release(work, student))
        assert release_candidate(work, student, "cpu")[1] == released  # asking again changes nothing
        assert released.version in whole_releases(work, student)
        was = released
    assert released_checkpoints(work, student) == {was.checkpoint} and len(released_versions(work, student)) == 3
    back = roll_back(work, student, why="too coarse")
    assert back.table == "int8" and release_candidate(work, student, "cpu")[1] == back  # it is pinned


def test_a_damaged_release_is_mended_as_it_was_and_the_gate_reads_it(ran: Ran, state: State) -> None:
    work = Workspace(declaring(ran.work.project, "int8"), state)
    student = work.project.students[0]
    _, released = release_candidate(work, student, "cpu")
    assert released is not None and released.table == "int8"
    path = state.release(student.name) / released.version / "serving.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    undeclared = Workspace(ran.work.project, state)  # what is declared now is of the next release
    assert "published again from its checkpoint" in str(mend_release(undeclared, student, "cpu"))
    assert path.read_bytes() == whole
    assert not isinstance(released_learner(work, student, released.version, "cpu"), str)
