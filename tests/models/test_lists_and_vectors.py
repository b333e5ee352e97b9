"""Bags and vectors as fields: pooled as by hand, learnt from by every family, resumed and grown bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exfm.encoding import list_encoding, vector_encoding
from models.batch import SliceTensors
from models.checkpoint import load_checkpoint, save_checkpoint
from models.errors import LearningError
from models.formats import FORMAT
from models.growth import added_inputs, grown
from models.history import Pooled
from models.jagged import Jagged
from models.learner import Learner
from models.manifest import load_manifest
from models.members import Member
from models.metrics import normalised_entropy
from models.network_spec import BagSpec, NetworkSpec, SideSpec, positions_of
from models.state import learner_state
from tests.models.test_checkpoint import FIELDS
from tests.models.test_growth import NETWORKS, TRAINING, crossed

IDS = (("user", 31), ("item", 23))
TAGS = BagSpec(name="tags", of=None, rows=17, pooling="mean")
SEEN = BagSpec(name="seen", of="item", rows=0, pooling="sum")
WORDS = BagSpec(name="words", of=None, rows=19, pooling="attention", target="item")
IMAGE = ("image", 5)
KIND = SideSpec(name="kind", list="words", of=None, rows=7)
WHOSE = SideSpec(name="whose", list="words", of="user", rows=0)


def world(rows: int = 400, seed: int = 0, signal: str = "") -> SliceTensors:
    """Lists of up to three ids, vectors with holes, and labels that follow one of them."""
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 4, (rows,), generator=draws)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])

    def lists() -> Jagged:
        return Jagged(torch.randint(0, 12, (int(offsets[-1]),), generator=draws), offsets)

    bags = {name: lists() for name in ("tags", "seen", "words", "kind", "whose")}
    image = torch.randn(rows, 5, generator=draws) * torch.tensor([1.0, 10.0, 1e6, 1.0, 1.0])
    image[torch.rand(rows, generator=draws) < 0.1] = torch.nan
    numbers = torch.cat([torch.randn(rows, 1, generator=draws), image], dim=1)
    said = torch.zeros(rows)
    if signal == "kind":  # whether a word counts is said beside it
        counts = (bags["words"].values < 6).float() * 2 - 1
        said = torch.zeros(rows).index_add(0, bags["words"].row_of(), counts * (bags["kind"].values < 6)) * 3
    elif signal in bags:
        said = torch.zeros(rows).index_add(0, bags[signal].row_of(), (bags[signal].values < 4).float()) * 3 - 1.5
    elif signal == "image":
        said = 2 * image[:, 1].nan_to_num() / 10
    labels = (torch.rand(rows, 1, generator=draws) < torch.sigmoid(said.unsqueeze(1))).float()
    ids = torch.randint(0, 12, (rows, 2), generator=draws)
    names = ("count", *positions_of(*IMAGE))
    return SliceTensors(ids, numbers, labels, ("user", "item"), names, ("click",), histories=bags)


def spec(name: str, *bags: BagSpec, vectors: tuple[tuple[str, int], ...] = ()) -> NetworkSpec:
    towers = name.startswith("TwoTower")
    item = tuple(each for each in ("item", "tags", "image") if towers)
    known = {"item", *(bag.name for bag in bags), *(vector for vector, _ in vectors)}
    return NetworkSpec(
        ids=IDS, numbers=("count",), tasks=("click",), network=NETWORKS[name], bags=bags, vectors=vectors,
        item_ids=tuple(each for each in item if each in known),
    )  # fmt: skip


def learner(name: str, *bags: BagSpec, vectors: tuple[tuple[str, int], ...] = ()) -> Learner:
    return Learner.create(spec(name, *bags, vectors=vectors), TRAINING, None, "cpu")


@pytest.mark.parametrize("mean", [True, False])
def test_pooling_is_that_of_a_loop(mean: bool) -> None:
    lists = Jagged(torch.arange(5), torch.tensor([0, 2, 2, 5]))
    keys = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    pooled = Pooled(mean)(keys, torch.zeros(2, 3, 3), lists)
    for member in range(2):
        rows = [keys[member, :2], keys[member, 2:2], keys[member, 2:]]
        expected = [(row.mean(0) if mean else row.sum(0)) if len(row) else torch.zeros(3) for row in rows]
        torch.testing.assert_close(pooled[member], torch.stack(expected))


def test_a_shared_bag_reads_its_columns_rows_and_another_its_own() -> None:
    mine = learner("DCNv2", TAGS, SEEN)
    slice_ = world(50)
    mine.fit(slice_, "0")
    before = mine.table.weight.clone()
    assert len(before) == 31 + 23 + 17
    mine.fit(
        replace(slice_, histories={**slice_.histories, "tags": Jagged(torch.tensor([3]).repeat(50), torch.arange(51))}),
        "1",
    )
    moved = (mine.table.weight != before).flatten(1).any(dim=1).nonzero().flatten().tolist()
    of_tags = [row for row in moved if row >= 54]
    assert of_tags == [54 + 3]
    assert {row for row in moved if 31 <= row < 54} <= {31 + value for value in range(12)}


@pytest.mark.parametrize(("name", "signal"), crossed(NETWORKS, ("tags", "seen", "image", "words")))
def test_what_they_say_is_learnt_by_every_family(name: str, signal: str) -> None:
    if name.startswith("TwoTower") and signal == "words":
        pytest.skip("refused where it is declared: attention to the item would join the towers")
    if name == "Wukong whose residual is the identity":
        pytest.skip("a single field out of so many holds too little")
    bags = [bag for bag in (TAGS, SEEN, WORDS) if bag.name == signal]
    mine = learner(name, *bags, vectors=(IMAGE,) if signal == "image" else ())
    for step in range(25):
        mine.fit(world(seed=step + 1, signal=signal), f"{step}")
    new = world(seed=99, signal=signal)
    assert normalised_entropy(mine.predict(new)[:, 0].numpy(), new.labels[:, 0].numpy()) < 0.9


@pytest.mark.parametrize("name", NETWORKS)
def test_they_come_back_from_a_checkpoint_and_go_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    bags = (TAGS, SEEN) if name.startswith("TwoTower") else (TAGS, SEEN, WORDS)
    mine = learner(name, *bags, vectors=(IMAGE,))
    mine.fit(world(seed=1), "1")
    save_checkpoint(tmp_path / "checkpoint", mine, **FIELDS)
    back, manifest = load_checkpoint(tmp_path / "checkpoint")
    assert manifest.spec == mine.spec and '"format": 5' in (tmp_path / "checkpoint" / "manifest.json").read_text()
    assert load_manifest(tmp_path / "checkpoint").spec.bags == bags
    assert torch.equal(back.predict(world(seed=2)), mine.predict(world(seed=2)))
    assert back.fit(world(seed=2), "2").loss == mine.fit(world(seed=2), "2").loss
    for tensor, other in zip(learner_state(back).values(), learner_state(mine).values(), strict=True):
        assert torch.equal(tensor, other)


def with_sides(name: str, *sides: SideSpec) -> NetworkSpec:
    return replace(spec(name, TAGS, WORDS), sides=sides)


def test_what_stands_beside_an_id_is_added_to_it_and_to_the_target_by_hand() -> None:
    mine = Learner.create(with_sides("DCNv2", KIND, WHOSE), TRAINING, None, "cpu")
    sides = mine.networks.sides
    draws = torch.Generator().manual_seed(1)
    keys = [torch.randn(1, length, 4, generator=draws) for length in (5, 3, 3, 3)]
    fields = torch.randn(1, 2, 2, 4, generator=draws)
    made, (_, target) = sides(keys, [fields[:, :, 1], fields[:, :, 1]], fields)
    kind, whose = (each.weight[0] for each in sides.projections.values())
    assert torch.equal(made[0], keys[0]) and len(made) == 2
    torch.testing.assert_close(made[1][0], keys[1][0] + keys[2][0] @ kind + keys[3][0] @ whose)
    torch.testing.assert_close(target[0], fields[0, :, 1] + fields[0, :, 0] @ whose)  # of the impression's own user
    assert mine.spec.fields == ("user", "item", "tags", "words") and len(mine.table.weight) == 31 + 23 + 17 + 19 + 7


@pytest.mark.slow
def test_what_is_said_beside_an_id_is_learnt() -> None:
    """Alone, words and kinds say nothing: of a word it is said beside it whether it counts."""
    losses = {}
    for name, sides in (("with", (KIND,)), ("without", ())):
        mine = Learner.create(with_sides("DCNv2", *sides), TRAINING, None, "cpu")
        for step in range(40):
            mine.fit(world(2_000, seed=step + 1, signal="kind"), f"{step}")
        new = world(4_000, seed=99, signal="kind")
        losses[name] = normalised_entropy(mine.predict(new)[:, 0].numpy(), new.labels[:, 0].numpy())
    assert losses["with"] < losses["without"] - 0.02, losses


def test_sides_come_back_from_a_checkpoint_grow_and_are_aligned(tmp_path: Path) -> None:
    mine = Learner.create(with_sides("DCNv2", KIND), TRAINING, None, "cpu")
    mine.fit(world(seed=1), "1")
    save_checkpoint(tmp_path / "checkpoint", mine, **FIELDS)
    assert f'"format": {FORMAT}' in (tmp_path / "checkpoint" / "manifest.json").read_text()
    back, manifest = load_checkpoint(tmp_path / "checkpoint")
    assert manifest.spec == mine.spec
    assert back.fit(world(seed=2), "2").loss == mine.fit(world(seed=2), "2").loss
    larger = grown(mine, Member(with_sides("DCNv2", KIND, WHOSE), None))
    assert torch.equal(larger.predict(world(seed=5)), mine.predict(world(seed=5)))
    assert added_inputs(mine.spec, larger.spec) == ["whose"] and larger.fit(world(seed=6), "6").error is None
    assert larger.networks.sides.projections["whose"].weight.abs().sum() > 0  # it is learnt from then on
    slice_ = world(seed=7)
    short = Jagged(slice_.histories["kind"].values[1:], slice_.histories["kind"].offsets)
    with pytest.raises(LearningError, match="'kind' does not stand beside each id of 'words': align them"):
        mine.predict(replace(slice_, histories={**slice_.histories, "kind": short}))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "Wukong whose residual is the identity"])
def test_a_trained_network_grows_by_them(name: str) -> None:
    mine = learner(name)
    for step in range(2):
        mine.fit(world(seed=step), f"{step}")
    bags = (TAGS, SEEN) if name.startswith("TwoTower") else (TAGS, SEEN, WORDS)
    larger = grown(mine, Member(spec(name, *bags, vectors=(IMAGE,)), None))
    torch.testing.assert_close(larger.predict(world(seed=5)), mine.predict(world(seed=5)), atol=2e-6, rtol=0)
    assert larger.fit(world(seed=6), "6").error is None
    again = grown(larger, Member(replace(larger.spec, ids=(*IDS, ("more", 7)), late=()), None))
    slice_ = world(seed=7)
    wider = replace(slice_, ids=torch.cat([slice_.ids, slice_.ids[:, :1]], dim=1), id_names=("user", "item", "more"))
    torch.testing.assert_close(again.predict(wider), larger.predict(slice_), atol=2e-6, rtol=0)


def test_huge_values_do_not_blow_a_network_up() -> None:
    mine = learner("DCNv2", vectors=(IMAGE,))
    slice_ = world(seed=1)
    numbers = slice_.numbers.clone()
    numbers[::7, 2] = 3e38
    numbers[::11, 0] = -torch.inf
    assert mine.fit(replace(slice_, numbers=numbers), "0").error is None
    assert bool(mine.predict(replace(slice_, numbers=numbers)).isfinite().all())


def test_an_older_exfm_is_told_by_the_format(tmp_path: Path) -> None:
    """Also where only the encoder has something new: buckets and crosses are plain ids to a network."""
    mine = learner("DCNv2")
    mine.fit(world(seed=1), "1")
    old = {"count": list_encoding("tags", int)}
    save_checkpoint(tmp_path / "old", mine, **{**FIELDS, "encoder": old})
    save_checkpoint(tmp_path / "new", mine, **{**FIELDS, "encoder": {"image": vector_encoding(5)}})
    assert '"format": 2' in (tmp_path / "old" / "manifest.json").read_text()
    assert '"format": 5' in (tmp_path / "new" / "manifest.json").read_text()
    assert np.isfinite(mine.predict(world(seed=2)).numpy()).all()


def test_one_sentinel_does_not_hide_a_number() -> None:
    """999999 for "unknown" in one row of a slice: the signal of the others is learnt as if it were not there."""
    draws = torch.Generator().manual_seed(5)

    def told(slice_: SliceTensors) -> SliceTensors:
        chance = torch.sigmoid(2 * slice_.numbers[:, :1])
        return replace(slice_, labels=(torch.rand(chance.shape, generator=draws) < chance).float())

    losses = {}
    arms = {"clean": (1.0, ("count",)), "cut": (999_999.0, ("count",)), "hidden": (999_999.0, ())}
    for name, (outlier, unbounded) in arms.items():
        mine = Learner.create(replace(spec("DCNv2"), unbounded=unbounded), TRAINING, None, "cpu")
        for step in range(12):
            slice_ = told(world(1_000, seed=step + 1))
            numbers = slice_.numbers.clone()
            if step == 0:
                numbers[3, 0] = outlier
            mine.fit(replace(slice_, numbers=numbers), f"{step}")
        new = told(world(4_000, seed=99))
        losses[name] = normalised_entropy(mine.predict(new)[:, 0].numpy(), new.labels[:, 0].numpy())
    assert losses["clean"] < 0.75 and losses["cut"] < losses["clean"] + 0.03
    assert losses["hidden"] > 0.95  # what a bound is for
