"""Metrics against scikit-learn, and against loops."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from models import means
from models.metrics import auc, calibration, evaluate, log_loss, normalised_entropy, transfer_ratio


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    logits = np.round(draws.normal(-1, 1.5, 2000), 1).astype(np.float32)  # rounded: many ties
    labels = (draws.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return logits, labels


def test_metrics_equal_scikit_learns(scored: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = scored
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    base = np.full(len(labels), labels.mean(dtype=np.float64))
    assert log_loss(logits, labels) == pytest.approx(reference.log_loss(labels, p), abs=1e-12)
    assert auc(logits, labels) == pytest.approx(reference.roc_auc_score(labels, logits), abs=1e-12)
    expected = reference.log_loss(labels, p) / reference.log_loss(labels, base)
    assert normalised_entropy(logits, labels) == pytest.approx(expected, rel=1e-6)
    assert calibration(logits, labels) == pytest.approx(p.mean() / labels.mean(), rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_are_gone_through_in_chunks_have_the_same_metrics(
    scored: tuple[np.ndarray, np.ndarray], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = scored
    weights = np.random.default_rng(1).uniform(0.5, 2, len(labels)) if weighted else None
    at_once = evaluate(logits, labels, weights)
    monkeypatch.setattr(means, "CHUNK", 300)
    in_chunks = evaluate(logits, labels, weights)
    assert in_chunks == pytest.approx(at_once, rel=1e-12)
    assert weighted or in_chunks["auc"] == at_once["auc"]


@pytest.mark.parametrize("labels", [np.zeros(0), np.zeros(5), np.ones(5)], ids=["empty", "all 0", "all 1"])
def test_what_is_not_defined_is_nan(labels: np.ndarray) -> None:
    result = evaluate(np.linspace(-1, 1, labels.size), labels)
    assert all(math.isnan(result[name]) for name in ("ne", "auc"))
    assert math.isnan(result["calibration"]) == (labels.sum() == 0)


def test_the_base_rates_own_entropy_is_one_and_extreme_logits_stay_finite() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    assert normalised_entropy(np.full(4, math.log(0.25 / 0.75)), labels) == pytest.approx(1)
    assert log_loss(np.array([-1e4]), np.array([1.0])) == 1e4


def test_transfer_ratio_is_the_share_of_the_lead_and_nan_without_one() -> None:
    assert transfer_ratio(control=0.9, student=0.88, teacher=0.8) == pytest.approx(0.2)
    assert math.isnan(transfer_ratio(control=0.9, student=0.88, teacher=0.9))
    assert math.isnan(transfer_ratio(control=0.9, student=0.88, teacher=0.95))
