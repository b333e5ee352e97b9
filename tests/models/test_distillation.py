"""Each loss recomputed in float64 by loops, and where gradients may and may not go."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from exfm.distillation import AuxiliaryHead, AuxiliaryTower, Distillation, KnowledgeDistillation, StudentAdapter
from models.adapters import Adapter, FittedAdapter, adapter_loss
from models.distillation import losses, masked_bce, scale_gradient
from models.network import Networks
from models.supervision_pairs import SupervisionPairs
from tests.models.worlds import spec

ADAPTED = AuxiliaryHead(weight=3.0, gradient_scale=0.5, adapter=StudentAdapter(weight=2.0))
LABELS = torch.tensor([[1.0], [0.0], [torch.nan], [0.0], [1.0]])
TEACHER = torch.tensor([[0.5], [-2.0], [1.0], [torch.nan], [-0.3]])


def h(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def mean_h(logits: Tensor, targets: Tensor) -> float:
    """The masked mean of one task, row by row."""
    pairs = zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)
    known = [h(logit, target) for logit, target in pairs if not math.isnan(target)]
    return sum(known) / len(known) if known else 0.0


def world(*members: Distillation) -> tuple[Networks, SupervisionPairs, Tensor]:
    """Networks of some members, one teacher each, on a batch of five rows."""
    specs = [spec(distillation) for distillation in members]
    pairs = SupervisionPairs([network_spec.teachers for network_spec in specs], members, "cpu")
    networks = Networks(len(members), specs[0], 0, pairs.heads, pairs.towers)
    hidden = torch.randn(5, 1, 8, generator=torch.Generator().manual_seed(1)).repeat(len(members), 1, 1, 1)
    return networks, pairs, hidden.requires_grad_()


def loss_of(
    declared: Distillation, teacher: Tensor | None = TEACHER, calibrated: Tensor | None = None
) -> tuple[float, Any]:
    networks, pairs, hidden = world(declared)
    teacher_logits = None if teacher is None else teacher.unsqueeze(0)
    loss = losses(
        networks,
        pairs,
        hidden,
        LABELS.unsqueeze(0),
        teacher_logits,
        None if calibrated is None else calibrated.unsqueeze(0),
    )
    return loss.item(), (networks, hidden)


def head(networks: Networks, kind: str, hidden: Tensor) -> Tensor:
    return networks.heads[kind](hidden)[0]


def test_labels_only_and_unknown_labels_left_out() -> None:
    loss, (networks, hidden) = loss_of(None, None)
    assert loss == pytest.approx(mean_h(networks.serving(hidden)[0], LABELS), rel=1e-6)


def test_tasks_are_summed_and_a_task_without_targets_adds_zero() -> None:
    logits = torch.randn(2, 5, 3, requires_grad=True)
    targets = torch.cat([LABELS, torch.full((5, 1), torch.nan), 1 - LABELS], dim=1).repeat(2, 1, 1)
    loss = masked_bce(logits, targets)
    for member in range(2):
        by_hand = sum(mean_h(logits[member, :, t], targets[member, :, t]) for t in (0, 2))
        assert loss[member].item() == pytest.approx(by_hand, rel=1e-6)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, :, 1].any()


def test_knowledge_distillation_is_on_the_served_head() -> None:
    loss, (networks, hidden) = loss_of(KnowledgeDistillation(weight=4.0))
    served = networks.serving(hidden)[0]
    assert loss == pytest.approx(mean_h(served, LABELS) + 4 * mean_h(served, TEACHER.sigmoid()), rel=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_auxiliary_head_scales_and_caps_the_teachers_label(alpha: float) -> None:
    loss, (networks, hidden) = loss_of(AuxiliaryHead(weight=3.0, label_scale=alpha))
    targets = (alpha * TEACHER.sigmoid()).clamp(max=1.0)
    assert alpha == 1.0 or float(targets.nan_to_num().max()) == 1.0  # the cap is met
    by_hand = mean_h(networks.serving(hidden)[0], LABELS) + 3 * mean_h(head(networks, "auxiliary", hidden), targets)
    assert loss == pytest.approx(by_hand, rel=1e-6)


def test_a_bent_prediction_teaches_its_own_head() -> None:
    calibrated = torch.tensor([[0.7], [0.2], [0.9], [torch.nan], [0.4]])
    loss, (networks, hidden) = loss_of(ADAPTED, calibrated=calibrated)
    by_hand = mean_h(networks.serving(hidden)[0], LABELS)
    by_hand += 3 * mean_h(head(networks, "auxiliary", hidden), TEACHER.sigmoid())
    by_hand += 2 * mean_h(head(networks, "adapter", hidden), calibrated)
    assert loss == pytest.approx(by_hand, rel=1e-6)


def test_an_auxiliary_tower_learns_labels_and_teacher_beside_the_served_head() -> None:
    loss, (networks, hidden) = loss_of(AuxiliaryTower(weight=3.0, gradient_scale=7.0, hidden=6))
    tower = networks.towers["tower_6"](hidden.flatten(1, 2)).unflatten(1, (5, 1))
    assert tower.shape == (1, 5, 1, 6)
    logits = head(networks, "tower_6", tower)
    by_hand = mean_h(networks.serving(hidden)[0], LABELS) + mean_h(logits, LABELS)
    assert loss == pytest.approx(by_hand + 3 * mean_h(logits, TEACHER.sigmoid()), rel=1e-6)


def test_members_losses_are_those_of_each_alone_and_shares_weigh_the_teachers_part() -> None:
    everybody = (None, KnowledgeDistillation(weight=4.0), AuxiliaryHead(weight=3.0), AuxiliaryTower(weight=2.0))
    networks, pairs, hidden = world(*everybody)
    labels, teacher_logits = LABELS.repeat(4, 1, 1), TEACHER.repeat(3, 1, 1)
    whole = losses(networks, pairs, hidden, labels, teacher_logits, None)
    alone = [loss_of(distillation)[0] for distillation in everybody]
    assert whole.tolist() == pytest.approx(alone, rel=1e-6)
    part = losses(networks, pairs, hidden, labels, teacher_logits, None, torch.tensor([0.25, 0.0, 1.0]))
    assert part.tolist() == pytest.approx(
        [alone[0], alone[0] + 0.25 * (alone[1] - alone[0]), alone[0], alone[3]], rel=1e-5
    )


def test_each_of_several_teachers_has_its_own_head() -> None:
    pairs = SupervisionPairs([("large", "other")], [AuxiliaryHead(weight=3.0)], "cpu")
    networks = Networks(1, replace(spec(), teachers=("large", "other")), 0, pairs.heads, pairs.towers)
    hidden = torch.randn(1, 5, 1, 8, generator=torch.Generator().manual_seed(1))
    teacher_logits = torch.stack([TEACHER, TEACHER - 1])
    loss = losses(networks, pairs, hidden, LABELS.unsqueeze(0), teacher_logits, None).item()
    each = [
        mean_h(networks.heads["auxiliary"](hidden.repeat(2, 1, 1, 1))[k], teacher_logits[k].sigmoid()) for k in (0, 1)
    ]
    assert loss == pytest.approx(mean_h(networks.serving(hidden)[0], LABELS) + 3 * sum(each), rel=1e-6)


def test_the_adapter_begins_as_the_teacher_and_learns_from_labels_alone() -> None:
    logits = torch.randn(4, 2)
    assert torch.equal(Adapter(StudentAdapter(), seed=0)(logits), logits)
    adapter = Adapter(StudentAdapter(), seed=0)
    with torch.no_grad():
        adapter.outer.weight.normal_()
    calibrated = adapter(TEACHER.nan_to_num(0.0)).detach()
    fresh = torch.where(TEACHER.isfinite(), LABELS, torch.nan)
    assert adapter_loss(adapter, TEACHER, LABELS).item() == pytest.approx(mean_h(calibrated, fresh), rel=1e-6)


def test_no_gradient_goes_through_what_was_bent() -> None:
    calibrated = torch.full((5, 1), 0.3, requires_grad=True)
    networks, pairs, hidden = world(ADAPTED)
    fitted = FittedAdapter(StudentAdapter(), 0, "cpu")
    losses(networks, pairs, hidden, LABELS[None], TEACHER[None], fitted.step(TEACHER, LABELS, None)[None]).backward()
    assert not fitted.step(TEACHER, LABELS, None).requires_grad
    assert calibrated.grad is None


def test_an_adapter_is_told_staleness_and_surface() -> None:
    adapter = Adapter(StudentAdapter(context=("staleness", "surface")), seed=0)
    context = adapter.context_of(torch.tensor([0.0, torch.nan, 19.1]), torch.tensor([3, -1, 16]))
    assert context.shape == (3, 17)
    assert context[:, 0].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-3)  # log(1 + hours) / 3
    assert context[:, 1:].argmax(dim=1).tolist() == [3, 15, 0]
    with torch.no_grad():
        adapter.outer.weight.fill_(1.0)
    logits = torch.zeros(3, 1)
    assert len(set(adapter(logits, context).flatten().tolist())) == 3


def gradients(beta: float, labels: Tensor, declared: AuxiliaryHead) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The gradient into the backbone's output, and into each head, for one beta."""
    networks, pairs, hidden = world(AuxiliaryHead(weight=declared.weight, gradient_scale=beta))
    losses(networks, pairs, hidden, labels.unsqueeze(0), TEACHER.unsqueeze(0), None).sum().backward()
    assert hidden.grad is not None
    return hidden.grad, {name: p.grad for name, p in networks.named_parameters()}


def test_gradient_scaling_multiplies_the_backbones_gradient_and_nothing_else() -> None:
    declared, unknown = AuxiliaryHead(weight=3.0), torch.full((5, 1), torch.nan)
    whole, heads = gradients(1.0, unknown, declared)
    assert whole.abs().sum() > 0
    quarter, scaled_heads = gradients(0.25, unknown, declared)
    assert torch.equal(quarter, whole * 0.25)  # a power of two: exact
    for name in ("heads.auxiliary.weight", "heads.auxiliary.bias"):
        mine, theirs = heads[name], scaled_heads[name]
        assert mine is not None and theirs is not None and torch.equal(mine, theirs)
    x = torch.randn(1, 3, 1, 3)
    torch.testing.assert_close(scale_gradient(x, torch.full((1, 1, 1, 1), 0.3)), x)


def test_the_label_term_is_not_scaled() -> None:
    silent = AuxiliaryHead(weight=0.0)
    assert torch.equal(gradients(0.25, LABELS, silent)[0], gradients(1.0, LABELS, silent)[0])


@pytest.mark.parametrize("declared", [AuxiliaryHead(weight=50.0), AuxiliaryTower(weight=50.0), ADAPTED], ids=str)
def test_no_gradient_of_the_teacher_reaches_the_serving_head(declared: Distillation) -> None:
    grads = []
    for distillation in (declared, None):
        networks, pairs, hidden = world(distillation)
        teacher_logits, calibrated = (
            (TEACHER[None], TEACHER.sigmoid()[None]) if distillation is not None else (None, None)
        )
        losses(networks, pairs, hidden, LABELS[None], teacher_logits, calibrated).sum().backward()
        grads.append(networks.serving.weight.grad)
    assert grads[0] is not None and grads[1] is not None
    assert torch.equal(grads[0], grads[1])


def test_a_batch_that_the_teacher_left_out_learns_from_labels() -> None:
    nothing = torch.full((5, 1), torch.nan)
    for declared in (KnowledgeDistillation(weight=4.0), AuxiliaryHead(weight=4.0), ADAPTED):
        loss, (networks, hidden) = loss_of(declared, nothing, nothing)
        assert loss == pytest.approx(mean_h(networks.serving(hidden)[0], LABELS), rel=1e-6)
    assert adapter_loss(Adapter(StudentAdapter(), seed=0), nothing, LABELS).item() == 0
