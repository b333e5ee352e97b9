"""Each loss recomputed in float64 by loops, and where gradients may and may not go."""

import math

import pytest
import torch
from torch import Tensor

from models.distillation import Adapter, adapter_loss, masked_bce, scale_gradient, student_loss
from models.network import DCN
from projects.learning import AuxiliaryHead, Distillation, KnowledgeDistillation, StudentAdapter
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


def world(distillation: Distillation) -> tuple[DCN, Tensor]:
    network = DCN(spec(distillation), seed=0)
    return network, torch.randn(5, 1, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_labels_only_and_unknown_labels_left_out() -> None:
    network, hidden = world(None)
    found = student_loss(network, hidden, LABELS, None, None, None)
    assert found.item() == pytest.approx(mean_h(network.serving(hidden), LABELS), rel=1e-6)


def test_tasks_are_summed_and_a_task_without_targets_adds_zero() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    targets = torch.cat([LABELS, torch.full((5, 1), torch.nan), 1 - LABELS], dim=1)
    found = masked_bce(logits, targets)
    by_hand = sum(mean_h(logits[:, t], targets[:, t]) for t in (0, 2))
    assert found.item() == pytest.approx(by_hand, rel=1e-6)
    found.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, 1].any()


def test_knowledge_distillation_is_on_the_served_head() -> None:
    network, hidden = world(KnowledgeDistillation(weight=4.0))
    found = student_loss(network, hidden, LABELS, TEACHER, KnowledgeDistillation(weight=4.0), None)
    served = network.serving(hidden)
    by_hand = mean_h(served, LABELS) + 4 * mean_h(served, TEACHER.sigmoid())
    assert found.item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_auxiliary_head_scales_and_caps_the_teachers_label(alpha: float) -> None:
    declared = AuxiliaryHead(weight=3.0, label_scale=alpha)
    network, hidden = world(declared)
    found = student_loss(network, hidden, LABELS, TEACHER, declared, None)
    targets = (alpha * TEACHER.sigmoid()).clamp(max=1.0)
    assert alpha == 1.0 or float(targets.nan_to_num().max()) == 1.0  # the cap is met
    by_hand = mean_h(network.serving(hidden), LABELS) + 3 * mean_h(network.heads["auxiliary"](hidden), targets)
    assert found.item() == pytest.approx(by_hand, rel=1e-6)


def test_the_adapter_is_fitted_to_labels_and_teaches_its_own_head() -> None:
    network, hidden = world(ADAPTED)
    assert ADAPTED.adapter is not None
    adapter = Adapter(ADAPTED.adapter, seed=0)
    with torch.no_grad():
        adapter.outer.weight.normal_()
    bent = adapter(TEACHER.nan_to_num(0.0)).detach()
    fresh = torch.where(TEACHER.isfinite(), LABELS, torch.nan)
    assert adapter_loss(adapter, TEACHER, LABELS).item() == pytest.approx(mean_h(bent, fresh), rel=1e-6)
    found = student_loss(network, hidden, LABELS, TEACHER, ADAPTED, adapter)
    targets = torch.where(TEACHER.isfinite(), bent.sigmoid(), torch.nan)
    by_hand = mean_h(network.serving(hidden), LABELS) + 3 * mean_h(
        network.heads["auxiliary"](hidden), TEACHER.sigmoid()
    )
    by_hand += 2 * mean_h(network.heads["adapter"](hidden), targets)
    assert found.item() == pytest.approx(by_hand, rel=1e-6)


def test_the_adapter_begins_as_the_teacher() -> None:
    logits = torch.randn(4, 2)
    assert torch.equal(Adapter(StudentAdapter(), seed=0)(logits), logits)


def test_the_students_loss_leaves_the_adapter_alone() -> None:
    network, hidden = world(ADAPTED)
    assert ADAPTED.adapter is not None
    adapter = Adapter(ADAPTED.adapter, seed=0)
    student_loss(network, hidden, LABELS, TEACHER, ADAPTED, adapter).backward()
    assert all(parameter.grad is None for parameter in adapter.parameters())


def gradients(beta: float, labels: Tensor, declared: AuxiliaryHead) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The gradient into the backbone's output, and into each head, for one beta."""
    network, hidden = world(declared)
    scaled = AuxiliaryHead(weight=declared.weight, gradient_scale=beta)
    student_loss(network, hidden, labels, TEACHER, scaled, None).backward()
    assert hidden.grad is not None
    return hidden.grad, {name: p.grad for name, p in network.named_parameters()}


def test_gradient_scaling_multiplies_the_backbones_gradient_and_nothing_else() -> None:
    declared, unknown = AuxiliaryHead(weight=3.0), torch.full((5, 1), torch.nan)
    one, heads = gradients(1.0, unknown, declared)
    assert one.abs().sum() > 0
    quarter, scaled_heads = gradients(0.25, unknown, declared)
    assert torch.equal(quarter, one * 0.25)  # a power of two: exact
    for name in ("heads.auxiliary.weight", "heads.auxiliary.bias"):
        mine, theirs = heads[name], scaled_heads[name]
        assert mine is not None and theirs is not None and torch.equal(mine, theirs)
    x = torch.randn(9)
    assert torch.equal(scale_gradient(x, 0.3), x)


def test_the_label_term_is_not_scaled() -> None:
    silent = AuxiliaryHead(weight=0.0)
    assert torch.equal(gradients(0.25, LABELS, silent)[0], gradients(1.0, LABELS, silent)[0])


def test_no_gradient_of_the_teacher_reaches_the_serving_head() -> None:
    _, with_teacher = gradients(1.0, LABELS, AuxiliaryHead(weight=50.0))
    network, hidden = world(None)
    student_loss(network, hidden, LABELS, None, None, None).backward()
    assert network.serving.weight.grad is not None
    mine = with_teacher["serving.weight"]
    assert mine is not None
    assert torch.equal(mine, network.serving.weight.grad)


def test_a_batch_that_the_teacher_left_out_learns_from_labels() -> None:
    nothing = torch.full((5, 1), torch.nan)
    adapter = Adapter(StudentAdapter(), seed=0)
    for declared in (KnowledgeDistillation(weight=4.0), AuxiliaryHead(weight=4.0), ADAPTED):
        network, hidden = world(declared)
        found = student_loss(network, hidden, LABELS, nothing, declared, adapter)
        assert found.item() == pytest.approx(mean_h(network.serving(hidden), LABELS), rel=1e-6)
    assert adapter_loss(adapter, nothing, LABELS).item() == 0
