"""Members of one learner: each is what it would be alone; families and histories learn, resume and score."""

import shutil
from dataclasses import replace

import pytest
import torch

from exfm.distillation import (
    AuxiliaryHead,
    AuxiliaryTower,
    Distillation,
    KnowledgeDistillation,
    Recalibration,
    StudentAdapter,
)
from exfm.networks import DLRM, DCNv2, DeepFM, Network, TwoTower, Wukong
from models.batch import SliceTensors
from models.errors import CheckpointError, LearningError
from models.jagged import Jagged
from models.learner import Learner
from models.members import LARGEST_BLOCK, Member, abreast
from models.metrics import normalised_entropy
from models.state import learner_state, load_states, serving_state, steps_by_weight
from tests.models.worlds import TRAINING, learner, slice_tensors, spec

EVERY: tuple[Distillation, ...] = (
    None,
    KnowledgeDistillation(weight=2.0),
    AuxiliaryHead(weight=4.0, gradient_scale=0.5),
    AuxiliaryHead(weight=4.0, adapter=StudentAdapter(context=("staleness",))),
    AuxiliaryHead(weight=1.0, adapter=Recalibration(kind="isotonic")),
    AuxiliaryTower(weight=4.0, hidden=6),
    AuxiliaryTower(weight=4.0, hidden=7),
)
FAMILIES: tuple[Network, ...] = (
    DCNv2(embedding=4, cross=1, hidden=(8,)),
    DCNv2(embedding=4, cross=2, cross_rank=2, hidden=(8, 4), experts=2),
    Wukong(embedding=4, layers=2, fields=3, rank=2, mixer=8, hidden=(8,)),
    DLRM(embedding=4, hidden=(8,)),
    DeepFM(embedding=4, hidden=(8,)),
    TwoTower(embedding=4, hidden=(8, 4)),
)
HISTORIES = (("past", "item"),)


def with_history(plain: SliceTensors, seed: int = 0) -> SliceTensors:
    """Lists of up to five items before each row, and some hours of staleness."""
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 6, (len(plain),), generator=draws)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    items = plain.ids[:, 1] if len(plain) else torch.zeros(1, dtype=torch.int64)
    values = items[torch.randint(0, max(len(plain), 1), (int(offsets[-1]),), generator=draws)]
    hours = torch.rand(len(plain), generator=draws) * 24
    return replace(plain, histories={"past": Jagged(values, offsets)}, staleness={"large": hours})


def member(distillation: Distillation, network: Network = FAMILIES[0]) -> Member:
    sides = {"item_ids": ("item",)} if isinstance(network, TwoTower) else {}
    return Member(spec(distillation, network=network, histories=HISTORIES, **sides), distillation)


@pytest.mark.parametrize("batch", [1, 512, 4_096, 60_000, 2**22])
@pytest.mark.parametrize("members", [1, 2, 5, 8, 17])
def test_passes_are_few_even_and_small_enough(members: int, batch: int) -> None:
    network_spec = spec(None, network=replace(FAMILIES[0], hidden=(128, 64)))
    passes = abreast(range(members), network_spec, batch, "cpu")
    sizes = [len(part) for part in passes]
    assert [index for part in passes for index in part] == list(range(members))
    assert max(sizes) - min(sizes) <= 1
    width = 4 * batch * 128
    assert max(sizes) == 1 or max(sizes) * width <= LARGEST_BLOCK
    assert len(passes) == 1 or -(-members // (len(passes) - 1)) * width > LARGEST_BLOCK or max(sizes) == 1
    assert abreast(range(members), network_spec, batch, "cuda") == [list(range(members))]


@pytest.mark.parametrize("network", FAMILIES, ids=lambda n: type(n).__name__)
def test_beside_others_a_member_is_what_it_is_alone(network: Network) -> None:
    members = [member(distillation, network) for distillation in EVERY]
    together = Learner(members, TRAINING, "cpu")
    alone = [Learner([single], TRAINING, "cpu") for single in members]
    shares = [{"large": 0.5 + index / 20} for index in range(len(members))]
    for seed in (1, 2):
        shared = with_history(slice_tensors(seed=seed), seed)
        report = together.fit(shared, str(seed), shares)
        for index, model in enumerate(alone):
            assert model.fit(shared, str(seed), [shares[index]]).of(0).loss == pytest.approx(
                report.losses[index], rel=1e-6
            )
    scores = together.predict_all(with_history(slice_tensors(seed=3)))
    for index, model in enumerate(alone):
        mine, theirs = learner_state(together, index), learner_state(model)
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5, msg=name)
        torch.testing.assert_close(
            scores[index], model.predict(with_history(slice_tensors(seed=3))), rtol=1e-4, atol=1e-5
        )


def test_members_part_and_meet_again() -> None:
    members = [member(distillation) for distillation in EVERY[:4]]
    straight, first = (Learner(members, TRAINING, "cpu") for _ in range(2))
    for model in (straight, first):
        model.fit(with_history(slice_tensors(seed=1)), "a")
    states = [learner_state(first, index) for index in (2, 0)]
    fewer = Learner([members[2], members[0]], TRAINING, "cpu")
    load_states(fewer, states, "here")
    for model in (straight, fewer):
        model.fit(with_history(slice_tensors(seed=2)), "b")
    for mine, index in ((0, 2), (1, 0)):
        theirs = learner_state(straight, index)
        for name, tensor in learner_state(fewer, mine).items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


def test_members_of_other_tasks_learn_their_own_labels() -> None:
    both = slice_tensors(tasks=("click", "buy"))
    together = Learner([Member(spec(tasks=(task,))) for task in ("click", "buy")], TRAINING, "cpu")
    report = together.fit(both, "a")
    for index, task in enumerate(("click", "buy")):
        alone = learner(tasks=(task,))
        assert alone.fit(both, "a").labelled[0] == report.labelled[index]
        torch.testing.assert_close(alone.predict(both), together.predict(both, index), rtol=1e-4, atol=1e-5)


def test_members_of_other_shapes_or_steps_are_refused() -> None:
    with pytest.raises(LearningError, match="differ in their inputs or network"):
        Learner([member(None), member(None, FAMILIES[3])], TRAINING, "cpu")
    ahead, behind = (Learner([member(None)], TRAINING, "cpu") for _ in range(2))
    ahead.fit(with_history(slice_tensors()), "a")
    ahead.fit(with_history(slice_tensors()), "b")
    behind.fit(with_history(slice_tensors()), "a")
    states = [learner_state(ahead), learner_state(behind)]
    steps = [set(steps_by_weight(state).values()) for state in states]
    assert steps == [{2 * taken} for taken in steps[1]] + [steps[1]] and 0 not in steps[1]
    with pytest.raises(CheckpointError, match="other numbers of steps"):
        load_states(Learner([member(None)] * 2, TRAINING, "cpu"), states, "here")


def test_a_share_of_nothing_is_the_control() -> None:
    students = [member(distillation) for distillation in EVERY[1:]]
    together = Learner([member(None), *students], TRAINING, "cpu")
    together.fit(with_history(slice_tensors()), "a", [{}, *[{"large": 0.0}] * len(students)])
    control = serving_state(together, 0)
    for index in range(1, len(students) + 1):
        mine = serving_state(together, index)
        for name, tensor in control.items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("network", FAMILIES, ids=lambda n: type(n).__name__)
def test_every_family_learns_a_planted_signal_and_resumes(network: Network) -> None:
    draws = torch.Generator().manual_seed(0)
    users, items = torch.randint(40, (16_000,), generator=draws), torch.randint(20, (16_000,), generator=draws)
    taste, appeal = torch.randn(40, 3, generator=draws), torch.randn(20, 3, generator=draws)
    truth = 1.2 * (taste[users] * appeal[items]).sum(dim=1) - 1
    offsets = torch.arange(16_001)  # a history of one item: the same one
    world = SliceTensors(
        torch.stack([users, items], dim=1), torch.randn(16_000, 1, generator=draws),
        torch.bernoulli(truth.sigmoid(), generator=draws).unsqueeze(1), ("user", "item"), ("count",), ("click",),
        histories={"past": Jagged(items, offsets)},
    )  # fmt: skip
    mine = Learner([member(None, network)], replace(TRAINING, batch_size=64, learning_rate=3e-3), "cpu")
    old, new = world.take(torch.arange(14_000)), world.take(torch.arange(14_000, 16_000))
    for order in "abc":
        mine.fit(old, order)
    assert normalised_entropy(mine.predict(new).numpy().ravel(), new.labels.numpy().ravel()) < 0.9
    back = Learner([member(None, network)], mine.training, "cpu")
    load_states(back, [learner_state(mine)], "here")
    for model in (mine, back):
        model.fit(new, "b")
    assert torch.equal(mine.predict(new), back.predict(new))


def test_two_towers_are_an_inner_product_of_their_own_sides() -> None:
    mine = Learner([member(None, FAMILIES[5])], TRAINING, "cpu")
    mine.fit(with_history(slice_tensors()), "a")
    trunk = mine.networks.trunk
    fields, numbers = torch.randn(1, 9, 3, 4), torch.randn(1, 9, 1)
    request, item = trunk.sides(fields, numbers)
    other = fields.clone()
    other[:, :, 1] = 0  # the item's embedding
    assert torch.equal(trunk.sides(other, numbers)[0], request)
    other = fields.clone()
    other[:, :, 0] = 0
    assert torch.equal(trunk.sides(other, numbers + 1)[1], item)
    head = mine.networks.serving
    torch.testing.assert_close(
        head(trunk(fields, numbers))[0, :, 0], (request * head.weight[:, 0] * item).sum(dim=2)[0] + head.bias[0, 0]
    )


def test_a_missing_history_or_teacher_is_named() -> None:
    with pytest.raises(LearningError, match="history 'past' is missing"):
        Learner([member(None)], TRAINING, "cpu").fit(slice_tensors(), "a")
    with pytest.raises(LearningError, match="no logits of teacher 'large'"):
        Learner([member(EVERY[1])], TRAINING, "cpu").fit(replace(with_history(slice_tensors()), teachers={}), "a")


@pytest.mark.parametrize(
    "change",
    [
        {"deterministic": True},
        pytest.param({"compile": True}, marks=pytest.mark.slow),
        pytest.param(
            {"compile": True, "cuda_graphs": True}, marks=[pytest.mark.slow, pytest.mark.long]
        ),  # a GPU's; a CPU ignores it
    ],
    ids=str,
)
def test_compiled_and_deterministic_networks_learn_alike(change: dict[str, bool]) -> None:
    if "compile" in change and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile on a CPU needs a C++ compiler")
    plain, other = learner(), learner(training=replace(TRAINING, **change))  # type: ignore[arg-type]
    for model in (plain, other):
        model.fit(slice_tensors(), "a")
    torch.testing.assert_close(other.predict(slice_tensors()), plain.predict(slice_tensors()), rtol=1e-4, atol=1e-5)


def test_cuda_graphs_are_asked_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda networks, **how: calls.append(how) or networks)
    for change in ({}, {"compile": True}, {"compile": True, "cuda_graphs": True}):
        learner(training=replace(TRAINING, **change))
    assert [how["mode"] for how in calls] == [None, "reduce-overhead"]


@pytest.mark.parametrize("network", FAMILIES, ids=lambda n: type(n).__name__)
def test_an_empty_slice_one_class_and_ids_never_seen_each_have_a_clear_outcome(network: Network) -> None:
    mine = Learner([member(EVERY[2], network), member(None, network)], TRAINING, "cpu")
    empty = with_history(slice_tensors(0))
    assert mine.fit(empty, "a").steps == 0
    assert mine.predict_all(empty).shape == (2, 0, 1)
    alike = with_history(slice_tensors())
    report = mine.fit(replace(alike, labels=torch.zeros_like(alike.labels)), "b")
    assert all(loss is not None for loss in report.losses)
    new = with_history(slice_tensors(seed=9))
    scores = mine.predict_all(replace(new, ids=new.ids + 12345))
    assert scores.isfinite().all()
    assert (scores.sigmoid() < 0.5).all()  # a slice of one class has taught that class


def test_a_member_whose_loss_is_no_number_is_named_and_touches_no_other() -> None:
    distillations = (KnowledgeDistillation(weight=2.0), AuxiliaryHead(weight=4.0))
    together = Learner([member(distillation) for distillation in distillations], TRAINING, "cpu")
    alone = Learner([member(distillations[1])], TRAINING, "cpu")
    load_states(alone, [learner_state(together, 1)], "alone")
    with torch.no_grad():
        together.networks.serving.weight[0] = torch.nan
    slice_ = with_history(slice_tensors())
    report = together.fit(slice_, "s")
    alone.fit(slice_, "s")
    assert "mean loss is nan" in (report.of(0).error or "") and report.of(1).error is None
    assert torch.allclose(together.predict(slice_, 1), alone.predict(slice_), atol=1e-5)
    with torch.no_grad():
        together.networks.serving.weight[1] = torch.nan
    with pytest.raises(LearningError, match="mean losses are"):
        together.fit(slice_, "t")
