"""Growing: with new inputs a trained network gives what it gave, learns what they say, and goes on from files."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from _pytest.mark.structures import ParameterSet

from exfm.distillation import AuxiliaryHead, Distillation, StudentAdapter
from exfm.learning import Training
from exfm.networks import DLRM, DCNv2, DeepFM, Network, TwoTower, Wukong
from models.batch import SliceTensors
from models.checkpoint import load_checkpoint, save_checkpoint, save_serving
from models.errors import LearningError
from models.formats import FORMAT_OF_LATE
from models.growth import added_inputs, grown, reads_the_same
from models.learner import Learner
from models.manifest import load_manifest
from models.members import Member
from models.metrics import normalised_entropy
from models.network_spec import NetworkSpec
from models.state import learner_state, load_states, steps_by_weight
from models.trunk_parts import NUMBERS
from tests.models.test_checkpoint import FIELDS
from tests.models.test_golden import golden_slice

TRAINING = Training(batch_size=32, learning_rate=1e-2, seed=3)
NETWORKS: dict[str, Network] = {
    "DCNv2": DCNv2(embedding=4, cross=2, hidden=(8, 4)),
    "DCNv2 with cross_rank": DCNv2(embedding=4, cross=2, cross_rank=2, hidden=(8,)),
    "DCNv2 without crosses": DCNv2(embedding=4, cross=0, hidden=(8,)),
    "DCNv2 with experts": DCNv2(embedding=4, cross=1, hidden=(8,), experts=3),
    "Wukong": Wukong(embedding=4, layers=2, fields=3, rank=2, mixer=8, hidden=(8,)),
    "Wukong with experts": Wukong(embedding=4, layers=1, fields=3, rank=2, mixer=8, hidden=(8,), experts=2),
    "Wukong whose residual is the identity": Wukong(embedding=4, layers=1, fields=1, rank=2, mixer=8, hidden=(8,)),
    "DLRM": DLRM(embedding=4, hidden=(8,)),
    "DeepFM": DeepFM(embedding=4, hidden=(8,)),
    "TwoTower": TwoTower(embedding=4, hidden=(8, 4)),
    "TwoTower of one layer": TwoTower(embedding=4, hidden=(4,)),
}
IDS, HISTORIES = {"user": 31, "item": 23, "surface": 4}, {"items": "item", "surfaces": "surface"}
Inputs = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # ids, numbers, histories
# What was read, and what is read now: among the old ones, before and after them, in another order.
GROWTHS: dict[str, tuple[Inputs, Inputs]] = {
    "an id": ((("user", "item"), ("count",), ()), (("user", "item", "surface"), ("count",), ())),
    "a number": ((("user", "item"), ("count",), ()), (("user", "item"), ("item_age", "count"), ())),
    "the first numbers": ((("user", "item"), (), ()), (("user", "item"), ("count", "item_age"), ())),
    "a history": ((("user", "item"), ("count",), ()), (("user", "item"), ("count",), ("items",))),
    "one more history": (
        (("user", "item", "surface"), ("count",), ("surfaces",)),
        (("user", "item", "surface"), ("count",), ("items", "surfaces")),
    ),
    "all of them, in another order": (
        (("user", "item"), ("count",), ()),
        (("surface", "item", "user"), ("item_age", "count"), ("surfaces", "items")),
    ),
}


def spec(network: Network, inputs: Inputs, distillation: Distillation = None) -> NetworkSpec:
    ids, numbers, histories = inputs
    is_two_sided = isinstance(network, TwoTower)
    return NetworkSpec(
        ids=tuple((name, IDS[name]) for name in ids), numbers=numbers, tasks=("click", "buy"), network=network,
        histories=tuple((name, HISTORIES[name]) for name in histories), item_ids=("item",) if is_two_sided else (),
        item_numbers=("item_age",) if is_two_sided and "item_age" in numbers else (),
        teachers=("large",) if distillation is not None else (),
    )  # fmt: skip


def trained(network: Network, inputs: Inputs, distillation: Distillation = None, slices: int = 2) -> Learner:
    learner = Learner.create(spec(network, inputs, distillation), TRAINING, distillation, "cpu")
    for seed in range(1, slices + 1):
        assert learner.fit(golden_slice(seed), f"slice {seed}").error is None
    return learner


def larger(learner: Learner, inputs: Inputs) -> Learner:
    distillation = learner.members[0].distillation
    return grown(learner, Member(spec(learner.spec.network, inputs, distillation), distillation))


def logits(learner: Learner) -> torch.Tensor:
    return learner.predict(golden_slice(7))


def test_every_family_is_grown_here() -> None:
    assert {type(network) for network in NETWORKS.values()} == set(get_args(Network))


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_what_it_gave_until_it_learns(name: str, growth: str) -> None:
    before, after = GROWTHS[growth]
    old = trained(NETWORKS[name], before)
    new = larger(old, after)
    assert torch.allclose(logits(new), logits(old), rtol=0, atol=2e-6)
    state = learner_state(new)  # also where the new numbers are known: nothing reads them yet
    for statistic, of_rest in (("mean", 0.5), ("squares", 90.0), ("count", 100.0)):
        known = state[f"normalizer.{statistic}"]
        known[[at for at, number in enumerate(after[1]) if number not in before[1]]] = of_rest
    load_states(new, [state], "a test")
    assert torch.allclose(logits(new), logits(old), rtol=0, atol=2e-6)
    assert new.fit(golden_slice(3), "slice 3").error is None
    assert not torch.allclose(logits(new), logits(old), rtol=0, atol=1e-3)


def planted(seed: int, column: str) -> SliceTensors:
    """A slice whose clicks follow from one column alone."""
    rows = golden_slice(seed)
    if column == "item_age":
        is_likely = rows.numbers[:, 1] > 2
    elif column == "surface":
        is_likely = rows.ids[:, 2] == 1
    else:
        lists = rows.histories["surfaces"]
        newest = lists.values[(lists.offsets[1:] - 1).clamp(min=0, max=len(lists.values) - 1)]
        is_likely = (newest == 1) & (lists.offsets[1:] > lists.offsets[:-1])
    draws = torch.rand(len(rows), 2, generator=torch.Generator().manual_seed(seed))
    return replace(rows, labels=(draws < torch.where(is_likely, 0.9, 0.1).unsqueeze(1)).float(), teachers={})


NEW = {
    "surface": (("user", "item", "surface"), (), ()),
    "item_age": (("user", "item"), ("item_age",), ()),
    "surfaces": (("user", "item", "surface"), (), ("surfaces",)),
}


def crossed(names: Iterable[str], kinds: Iterable[str]) -> list[ParameterSet]:
    """Each name with each kind: with one of them, in turn, at each run of the tests, with all in the long ones."""
    later, listed = (pytest.mark.slow, pytest.mark.long), list(kinds)
    return [
        pytest.param(name, kind, marks=() if place % len(listed) == number else later)
        for place, name in enumerate(names)
        for number, kind in enumerate(listed)
    ]


@pytest.mark.parametrize(("name", "column"), crossed(NETWORKS, NEW))
def test_what_a_new_input_says_is_learnt(name: str, column: str) -> None:
    """Weights of zero are where a new input begins, not where it ends: NE falls as far as that of one born with it."""
    inputs = NEW[column]
    without: Inputs = (inputs[0] if column == "surfaces" else ("user", "item"), (), ())
    old = Learner.create(spec(NETWORKS[name], without), TRAINING, None, "cpu")
    born = Learner.create(spec(NETWORKS[name], inputs), TRAINING, None, "cpu")
    for learner in (old, born):
        learner.fit(planted(1, column), "slice 1")
    new = larger(old, inputs)
    for learner in (new, old, born):
        for seed in range(2, 9):
            learner.fit(planted(seed, column), f"slice {seed}")
    judged = planted(20, column)
    ne_new, ne_old, ne_born = (
        normalised_entropy(each.predict(judged)[:, 0].numpy(), judged.labels[:, 0].numpy()) for each in (new, old, born)
    )
    assert ne_old - ne_new > 0.6 * (ne_old - ne_born) > 0.06, (ne_new, ne_old, ne_born)


ADAPTED = AuxiliaryHead(weight=4.0, adapter=StudentAdapter())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_grown_checkpoint_comes_back_and_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    before, after = GROWTHS["all of them, in another order"]
    mine = larger(trained(NETWORKS[name], before, ADAPTED), after)
    mine.fit(golden_slice(3), "slice 3")
    save_checkpoint(tmp_path / "c", mine, **FIELDS, grown_by=["surface"])
    back, manifest = load_checkpoint(tmp_path / "c")
    assert manifest.grown_by == ["surface"] and reads_the_same(manifest.spec, mine.spec)
    is_late = isinstance(NETWORKS[name], Wukong | DeepFM)
    assert ('"format": 3' in (tmp_path / "c" / "manifest.json").read_text()) == is_late and FORMAT_OF_LATE == 3
    for model in (mine, back):
        model.fit(golden_slice(4), "slice 4")
    theirs = learner_state(back)
    assert all(torch.equal(tensor, theirs[each]) for each, tensor in learner_state(mine).items())
    save_serving(tmp_path / "r", mine, load_manifest(tmp_path / "c"))
    assert torch.equal(logits(load_checkpoint(tmp_path / "r")[0]), logits(mine))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_grows_more_than_once(name: str) -> None:
    first, every = GROWTHS["all of them, in another order"]
    once = larger(trained(NETWORKS[name], first), (("user", "item"), ("count", "item_age"), ("items",)))
    once.fit(golden_slice(3), "slice 3")
    twice = larger(once, every)
    assert torch.allclose(logits(twice), logits(once), rtol=0, atol=2e-6)
    assert added_inputs(once.spec, twice.spec) == ["surface", "surfaces"]


def test_what_was_learnt_of_distillation_and_by_optimisers_stays() -> None:
    before, after = GROWTHS["an id"]
    old = trained(NETWORKS["DCNv2"], before, ADAPTED)
    new = larger(old, after)
    then, now = learner_state(old), learner_state(new)
    same = [name for name in then if name.startswith(("bent.", "network.heads.", "adam.network.heads.", "normalizer."))]
    assert same and all(torch.equal(then[name], now[name]) for name in same)
    assert torch.equal(now["table.weight"][:54], then["table.weight"]) and not now["table.accumulator"][54:].any()
    moments = now["adam.network.trunk.layers.layers.0.weight.exp_avg"]
    assert torch.equal(moments[:8], then["adam.network.trunk.layers.layers.0.weight.exp_avg"][:8])
    assert not moments[8:12].any() and moments[12].any()  # the number stands behind the fields
    assert steps_by_weight(now) == steps_by_weight(then)


def test_a_control_begins_as_its_student_does() -> None:
    before, after = GROWTHS["all of them, in another order"]
    student, control = (larger(trained(NETWORKS["DCNv2"], before, each), after) for each in (ADAPTED, None))
    mine, theirs = learner_state(student), learner_state(control)
    assert torch.equal(mine["table.weight"][:4], theirs["table.weight"][:4])  # of the surface, which is new
    for name, tensor in theirs.items():
        if name.startswith("network.attention."):
            assert torch.equal(tensor, mine[name])


def test_members_that_grew_alike_go_on_together() -> None:
    before, after = GROWTHS["the first numbers"]
    pair = [larger(trained(NETWORKS["Wukong"], before, each), after) for each in (ADAPTED, None)]
    together = Learner([each.members[0] for each in pair], TRAINING, "cpu")
    load_states(together, [learner_state(each) for each in pair], "a test")
    for learner in (together, *pair):
        learner.fit(golden_slice(3), "slice 3")
    for member, alone in enumerate(pair):
        assert torch.allclose(together.predict(golden_slice(7), member), logits(alone), rtol=0, atol=1e-4)
    assert {NUMBERS} <= set(together.spec.late)


def test_one_that_has_learnt_nothing_begins_as_if_it_had_always_read_them() -> None:
    before, after = GROWTHS["an id"]
    new = larger(trained(NETWORKS["DeepFM"], before, slices=0), after)
    assert new.spec.late == ()
    assert torch.equal(logits(new), logits(trained(NETWORKS["DeepFM"], after, slices=0)))


def test_an_input_that_is_gone_or_moved_where_it_may_not_is_refused() -> None:
    before, after = GROWTHS["an id"]
    with pytest.raises(LearningError, match="'surface', 4.* is no input any more"):
        larger(trained(NETWORKS["DCNv2"], after), before)
    identity = trained(NETWORKS["Wukong whose residual is the identity"], (("user", "item"), (), ()))
    with pytest.raises(LearningError, match="leave them in their order"):
        larger(identity, (("item", "user"), (), ()))
