"""Warm starts beside others: who has grown goes on from its own checkpoint, and together with whom it fits."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exfm.project import Project
from models.weights import read_state
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import LAST, run, sentences
from tests.tiny import tiny_workspace

MORE = "item_activity:convert_1d"  # the teacher reads it, so it is logged


def grown(project: Project, *, with_twin: bool) -> Project:
    """A student gets an input; its twin of another name has read it from the first slice on."""
    first, *others = project.students
    first = replace(first, inputs=(*first.inputs, MORE))
    twins = (replace(first, name="twin"),) if with_twin else ()
    return replace(project, students=(first, *others, *twins))


def trained(ran: Ran, folder: Path, *, with_twin: bool) -> Workspace:
    """The newest slice is learnt anew after the student got its input."""
    work = tiny_workspace(folder, grown(ran.work.project, with_twin=with_twin))
    shutil.copytree(ran.work.state.folder, work.state.folder)
    names = [student.name for student in work.project.students if student.name in ("feed_click", "twin")]
    for kind in ("student", "control"):
        shutil.rmtree(work.state.checkpoints(f"{kind}/feed_click") / work.project.stream.slice_of(LAST).folder)
    parts = [f'key:"student/{name}/{part}"' for name in names for part in ("checkpoint", "control")]
    result = run(work, select=" or ".join(parts), checks=False)
    assert result.success, sentences(result)
    return work


@pytest.mark.slow
def test_company_does_not_change_what_a_grown_model_continues(ran: Ran, tmp_path: Path) -> None:
    """A twin trains all slices in the same run; the student's own, which stand, are not trained along with it."""
    works = [trained(ran, tmp_path / str(with_twin), with_twin=with_twin) for with_twin in (False, True)]
    last = works[0].project.stream.slice_of(LAST)
    before = works[0].project.stream.slice_at(last.index - 1)
    for control in (False, True):
        stores = [CheckpointStore.of(work, work.project.students[0], control=control) for work in works]
        alone, beside = [store.manifest(last) for store in stores]
        assert alone.grown_by == beside.grown_by == ["item_activity__convert_1d"]
        assert alone.version == beside.version and alone.parent == stores[0].manifest(before).version
        assert not stores[0].manifest(before).grown_by
        states = [read_state(store.folder(last), store.manifest(last)) for store in stores]
        for name, tensor in states[0].items():
            torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    twin = CheckpointStore.of(works[1], works[1].project.student("twin")).manifest(last)
    assert not twin.grown_by and twin.spec.shape == stores[1].manifest(last).spec.shape
