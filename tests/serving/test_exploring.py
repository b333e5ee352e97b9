"""The logged probability that a candidate stood where it stands is how often it does, for each candidate and place."""

import numpy as np
import pytest

from serving.exploring import order_of

ROUNDS = 10_000


@pytest.mark.parametrize("scores", [[0.3, 0.9, 0.1], [0.5, 0.5, 0.2, 0.5], [0.1], [float(n) for n in range(7)]])
@pytest.mark.parametrize("exploration", [0.0, 0.05, 0.4, 1.0])
def test_the_propensity_is_how_often_a_candidate_stands_there(scores: list[float], exploration: float) -> None:
    draws, of = np.random.default_rng(1), np.asarray(scores, dtype=np.float32)
    count = len(of)
    stood, logged, drawn = np.zeros((count, count)), np.full((count, count), np.nan), 0
    for _ in range(ROUNDS):
        order = order_of(of, exploration, draws)
        place = np.empty(count, dtype=np.int64)
        place[order.by_place] = np.arange(count)
        assert sorted(order.by_place.tolist()) == list(range(count))
        stood[np.arange(count), place] += 1
        logged[np.arange(count), place] = order.propensity
        drawn += order.is_drawn
    often = stood / ROUNDS
    seen = ~np.isnan(logged)
    error = np.sqrt(logged * (1 - logged) / ROUNDS)
    assert (np.abs(often - logged)[seen] <= 5 * error[seen] + 1e-12).all()
    assert abs(drawn / ROUNDS - exploration) <= 5 * np.sqrt(exploration * (1 - exploration) / ROUNDS)
    # Each candidate stands somewhere: what was never seen is improbable, what was seen sums to 1.
    expected = 1.0 if exploration else float(count)
    assert np.nansum(logged) == pytest.approx(count if exploration else expected)
    if exploration == 0:
        assert (
            set(logged[seen]) == {1.0}
            and np.argmax(often, axis=1).tolist() == np.argsort(np.argsort(-of, kind="stable")).tolist()
        )


def test_what_an_estimate_by_propensity_says_is_what_another_order_would_have_given() -> None:
    """Clicks depend on the place: the mean at the first place of a candidate that never stands there by score."""
    draws, of = np.random.default_rng(2), np.asarray([0.9, 0.5, 0.1], dtype=np.float32)
    worth = {0: 0.2, 1: 0.5, 2: 0.8}
    total = 0.0
    for _ in range(ROUNDS):
        order = order_of(of, 0.3, draws)
        first = int(order.by_place[0])
        if first == 2:
            total += float(draws.random() < worth[2]) / order.propensity[2]
    assert total / ROUNDS == pytest.approx(worth[2], abs=0.05)
