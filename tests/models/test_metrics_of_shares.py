"""Metrics of labels that are shares: what they mean, by loops; a network learns their mean."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference

from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.hashing import stable_hash
from models.learner import Learner
from models.metrics import auc, evaluate, log_loss, normalised_entropy, row_losses
from models.network_spec import NetworkSpec
from models.ranking import gauc, ndcg, recall

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def scored() -> Scored:
    """Logits with ties, shares of which some are exactly 0 and 1, weights."""
    draws = np.random.default_rng(0)
    logits = np.round(draws.normal(-1, 1.5, 300), 1)
    shares = np.clip(1 / (1 + np.exp(-logits)) + draws.normal(0, 0.3, 300), 0, 1).astype(np.float32)
    assert (shares == 0).any() and (shares == 1).any() and ((shares > 0) & (shares < 1)).sum() > 100
    return logits, shares, draws.uniform(0.2, 5, 300)


def test_a_loss_is_the_divergence_of_label_and_prediction(scored: Scored) -> None:
    logits, shares, _ = scored
    p = 1 / (1 + np.exp(-logits))
    by_hand = [stats.entropy([y, 1 - y], [q, 1 - q]) for y, q in zip(shares.astype(np.float64), p, strict=True)]
    assert row_losses(logits, shares) == pytest.approx(by_hand, abs=1e-12)
    perfect = np.log(shares[(shares > 0) & (shares < 1)].astype(np.float64))
    perfect -= np.log1p(-shares[(shares > 0) & (shares < 1)].astype(np.float64))
    assert log_loss(perfect, shares[(shares > 0) & (shares < 1)]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_ne_is_one_less_the_deviance_explained(scored: Scored, is_weighted: bool) -> None:
    logits, shares, given = scored
    weights = given if is_weighted else None
    mean = np.average(shares.astype(np.float64), weights=weights)
    constant = np.full(len(shares), np.log(mean / (1 - mean)))
    assert normalised_entropy(constant, shares, weights) == pytest.approx(1)
    expected = log_loss(logits, shares, weights) / log_loss(constant, shares, weights)
    assert normalised_entropy(logits, shares, weights) == pytest.approx(expected, rel=1e-6) and expected < 0.7


@pytest.mark.parametrize("is_weighted", [False, True])
def test_auc_is_that_of_drawn_labels(scored: Scored, is_weighted: bool) -> None:
    """Each row twice, as a positive and as a negative, by its share."""
    logits, shares, given = scored
    weights = given if is_weighted else np.ones(len(shares))
    twice = reference.roc_auc_score(
        np.r_[np.ones(len(shares)), np.zeros(len(shares))], np.r_[logits, logits],
        sample_weight=np.r_[weights * shares, weights * (1 - shares)],
    )  # fmt: skip
    assert auc(logits, shares, given if is_weighted else None) == pytest.approx(twice, abs=1e-6)
    everybody = np.zeros(len(shares), dtype=np.int64)
    assert gauc(logits, shares, everybody, given if is_weighted else None) == pytest.approx(twice, abs=1e-6)


def test_errors_are_scikit_learns(scored: Scored) -> None:
    logits, shares, weights = scored
    found, p = evaluate(logits, shares, weights), 1 / (1 + np.exp(-logits))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(shares, p, sample_weight=weights))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(shares, p, sample_weight=weights))


@pytest.mark.parametrize("top", [1, 3, 10])
def test_ndcg_gains_the_shares_and_recall_is_of_their_sum(scored: Scored, top: int) -> None:
    logits, shares, _ = scored
    groups = np.random.default_rng(1).integers(0, 30, len(shares))
    rows = [np.flatnonzero(groups == group) for group in range(30)]
    each = [reference.ndcg_score([shares[of]], [logits[of]], k=top) for of in rows if shares[of].any()]
    assert ndcg(logits, shares, groups, top) == pytest.approx(np.mean(each), abs=1e-9)
    apart = logits + 1e-6 * np.arange(len(logits))  # no ties
    found = [shares[of[np.argsort(-apart[of])][:top]].sum() / shares[of].sum() for of in rows if shares[of].any()]
    assert recall(apart, shares, groups, top) == pytest.approx(np.mean(found), abs=1e-6)


def test_a_network_learns_the_mean_share() -> None:
    """Of each of four ids another one; the labels scatter widely around it."""
    means, draws = np.array([0.02, 0.2, 0.5, 0.9]), np.random.default_rng(2)
    kinds = draws.integers(0, 4, 20_000)
    shares = draws.beta(2 * means[kinds], 2 * (1 - means[kinds])).astype(np.float32)
    spec = NetworkSpec(ids=(("kind", 64),), numbers=(), tasks=("watch",), network=DCNv2(embedding=4, hidden=(8,)))
    model = Learner.create(spec, Training(batch_size=256, seed=0), None, "cpu")
    tensors = SliceTensors(
        ids=torch.from_numpy(stable_hash(kinds, salt="kind"))[:, None], numbers=torch.zeros(len(kinds), 0),
        labels=torch.from_numpy(shares)[:, None], id_names=("kind",), number_names=(), task_names=("watch",),
    )  # fmt: skip
    for number in range(3):
        model.fit(tensors, f"{number}")
    predicted = 1 / (1 + np.exp(-model.predict(tensors)[:, 0].numpy()))
    for kind, mean in enumerate(means):
        assert predicted[kinds == kind].mean() == pytest.approx(mean, abs=0.03)
