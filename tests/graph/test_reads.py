"""What a step reads is what its assets declare as dependencies: or it is asked for before what it needs is there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exfm_assets.definitions import build_defs
from pipeline.tables import SliceTable
from projects.simulated import PROJECT
from tests.conftest import Ran
from tests.graph.runs import LAST, run, sentences
from tests.tiny import tiny_project, tiny_workspace

GRAPH = build_defs(tiny_workspace(Path("/"))).resolve_asset_graph()
KEYS = sorted(key.to_user_string() for key in GRAPH.get_all_asset_keys())
UPKEEP = ("release_gates", "drift_report", "report")
LATER = {f"student/{student.name}" for student in tiny_project().students[1:]}  # that read what the first one reads
READERS = [
    pytest.param(key, marks=pytest.mark.slow if key.rpartition("/")[0] in LATER else ())
    for key in KEYS
    if key != "freshness_cost"
]


def asset_of(table: SliceTable) -> str | None:
    """The asset that makes a table; none makes a quarantine."""
    return None if table.name.startswith("quarantine/") else table.name


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The tables of which any file is looked at."""
    read: set[str] = set()
    path = SliceTable.path

    def noted(self: SliceTable, slice_: Any) -> Path:
        if (name := asset_of(self)) is not None:
            read.add(name)
        return path(self, slice_)

    with monkeypatch.context() as patched:
        patched.setattr(SliceTable, "path", noted)
        yield read


@cache
def parents_of(key: str) -> frozenset[str]:
    return frozenset(parent.to_user_string() for parent in GRAPH.get(dg.AssetKey(key.split("/"))).parent_keys)


@cache
def ancestors_of(key: str) -> frozenset[str]:
    direct = parents_of(key) - {key}
    return direct.union(*(ancestors_of(parent) for parent in direct))


def looked_at_beside(key: str) -> set[str]:
    """What retention looks at to keep the weights that an evaluation needs, and provenance of what a view counts."""
    if key.startswith("student/"):
        return {f"student/{key.split('/')[1]}/evaluation"}
    if key == "report":
        return {"interactions", *ancestors_of(key)}  # ages, costs and quarantine of all that it sums up
    return {"interactions"} if key.startswith("features/") else set()


@pytest.mark.parametrize("key", READERS)
def test_a_step_reads_what_its_asset_declares(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    with recording(monkeypatch) as read:
        result = run(work, LAST, LAST, select=f'key:"{key}"', checks=False)
    assert result.success, sentences(result)
    # What hangs on all students hangs on `student_progress` alone, which is there also where one of them failed.
    all_students = (
        {f"student/{student.name}/evaluation" for student in work.project.students} if key in UPKEEP else set()
    )
    assert read - {key} <= parents_of(key) | all_students | looked_at_beside(key)
    with recording(monkeypatch) as read:
        assert run(work, LAST, LAST, select=f'key:"{key}"').success
    assert read - {key} <= ancestors_of(key) | looked_at_beside(key)  # a check may look further up, never beside


@pytest.mark.parametrize("student", [student.name for student in tiny_project().students])
def test_a_student_alone_needs_no_table_of_its_siblings(ran: Ran, tmp_path: Path, student: str) -> None:
    """One reads teacher features and the other does not: without that table, the other is judged all the same."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    keys = [dg.AssetKey(["student", student, part]) for part in ("checkpoint", "control", "evaluation")]
    graph = build_defs(work).resolve_asset_graph()
    needed = {parent.to_user_string() for key in keys for parent in graph.get(key).parent_keys}
    for table in ("logged_teacher_features", "labels", "logged_inputs"):
        if table not in needed:
            shutil.rmtree(work.state.table(table))
    assert run(work, LAST, LAST, select=f'key:"student/{student}/evaluation"').success


def test_the_default_project_declares_teacher_features_for_those_that_read_them() -> None:
    graph = build_defs(tiny_workspace(Path("/"), PROJECT)).resolve_asset_graph()
    for student in PROJECT.students:
        reads = bool(PROJECT.columns_of(student.inputs, where="").of_teachers)
        for part in ("checkpoint", "control", "evaluation"):
            parents = graph.get(dg.AssetKey(["student", student.name, part])).parent_keys
            assert (dg.AssetKey("logged_teacher_features") in parents) is reads
