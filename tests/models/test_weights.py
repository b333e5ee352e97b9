"""Rows that stand for several: metrics and training are those of the rows written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from exfm.distillation import AuxiliaryHead, Distillation, KnowledgeDistillation, Recalibration, StudentAdapter
from models.batch import SliceTensors
from models.distillation import masked_bce
from models.learner_slice import weighted_rate
from models.metrics import auc, calibration, evaluate, log_loss, normalised_entropy, probabilities
from models.recalibration import Recalibrator
from tests.models.worlds import learner, slice_tensors


def rows(seed: int, count: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=count).round(1)  # with ties
    labels = (random.uniform(size=count) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return logits, labels, random.integers(1, 5, count).astype(np.float64)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_the_rows_written_out_and_of_scikit_learn(seed: int) -> None:
    logits, labels, weights = rows(seed)
    often = weights.astype(int)
    written_out = evaluate(np.repeat(logits, often), np.repeat(labels, often))
    mine = evaluate(logits, labels, weights=weights)
    for name in ("ne", "auc", "log_loss", "calibration"):
        assert mine[name] == pytest.approx(written_out[name], rel=1e-12), name
    assert mine["auc"] == pytest.approx(roc_auc_score(labels, logits, sample_weight=weights))
    assert mine["log_loss"] == pytest.approx(sklearn_log_loss(labels, probabilities(logits), sample_weight=weights))
    ones = evaluate(logits, labels, weights=np.ones(len(labels)))
    assert all(ones[name] == pytest.approx(evaluate(logits, labels)[name]) for name in ones)


def test_what_is_not_defined_is_not_a_number() -> None:
    logits, _, weights = rows(0, 10)
    for labels in (np.zeros(10), np.ones(10)):
        assert np.isnan(auc(logits, labels, weights)) and np.isnan(normalised_entropy(logits, labels, weights))
    nothing = np.empty(0)
    assert np.isnan(auc(nothing, nothing, nothing)) and np.isnan(log_loss(nothing, nothing, nothing))
    assert np.isnan(calibration(nothing, nothing, nothing))


def test_the_loss_is_the_weighted_mean_of_each_task() -> None:
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 40, 3, generator=draws)
    targets = (torch.rand(2, 40, 3, generator=draws) < 0.4).float()
    targets[:, ::7, 1] = torch.nan
    weights = torch.rand(40, generator=draws) + 0.5
    expected = torch.zeros(2)
    for member in range(2):
        for task in range(3):
            known = targets[member, :, task].isfinite()
            each = torch.nn.functional.binary_cross_entropy_with_logits(
                logits[member, known, task], targets[member, known, task], reduction="none"
            )
            expected[member] += (each * weights[known]).sum() / known.sum()
    torch.testing.assert_close(masked_bce(logits, targets, weights), expected)
    torch.testing.assert_close(masked_bce(logits, targets, torch.ones(40)), masked_bce(logits, targets))
    often = torch.tensor([1, 3]).repeat(20)
    repeated = targets.repeat_interleave(often, dim=1)
    known = repeated.isfinite()
    torch.testing.assert_close(
        weighted_rate(targets, often.float()), (repeated.nan_to_num(0) * known).sum(1) / known.sum(1)
    )


ALL: list[Distillation] = [
    None, KnowledgeDistillation(), AuxiliaryHead(adapter=StudentAdapter()), AuxiliaryHead(adapter=Recalibration()),
]  # fmt: skip


@pytest.mark.parametrize("distillation", ALL, ids=lambda value: type(value).__name__)
def test_their_unit_does_not_matter_and_they_do(distillation: Distillation) -> None:
    """All alike they change nothing, whatever their size; others make another model, which resumes and predicts."""

    def trained(weights: torch.Tensor | None) -> torch.Tensor:
        mine = learner(distillation)
        for seed in (1, 2):
            mine.fit(replace(slice_tensors(seed=seed), weights=weights), f"{seed}")
        return mine.predict(slice_tensors(seed=5))

    plain = trained(None)
    torch.testing.assert_close(trained(torch.full((300,), 7.0)), plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        trained(torch.rand(300, generator=torch.Generator().manual_seed(3)) + 0.1), plain, atol=1e-3
    )


def sampled(world: SliceTensors, rate: float, seed: int) -> SliceTensors:
    """A log that keeps every positive and so many of the negatives, and says so."""
    labels = world.labels[:, 0]
    kept = (labels == 1) | (torch.rand(len(labels), generator=torch.Generator().manual_seed(seed)) < rate)
    weights = torch.where(labels == 1, 1.0, 1 / rate)
    return replace(world, weights=weights).take(kept)


def test_a_model_of_a_sampled_log_is_calibrated_to_the_whole(distillation: Distillation = None) -> None:
    def calibrated(*, weighted: bool) -> float:
        mine = learner(distillation)
        for step in range(8):
            part = sampled(slice_tensors(3_000, seed=step), 0.2, step)
            mine.fit(part if weighted else replace(part, weights=None), f"{step}")
        whole = slice_tensors(3_000, seed=99)
        known = whole.labels[:, 0].isfinite().numpy()
        return calibration(mine.predict(whole)[:, 0].numpy()[known], whole.labels[:, 0].numpy()[known])

    assert calibrated(weighted=True) == pytest.approx(1.0, abs=0.1)
    assert calibrated(weighted=False) > 1.6


def test_recalibrations_count_them() -> None:
    teacher, labels = torch.randn(200, 1, generator=torch.Generator().manual_seed(2)), torch.zeros(200, 1)
    labels[::3] = 1
    often = torch.tensor([1, 4]).repeat(100)
    mine, written_out = (Recalibrator(Recalibration(), 1, "cpu") for _ in range(2))
    mine.remember(teacher, labels, often.float())
    written_out.remember(teacher.repeat_interleave(often, dim=0), labels.repeat_interleave(often, dim=0))
    torch.testing.assert_close(mine.counts, written_out.counts)
