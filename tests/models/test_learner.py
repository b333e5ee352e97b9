"""The learner: twins, resuming, determinism, what it refuses, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch

from exfm.distillation import AuxiliaryHead, Distillation, KnowledgeDistillation, StudentAdapter
from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.errors import LearningError
from models.learner import Learner
from models.metrics import normalised_entropy
from models.state import learner_state, load_states, serving_state
from tests.models.worlds import TRAINING, learner, slice_tensors

EVERY = (
    None,
    KnowledgeDistillation(weight=2.0),
    AuxiliaryHead(weight=4.0),
    AuxiliaryHead(weight=4.0, gradient_scale=0.5, adapter=StudentAdapter()),
)
ids = ["labels only", "kd", "auxiliary head", "student adapter"]


def same(model: Learner, other: Learner) -> bool:
    mine, theirs = learner_state(model), learner_state(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("distillation", EVERY[1:], ids=ids[1:])
def test_a_student_and_its_control_begin_with_the_same_bits(distillation: Distillation) -> None:
    student, control = serving_state(learner(distillation)), serving_state(learner(None))
    assert student.keys() == control.keys()
    assert all(torch.equal(student[name], control[name]) for name in student)
    other = serving_state(learner(None, training=replace(TRAINING, seed=4)))
    assert not torch.equal(other["table.weight"], control["table.weight"])


def test_what_serves_holds_nothing_of_distillation() -> None:
    student = learner(EVERY[3])
    student.fit(slice_tensors(), "a")
    assert not [n for n in serving_state(student) if any(w in n for w in ("heads", "adapter", "adam", "accumulator"))]


@pytest.mark.parametrize("distillation", EVERY, ids=ids)
def test_resuming_is_as_if_it_never_stopped(distillation: Distillation) -> None:
    straight = learner(distillation)
    straight.fit(slice_tensors(seed=1), "a")
    stopped = learner(distillation)
    load_states(stopped, [{name: tensor.clone() for name, tensor in learner_state(straight).items()}], "here")
    assert same(straight, stopped)
    assert straight.fit(slice_tensors(seed=2), "b").loss == stopped.fit(slice_tensors(seed=2), "b").loss
    assert same(straight, stopped)


def test_the_same_seeds_give_the_same_bits_whatever_was_drawn_before() -> None:
    first = learner(EVERY[3])
    first.fit(slice_tensors(), "a")
    torch.manual_seed(99)
    torch.rand(5)
    other = learner(EVERY[3])
    other.fit(slice_tensors(), "a")
    assert same(first, other)
    third = learner(EVERY[3])
    third.fit(slice_tensors(), "another order")
    assert not same(first, third)


def test_scoring_changes_nothing_and_reads_no_label() -> None:
    mine = learner(EVERY[2])
    mine.fit(slice_tensors(), "a")
    before = {name: tensor.clone() for name, tensor in learner_state(mine).items()}
    new = slice_tensors(seed=5)
    numbers = new.numbers.clone()
    scores = mine.predict(new)
    assert scores.shape == (300, 1)
    assert scores.dtype == torch.float32
    blind = replace(new, labels=torch.full_like(new.labels, torch.nan), teachers={})
    assert torch.equal(mine.predict(blind), scores)
    torch.testing.assert_close(mine.predict(new.take(torch.arange(7))), scores[:7])
    assert torch.equal(new.numbers.nan_to_num(9), numbers.nan_to_num(9))
    assert all(torch.equal(before[name], tensor) for name, tensor in learner_state(mine).items())


def test_fitting_leaves_the_slice_as_it_was() -> None:
    mine, shared = learner(EVERY[2]), slice_tensors()
    before = {name: getattr(shared, name).clone() for name in ("ids", "numbers", "labels")}
    mine.fit(shared, "a")
    assert all(torch.equal(getattr(shared, n).nan_to_num(9), t.nan_to_num(9)) for n, t in before.items())


def test_columns_are_found_by_name() -> None:
    plain = slice_tensors()
    turned = SliceTensors(
        plain.ids.flip(1), plain.numbers, plain.labels, ("item", "user"), ("count",), ("click",), plain.teachers
    )
    assert torch.equal(learner().predict(plain), learner().predict(turned))
    with pytest.raises(LearningError, match="id 'user' is not among"):
        learner().predict(SliceTensors(plain.ids, plain.numbers, plain.labels, ("a", "b"), ("count",), ("click",)))


@pytest.mark.parametrize("rows", [0, 5])
def test_without_a_known_label_no_step_is_taken(rows: int) -> None:
    mine, untouched = learner(EVERY[3]), learner(EVERY[3])
    empty = slice_tensors(rows)
    report = mine.fit(replace(empty, labels=torch.full_like(empty.labels, torch.nan)), "a")
    assert (report.steps, report.rows, report.loss) == (0, 0, None)
    assert same(mine, untouched)
    assert mine.predict(slice_tensors(0)).shape == (0, 1)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    mine = learner()
    with torch.no_grad():
        mine.networks.serving.weight.fill_(torch.nan)
    with pytest.raises(LearningError, match="losses are .nan."):
        mine.fit(slice_tensors(), "a")


def test_every_head_begins_at_the_base_rate_once() -> None:
    still = replace(TRAINING, learning_rate=1e-12, table_learning_rate=1e-12)
    mine, first, later = learner(EVERY[3], training=still), slice_tensors(seed=1), slice_tensors(seed=2)
    mine.fit(first, "a")
    expected = torch.logit(first.labels.nanmean()).item()
    mine.fit(later, "b")
    for head in ("serving", "heads.auxiliary.large", "heads.adapter.large"):
        assert learner_state(mine)[f"network.{head}.bias"].item() == pytest.approx(expected, abs=1e-6)
    assert expected != pytest.approx(torch.logit(later.labels.nanmean()).item(), abs=1e-3)


def test_a_planted_signal_is_learnt_and_scored_on_new_rows() -> None:
    draws = torch.Generator().manual_seed(0)
    users, items = torch.randint(50, (12_000,), generator=draws), torch.randint(20, (12_000,), generator=draws)
    taste, appeal = torch.randn(50, generator=draws), torch.randn(20, generator=draws)
    truth = 1.5 * taste[users] * appeal[items] + taste[users] - 1
    world = SliceTensors(
        torch.stack([users, items], dim=1), torch.zeros(12_000, 1),
        torch.bernoulli(truth.sigmoid(), generator=draws).unsqueeze(1), ("user", "item"), ("count",), ("click",),
    )  # fmt: skip
    mine = learner(training=Training(batch_size=64, seed=0))
    old, new = world.take(torch.arange(10_000)), world.take(torch.arange(10_000, 12_000))
    mine.fit(old, "a")
    assert normalised_entropy(mine.predict(new).numpy().ravel(), new.labels.numpy().ravel()) < 0.9


def test_a_teacher_of_several_tasks_with_experts_resumes_and_scores_each() -> None:
    both = slice_tensors(tasks=("click", "buy"))
    teacher = learner(
        tasks=("click", "buy"), network=DCNv2(embedding=4, experts=3, hidden=(8, 4), cross=2, cross_rank=2)
    )
    report = teacher.fit(both, "a")
    assert report.loss is not None and math.isfinite(report.loss)
    scores = teacher.predict(both)
    assert scores.shape == (300, 2)
    assert not torch.equal(scores[:, 0], scores[:, 1])


def test_bf16_stays_near_fp32() -> None:
    full = learner()
    half = learner(training=replace(TRAINING, precision="bf16"))
    for mine in (full, half):
        mine.fit(slice_tensors(), "a")
    assert not torch.equal(full.predict(slice_tensors()), half.predict(slice_tensors()))
    torch.testing.assert_close(half.predict(slice_tensors()), full.predict(slice_tensors()), atol=0.05, rtol=0)


def test_a_student_whose_teacher_left_no_logits_at_all_is_refused() -> None:
    with pytest.raises(LearningError, match="has no logits of teacher"):
        learner(KnowledgeDistillation()).fit(replace(slice_tensors(), teachers={}), "a")
