"""The gate's intervals: against brute force, and how often they refuse what is as good and what is worse."""

import numpy as np
import polars as pl
import pytest

from models.metrics import row_losses
from pipeline.gate.candidate import user_codes
from pipeline.gate.comparison import MOST_GROUPS, Resampled


def brute_force(groups: np.ndarray, above: np.ndarray, below: np.ndarray, confidence: float) -> tuple[float, float]:
    """Users drawn with replacement, one resample at a time."""
    generator, values = np.random.default_rng(5), []
    by_group = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for _ in range(2_000):
        drawn = np.concatenate([by_group[i] for i in generator.integers(0, len(by_group), len(by_group))])
        values.append(above[drawn].sum() / below[drawn].sum())
    low, high = np.quantile(values, [1 - confidence, confidence])
    return float(low), float(high)


def test_intervals_are_those_of_users_drawn_with_replacement() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 150, 3_000)
    alike = generator.normal(size=150)[groups]  # what one user sees is alike
    above, below = 0.02 + 0.1 * alike + 0.1 * generator.normal(size=3_000), generator.uniform(0.2, 0.4, 3_000)
    found = Resampled(groups, seed=1).ratio(above, below, 0.95)
    low, high = brute_force(groups, above, below, 0.95)
    assert found.value == pytest.approx(above.sum() / below.sum())
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))
    by_row = Resampled(np.arange(3_000), seed=1).ratio(above, below, 0.95)
    assert by_row.high - by_row.low < 0.5 * (found.high - found.low)  # rows alone pretend to know more
    assert Resampled(groups, seed=1).ratio(above, below, 0.95) == found


def test_of_very_many_users_several_are_resampled_as_one() -> None:
    generator = np.random.default_rng(0)
    values, ones = generator.normal(1.0, 1.0, 40_000), np.ones(40_000)
    found = Resampled(np.arange(40_000), seed=3).ratio(values, ones, 0.95)
    assert MOST_GROUPS < 40_000
    assert (found.high - found.low) / 2 == pytest.approx(1.645 / 200, rel=0.1)


@pytest.mark.parametrize(("truly_worse", "at_least", "at_most"), [(0.0, 0, 7), (0.1, 38, 40)])
def test_ties_pass_and_what_is_worse_is_refused(truly_worse: float, at_least: int, at_most: int) -> None:
    """Of 40 candidates that are as good as what serves, at 95 % about two are refused by chance."""
    refused = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        truth = generator.normal(-2.0, 1.0, 4_000)
        labels = (generator.uniform(size=4_000) < 1 / (1 + np.exp(-truth))).astype(np.float64)
        rival = row_losses(truth + 0.3 * generator.normal(size=4_000), labels)
        mine = row_losses(truth + (0.3 + 5 * truly_worse) * generator.normal(size=4_000), labels)
        refused += Resampled(np.arange(4_000) // 8, seed).ratio(mine - rival, rival, 0.95).low > 0
    assert at_least <= refused <= at_most


def test_parts_have_the_intervals_of_their_rows() -> None:
    generator = np.random.default_rng(3)
    groups = generator.integers(0, 150, 3_000)
    below = generator.uniform(0.5, 1.0, 3_000)
    above = below * generator.normal(0.1, 1.0, 3_000)
    parts = [generator.uniform(size=3_000) < share for share in (0.1, 0.5, 1.0)]
    resampled = Resampled(groups, seed=1)
    for part, found in zip(parts, resampled.ratios(above, below, parts, 0.95), strict=True):
        alone = resampled.ratio(np.where(part, above, 0.0), np.where(part, below, 0.0), 0.95)
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))
        assert found.value == pytest.approx(above[part].sum() / below[part].sum())
        low, high = brute_force(groups[part], above[part], below[part], 0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    assert resampled.ratios(above, below, [], 0.95) == []


def test_users_have_the_same_number_whatever_the_type_of_their_ids() -> None:
    assert user_codes(pl.Series(["b", "a", None, "b"])).to_list() == [2, 1, 0, 2]
    assert user_codes(pl.Series([20, 10, None, 20])).to_list() == [2, 1, 0, 2]
