"""Table, normaliser, crosses and experts, each against the slow way."""

import copy

import pytest
import torch
from torch import Tensor

from models.embedding import EmbeddingTable
from models.interactions import CrossNet, GatedExperts
from models.normalizer import Normalizer


def table() -> EmbeddingTable:
    return EmbeddingTable([5, 7], 3, torch.Generator().manual_seed(0))


def test_row_wise_adagrad_equals_the_dense_recurrence() -> None:
    mine, draws = table(), torch.Generator().manual_seed(1)
    weight, state = mine.weight.double(), torch.zeros(12, dtype=torch.float64)
    for _ in range(5):
        rows = mine.rows_of(torch.randint(-99, 99, (16, 2), generator=draws))
        pull = torch.randn(16, 2, 3, generator=draws)
        touched = mine.touch(rows)
        (touched.embedded * pull).sum().backward()
        mine.update(touched, 0.1)
        gradient = torch.zeros(12, 3, dtype=torch.float64)
        for row, values in zip(rows.flatten(), pull.double().flatten(0, 1), strict=True):
            gradient[row] += values
        hit = torch.zeros(12, dtype=torch.bool)
        hit[rows.flatten()] = True
        state[hit] += gradient[hit].square().mean(dim=1)
        weight[hit] -= 0.1 * gradient[hit] / (state[hit].sqrt() + mine.EPS).unsqueeze(1)
    torch.testing.assert_close(mine.weight.double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.accumulator.double(), state, rtol=1e-5, atol=1e-6)


def test_rows_outside_the_batch_keep_their_bits() -> None:
    mine = table()
    before = mine.weight.clone()
    touched = mine.touch(torch.tensor([[1, 6], [1, 8]]))
    touched.embedded.sum().backward()
    mine.update(touched, 0.1)
    changed = (mine.weight != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 6, 8]


def test_columns_do_not_share_rows_and_scoring_reads_what_training_does() -> None:
    mine = table()
    rows = mine.rows_of(torch.tensor([[-1, -1], [4, 6], [5, 7]]))
    assert rows.tolist() == [[4, 11], [4, 11], [0, 5]]
    assert torch.equal(mine.lookup(rows), mine.touch(rows).embedded)


def test_statistics_over_slices_are_those_of_all_rows_at_once() -> None:
    numbers = torch.randn(1000, 2, dtype=torch.float64) * torch.tensor([3.0, 0.01]) + torch.tensor([1e4, 0.5])
    numbers = numbers.float()
    numbers[::7, 0] = torch.nan
    merged = Normalizer(2)
    for part in numbers.split([1, 399, 0, 600]):
        merged.update(part)
    known = numbers[:, 0].isfinite()
    for column, values in ((0, numbers[known, 0].double()), (1, numbers[:, 1].double())):
        assert merged.mean[column].item() == pytest.approx(values.mean().item(), rel=1e-12)
        variance = (merged.squares / merged.count)[column].item()
        assert variance == pytest.approx(values.var(correction=0).item(), rel=1e-9)


def test_missing_becomes_zero_and_outliers_are_clipped() -> None:
    mine = Normalizer(1)
    mine.update(torch.tensor([[1.0], [3.0], [torch.nan]]))
    found = mine.apply_(torch.tensor([[1.0], [3.0], [torch.nan], [1e9], [-torch.inf]]))
    assert found.flatten().tolist() == [-1, 1, 0, 8, -8]


@pytest.mark.parametrize("rank", [None, 2])
def test_a_cross_is_its_recurrence(rank: int | None) -> None:
    net, x = CrossNet(width=6, depth=2, rank=rank).double(), torch.randn(4, 6, dtype=torch.float64)
    by_hand = x
    for mix in net.layers:
        by_hand = x * mix(by_hand) + by_hand
    torch.testing.assert_close(net(x), by_hand)


def test_a_rank_that_saves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="4 saves nothing at width 8"):
        CrossNet(width=8, depth=1, rank=4)


def test_gated_experts_mix_each_experts_tower_by_the_tasks_gate() -> None:
    net, x = GatedExperts(width=5, hidden=(4, 3), experts=2, tasks=3).double(), torch.randn(6, 5, dtype=torch.float64)
    towers = []
    for k in range(2):
        first = torch.relu(x @ net.first.weight[4 * k : 4 * k + 4].T + net.first.bias[4 * k : 4 * k + 4])
        towers.append(torch.relu(first @ net.weights[0][k] + net.biases[0][k]))
    gates = net.gate(x).reshape(6, 3, 2).softmax(dim=2)
    by_hand: Tensor = torch.stack([sum(gates[:, t, k, None] * towers[k] for k in range(2)) for t in range(3)], dim=1)
    torch.testing.assert_close(net(x), by_hand)
    copied = copy.deepcopy(net)
    assert torch.equal(copied(x), net(x))
