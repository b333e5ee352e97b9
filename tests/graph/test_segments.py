"""Segments of a candidate: figures of their rows, by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.metrics import normalised_entropy
from pipeline.gate.judging import judge
from pipeline.gate.segments import LEAST_POSITIVES
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.verdict import read_verdict
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.test_gate import last
from tests.tiny import tiny_workspace
from tests.whole import tensors_of


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def test_segments_are_figures_of_their_rows(work: Workspace) -> None:
    """Against the two models' predictions, cut by hand; who is known, by the impressions before."""
    shutil.rmtree(work.state.release("feed_click"), ignore_errors=True)
    student = work.project.student("feed_click")
    verdict = judge(work, student, "cpu")
    assert read_verdict(work, student) == verdict
    inputs = SliceInputs(work, last(work), "cpu", with_labels=True, columns=students_columns(work.project, [student]))
    shown = work.table("impressions").read([last(work)])
    before = work.table("impressions").read([last(work, at) for at in (1, 2, 3, 4)])
    labels = tensors_of(inputs).labels[:, tensors_of(inputs).task_names.index("click")].numpy()
    mine = np.isfinite(labels) & (shown["surface"] == student.surface).to_numpy()
    predicted = {}
    for name, control in (("student", False), ("control", True)):
        learner, _ = CheckpointStore.of(work, student, control=control).load(last(work, 1), "cpu")
        predicted[name] = learner.predict(tensors_of(inputs))[:, 0].numpy()
    found = {each.where: each for each in verdict.segments}
    for where, rows in {
        "known users": shown["user_id"].is_in(before["user_id"].unique().implode()).to_numpy(),
        "known items": shown["item_id"].is_in(before["item_id"].unique().implode()).to_numpy(),
        **{f"device {device}": (shown["device"] == device).to_numpy() for device in shown["device"].unique()},
    }.items():
        rows &= mine
        if not LEAST_POSITIVES <= labels[rows].sum() <= rows.sum() - LEAST_POSITIVES:
            assert where not in found
            continue
        ne = {name: normalised_entropy(logits[rows], labels[rows]) for name, logits in predicted.items()}
        each = found[where]
        assert each.rows == rows.sum() and each.ne == pytest.approx(ne["student"], rel=1e-6)
        assert each.difference == pytest.approx(ne["student"] / ne["control"] - 1, abs=1e-6)
        assert each.low is not None and each.high is not None and each.low <= each.difference <= each.high
