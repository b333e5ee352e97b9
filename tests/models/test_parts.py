"""Table, normaliser, crosses and experts, each against the slow way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from exfm.distillation import AuxiliaryHead, Recalibration
from models.embedding import EmbeddingTable
from models.history import TargetAttention
from models.interactions import CrossNet, GatedExperts, pair_products, pooled_pairs
from models.jagged import Jagged
from models.layers import MLP, LayerNorm
from models.normalizer import Normalizer
from models.recalibration import Recalibrator, isotonic
from models.wukong import WukongLayer
from tests.models.worlds import learner, slice_tensors


def table(members: int = 1) -> EmbeddingTable:
    return EmbeddingTable([5, 7], 3, members, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("members", [1, 3])
def test_row_wise_adagrad_equals_the_dense_recurrence(members: int) -> None:
    mine, draws = table(members), torch.Generator().manual_seed(1)
    weight, state = mine.weight.double(), torch.zeros(12, members, dtype=torch.float64)
    for _ in range(5):
        rows = mine.rows_of(torch.randint(-99, 99, (16, 2), generator=draws))
        pull = torch.randn(16, 2, members, 3, generator=draws)
        touched = mine.touch(rows)
        (functional.embedding(touched.indices[0], touched.values) * pull.flatten(2)).sum().backward()
        mine.update(touched, 0.1)
        gradient = torch.zeros(12, members, 3, dtype=torch.float64)
        for row, values in zip(rows.flatten(), pull.double().flatten(0, 1), strict=True):
            gradient[row] += values
        hit = torch.zeros(12, dtype=torch.bool)
        hit[rows.flatten()] = True
        state[hit] += gradient[hit].square().mean(dim=2)
        weight[hit] -= 0.1 * gradient[hit] / (state[hit].sqrt() + mine.EPS).unsqueeze(2)
    torch.testing.assert_close(mine.weight.double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.accumulator.double(), state, rtol=1e-5, atol=1e-6)


def test_rows_outside_the_batch_keep_their_bits() -> None:
    mine = table()
    before = mine.weight.clone()
    touched = mine.touch(torch.tensor([[1, 6], [1, 8]]))
    touched.values.sum().backward()
    mine.update(touched, 0.1)
    changed = (mine.weight != before).any(dim=2).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 6, 8]


def test_columns_do_not_share_rows_but_a_history_shares_its_columns() -> None:
    mine = table()
    rows = mine.rows_of(torch.tensor([[-1, -1], [4, 6], [5, 7]]))
    assert rows.tolist() == [[4, 11], [4, 11], [0, 5]]
    assert mine.rows_in(1, torch.tensor([-1, 6, 7])).tolist() == [11, 11, 5]
    touched = mine.touch(rows, torch.tensor([11, 0, 11]))
    for requested, position in zip((rows, torch.tensor([11, 0, 11])), touched.indices, strict=True):
        assert torch.equal(mine.lookup(requested), functional.embedding(position, touched.values))
    assert touched.rows.tolist() == [0, 4, 5, 11]


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


def test_a_column_that_no_fit_has_seen_vary_says_nothing() -> None:
    mine = Normalizer(4)
    for rows in (100_001, 7):
        seen = torch.tensor([[1.0, torch.nan, 0.0, 0.1], [3.0, torch.nan, 0.0, 0.1]]).repeat(rows, 1)
        mine.update(seen)  # columns that vary, are not known, are not counted yet, and are a sum with rounding
    new = torch.tensor([[3.0, 150.0, 150.0, 0.2], [1.0, torch.inf, -1.0, 0.1]])
    assert mine.apply_(new).tolist() == [[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]]
    mine.update(torch.tensor([[3.0, 5.0, 1.0, 0.3], [1.0, 7.0, 0.0, 0.1]]))
    assert bool((mine.apply_(torch.tensor([[3.0, 9.0, 9.0, 9.0]])) > 0).all())


def test_missing_becomes_zero_and_outliers_are_clipped() -> None:
    mine = Normalizer(1)
    mine.update(torch.tensor([[1.0], [3.0], [torch.nan]]))
    result = mine.apply_(torch.tensor([[1.0], [3.0], [torch.nan], [1e9], [-torch.inf]]))
    assert result.flatten().tolist() == [-1, 1, 0, 8, -8]


@pytest.mark.parametrize("rank", [None, 2])
def test_a_cross_is_its_recurrence(rank: int | None) -> None:
    net, x = CrossNet(2, width=6, depth=2, rank=rank).double(), torch.randn(2, 4, 6, dtype=torch.float64)
    by_hand = x
    for mix in net.layers:
        by_hand = x * mix(by_hand) + by_hand
    torch.testing.assert_close(net(x), by_hand)


def test_a_rank_that_saves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="4 saves nothing at width 8"):
        CrossNet(1, width=8, depth=1, rank=4)


def test_layers_of_members_are_torchs_own_one_by_one() -> None:
    net, x = MLP(3, 5, (4, 2)), torch.randn(3, 6, 5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    for member in range(3):
        by_hand = x[member]
        for layer in net.layers:
            by_hand = torch.relu(functional.linear(by_hand, layer.weight[member].T, layer.bias[member, 0]))
        torch.testing.assert_close(net(x)[member], by_hand)
    norm = LayerNorm(2, 5)
    with torch.no_grad():
        norm.weight.normal_()
    y = torch.randn(2, 3, 4, 5)
    for member in range(2):
        torch.testing.assert_close(
            norm(y)[member], functional.layer_norm(y[member], (5,), norm.weight[member], norm.bias[member])
        )


def test_gated_experts_mix_each_experts_tower_by_the_tasks_gate() -> None:
    net, many = GatedExperts(2, width=5, hidden=(4, 3), experts=2, tasks=3).double(), torch.randn(2, 6, 5).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    for s, x in enumerate(many):
        towers = []
        for k in range(2):
            own = slice(4 * k, 4 * k + 4)
            first = torch.relu(x @ net.first.weight[s][:, own] + net.first.bias[s][:, own])
            towers.append(torch.relu(first @ net.weights[0][s, k] + net.biases[0][s, k]))
        gates = (x @ net.gate.weight[s] + net.gate.bias[s]).reshape(6, 3, 2).softmax(dim=2)
        by_hand: Tensor = torch.stack([sum(gates[:, t, k, None] * towers[k] for k in range(2)) for t in range(3)], 1)
        torch.testing.assert_close(net(many)[s], by_hand)


def test_a_wukong_layer_is_its_formula() -> None:
    net, x = WukongLayer(1, before=5, fields=3, width=4, rank=2, mixer=6).double(), torch.randn(1, 7, 5, 4).double()
    for row in range(7):
        fields = x[0, row]  # (F, E)
        pairs = fields @ fields.T @ net.project.weight[0]  # (F, F) (F, r)
        mixed = torch.relu(functional.layer_norm(pairs.flatten(), (10,)) @ net.mix.layers[0].weight[0]
                           + net.mix.layers[0].bias[0, 0])  # fmt: skip
        machine = (mixed @ net.spread.weight[0] + net.spread.bias[0, 0]).reshape(3, 4)
        linear = net.compress.weight[0].T @ fields
        kept = net.residual.weight[0].T @ fields
        by_hand = functional.layer_norm(torch.cat([machine, linear]) + kept, (4,))
        torch.testing.assert_close(net(x)[0, row], by_hand)


def test_pairs_are_all_pairs() -> None:
    fields = torch.randn(2, 3, 4, 5)
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    dots = torch.stack([(fields[:, :, a] * fields[:, :, b]).sum(dim=2) for a, b in pairs], dim=2)
    torch.testing.assert_close(pair_products(fields), dots)
    summed = torch.stack([fields[:, :, a] * fields[:, :, b] for a, b in pairs]).sum(dim=0)
    torch.testing.assert_close(pooled_pairs(fields), summed, rtol=1e-4, atol=1e-5)


def lists(lengths: list[int]) -> Jagged:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Jagged(torch.arange(int(offsets[-1])), offsets)


def test_taking_rows_of_lists() -> None:
    mine = lists([2, 0, 3, 1])
    taken = mine.take(torch.tensor([2, 1, 0, 2]))
    assert taken.values.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert taken.offsets.tolist() == [0, 3, 3, 5, 8]
    assert taken.row_of().tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert mine.take(torch.tensor([], dtype=torch.int64)).offsets.tolist() == [0]


@pytest.mark.parametrize("lengths", [[3, 0, 1, 4], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_jagged_attention_equals_a_padded_one(lengths: list[int]) -> None:
    torch.manual_seed(0)
    net, history = TargetAttention(2, 4, 6), lists(lengths)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    keys = torch.randn(2, sum(lengths), 4, requires_grad=True)
    target = torch.randn(2, 4, 4, requires_grad=True)
    result = net(keys, target, history)
    longest = max([1, *lengths])
    padded, mask = torch.zeros(2, 4, longest, 4), torch.zeros(4, longest, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, :length] = True
    padded = padded.masked_scatter(mask.unsqueeze(0).unsqueeze(3).expand_as(padded), keys)
    query = target.unsqueeze(2).expand_as(padded)
    x = torch.cat([padded, query, padded - query, padded * query], dim=3).flatten(1, 2)
    score = net.score(torch.relu(net.first(x))).view(2, 4, longest)
    score = (15 * torch.tanh(score / 15)).masked_fill(~mask, -torch.inf)
    by_hand = (score.softmax(dim=2).nan_to_num(0.0).unsqueeze(3) * padded).sum(dim=2)
    torch.testing.assert_close(result, by_hand)
    if not sum(lengths):
        assert not result.any()
        return
    pull = torch.randn_like(result)
    mine = torch.autograd.grad((result * pull).sum(), [keys, target])
    theirs = torch.autograd.grad((by_hand * pull).sum(), [keys, target])
    for gradient, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_recalibration_is_the_references_fit(kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 1, generator=draws) * 1.5
    labels = torch.bernoulli((0.6 * logits - 1).sigmoid(), generator=draws)
    mine = Recalibrator(Recalibration(kind=kind), 1, "cpu")
    assert torch.equal(mine.apply(logits), logits.double().sigmoid().float())  # nothing remembered: the identity
    mine.remember(logits, labels)
    result = mine.apply(logits).numpy().ravel()
    if kind == "platt":
        reference = LogisticRegression(C=1e9).fit(logits.numpy(), labels.numpy().ravel()).predict_proba(logits)[:, 1]
    else:
        reference = IsotonicRegression(out_of_bounds="clip").fit_transform(logits.numpy().ravel(), labels.ravel())
    assert abs(result - reference).mean() < 0.01  # logits are remembered in bins a tenth wide
    mine.remember(logits, 1 - labels)
    assert mine.counts[0, :, 0].sum().item() == pytest.approx(20_000 * (1 + 0.5 ** (1 / 3)))


def test_a_slice_fades_what_is_remembered_once_whatever_its_parts() -> None:
    recalibrated = AuxiliaryHead(adapter=Recalibration())
    whole, cut = learner(recalibrated), learner(recalibrated)
    for seed in (0, 1):
        told = slice_tensors(seed=seed)
        whole.fit(told, f"{seed}")
        for part, rows in enumerate(torch.arange(len(told)).split(100)):
            cut.fit(replace(told.take(rows), begins=part == 0), f"{seed}/{part}")
    mine, theirs = (model.calibrators.maps[0] for model in (whole, cut))
    assert isinstance(mine, Recalibrator) and isinstance(theirs, Recalibrator)
    torch.testing.assert_close(mine.counts, theirs.counts)
    assert mine.counts[0, :, 0].sum() != 2 * len(told)


def test_isotonic_pools_violators() -> None:
    result = isotonic(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), np.array([1.0, 1.0, 2.0, 1.0, 3.0]))
    reference = IsotonicRegression().fit_transform(np.arange(5), [3, 1, 2, 5, 4], sample_weight=[1, 1, 2, 1, 3])
    assert result.tolist() == pytest.approx(reference.tolist())
