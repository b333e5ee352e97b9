"""Metrics of order within groups, against scikit-learn group by group, and by hand."""

import math
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as reference

from models import means
from models.ranking import gauc, ndcg, recall

Scored = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def scored() -> Scored:
    """Rounded logits, so with many ties; some groups of one row, and some rows of no known group."""
    draws = np.random.default_rng(0)
    logits = np.round(draws.normal(-1, 1.5, 2000), 1).astype(np.float32)
    labels = (draws.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return logits, labels, draws.integers(-20, 400, 2000), draws.uniform(0.2, 5, 2000)


def known(groups: np.ndarray) -> np.ndarray:
    return np.unique(groups[groups >= 0])


@pytest.mark.parametrize("is_weighted", [False, True])
def test_gauc_is_the_mean_over_users_of_both_classes_by_their_rows(scored: Scored, is_weighted: bool) -> None:
    logits, labels, users, weights = scored
    given = weights if is_weighted else np.ones_like(weights)
    both = [user for user in known(users) if 0 < labels[users == user].mean() < 1]
    assert len(both) < len(known(users))
    rows = [users == user for user in both]
    each = [reference.roc_auc_score(labels[of], logits[of], sample_weight=given[of]) for of in rows]
    expected = np.average(each, weights=[given[of].sum() for of in rows])
    assert gauc(logits, labels, users, weights if is_weighted else None) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("top", [1, 3, 10])
def test_ndcg_is_scikit_learns_group_by_group_ties_included(scored: Scored, top: int) -> None:
    logits, labels, groups, _ = scored
    each = []
    for group in known(groups):
        of = groups == group
        if labels[of].any():
            many = of.sum() > 1  # scikit-learn refuses one row
            each.append(reference.ndcg_score([labels[of]], [logits[of]], k=top) if many else 1.0)
    assert ndcg(logits, labels, groups, top) == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("top", [1, 3, 10])
def test_recall_is_the_mean_over_all_orders_of_ties(scored: Scored, top: int) -> None:
    logits, labels, groups, _ = scored
    draws, orders = np.random.default_rng(1), 400
    each = []
    for group in known(groups):
        of = np.flatnonzero(groups == group)
        if labels[of].any():
            first = [of[np.lexsort((draws.random(len(of)), -logits[of]))][:top] for _ in range(orders)]
            each.append(np.mean([labels[rows].sum() for rows in first]) / labels[of].sum())
    assert recall(logits, labels, groups, top) == pytest.approx(np.mean(each), abs=2e-3)


def test_by_hand() -> None:
    logits, labels = np.array([3.0, 2.0, 1.0, 5.0, 5.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    groups = np.array([7, 7, 7, 4, 4])
    ideal = 1 + 1 / math.log2(3)
    first = (1 / math.log2(3)) / ideal  # of two positives one is among the first two, on the second place
    assert ndcg(logits, labels, groups, 2) == pytest.approx((first + ideal / 2) / 2)
    assert recall(logits, labels, groups, 2) == pytest.approx((1 / 2 + 1) / 2)
    assert recall(logits, labels, groups, 1) == pytest.approx((0 + 1 / 2) / 2)
    assert gauc(logits, labels, groups) == pytest.approx((0 * 3 + 1 / 2 * 2) / 5)


@pytest.mark.parametrize("labels", [np.zeros(0), np.zeros(5), np.ones(5)], ids=["empty", "all 0", "all 1"])
def test_what_is_not_defined_is_nan(labels: np.ndarray) -> None:
    logits, groups = np.linspace(-1, 1, labels.size), np.arange(labels.size) // 2
    assert math.isnan(gauc(logits, labels, groups))
    by_request = [metric(logits, labels, groups, 3) for metric in (ndcg, recall)]
    assert [math.isnan(value) for value in by_request] == [not labels.any()] * 2
    assert math.isnan(ndcg(logits, labels, np.full(labels.size, -1), 3))  # nobody's group is known


@pytest.mark.parametrize("chunk", [1, 40, 300, 1_900])
def test_groups_that_are_gone_through_some_at_a_time_have_the_same_metrics(
    scored: Scored, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels, groups, weights = scored
    groups = np.where(groups < 40, groups.clip(max=3), groups)  # one of many more rows than the others
    metrics = [
        lambda: gauc(logits, labels, groups),
        lambda: gauc(logits, labels, groups, weights),
        lambda: ndcg(logits, labels, groups, 3),
        lambda: recall(logits, labels, groups, 3),
        lambda: gauc(logits, labels, np.full(labels.size, -1)),
    ]
    at_once = [metric() for metric in metrics]
    monkeypatch.setattr(means, "CHUNK", chunk)
    assert [metric() for metric in metrics] == pytest.approx(at_once, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", [gauc, lambda *rows: ndcg(*rows, 3), lambda *rows: recall(*rows, 3)])
def test_of_many_rows_only_some_groups_are_in_memory(metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "CHUNK", 2**12)

    def peak(rows: int) -> int:
        draws = np.random.default_rng(0)
        groups = draws.integers(0, rows // 32, rows, dtype=np.int32)
        given = draws.normal(size=rows).astype(np.float32), draws.integers(0, 2, rows).astype(np.float32), groups
        tracemalloc.start()
        try:
            metric(*given)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2**18) - peak(2**16) < 16 * (2**18 - 2**16)  # bytes; all at once takes some 130 a row
