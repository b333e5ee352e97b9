"""Running quantiles: ranges against NumPy and loops, kept in checkpoints, grown into, learnt from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.checkpoint import load_checkpoint, save_checkpoint
from models.errors import LearningError
from models.formats import FORMAT
from models.growth import added_inputs, grown
from models.learner import Learner
from models.members import Member
from models.metrics import normalised_entropy
from models.network_spec import NetworkSpec
from models.quantiles import Quantiles
from models.state import learner_state
from tests.models.test_checkpoint import FIELDS

K = 5
PLAIN = NetworkSpec(ids=(("user", 31),), numbers=("age",), tasks=("click",), network=DCNv2(embedding=4, hidden=(8,)))
RANKED = replace(PLAIN, ids=(("age_rank", K + 1), ("user", 31)), quantiles=(("age_rank", K),))
TRAINING = Training(batch_size=64, seed=3)


def world(rows: int = 2000, seed: int = 0, shift: float = 0.0) -> SliceTensors:
    """Ages with holes; only those between the middle quintiles click."""
    draws = np.random.default_rng(seed)
    ages = (draws.lognormal(3, 1, rows) + shift).astype(np.float32)
    place = (ages - shift).argsort().argsort() / rows
    labels = draws.random(rows) < np.where((place > 0.4) & (place < 0.6), 0.8, 0.1)
    ages[draws.random(rows) < 0.1] = np.nan
    return SliceTensors(
        ids=torch.from_numpy(draws.integers(0, 2**40, (rows, 1))),
        numbers=torch.from_numpy(np.stack([ages, ages], axis=1)),
        labels=torch.from_numpy(labels.astype(np.float32))[:, None],
        id_names=("user",), number_names=("age", "age_rank"), task_names=("click",),
    )  # fmt: skip


def learner(spec: NetworkSpec = RANKED) -> Learner:
    return Learner.create(spec, TRAINING, None, "cpu")


def test_ranges_are_those_of_the_slices_quantiles() -> None:
    quantiles, slice_ = Quantiles((("age_rank", K),)), world()
    assert quantiles.ids(slice_).unique().tolist() == [K]  # nothing is known yet
    slice_.labels[:50] = torch.nan  # such a row is not learnt from
    quantiles.update(slice_)
    ages = slice_.numbers[:, 1].numpy().astype(np.float64)
    edges = np.nanquantile(ages[50:], np.arange(1, K) / K)
    np.testing.assert_allclose(quantiles.edges["age_rank"].numpy(), edges)
    by_hand = [K if np.isnan(age) else sum(age >= edge for edge in edges) for age in ages]
    assert quantiles.ids(slice_)[:, 0].tolist() == by_hand
    counts = np.bincount(by_hand)
    assert counts[:K].min() > 0.9 * counts[:K].max()


def test_they_follow_the_stream_and_ties_share_a_range() -> None:
    quantiles, seen = Quantiles((("age_rank", K),)), []
    for number in range(40):
        quantiles.update(world(seed=number, shift=100.0 if number >= 5 else 0.0))
        seen.append(float(quantiles.edges["age_rank"][0]))
    assert seen[4] == pytest.approx(np.mean(seen[:5]), abs=1) and seen[4] < 20
    assert seen[0] < seen[10] < seen[39] and seen[39] > 80
    tied = world()
    tied.numbers[:] = 7.0
    ranks = Quantiles((("age_rank", K),))
    ranks.update(tied)
    assert ranks.ids(tied).unique().tolist() == [K - 1]  # all edges are 7
    few = world(rows=3)
    before = quantiles.edges["age_rank"].clone()
    quantiles.update(few)  # too few to say anything
    assert torch.equal(quantiles.edges["age_rank"], before)


def test_what_is_not_smooth_is_learnt_from_them() -> None:
    judged, found = world(8000, seed=99), {}
    for name, spec in (("plain", PLAIN), ("ranked", RANKED)):
        model = learner(spec)
        for number in range(6):
            model.fit(world(4000, seed=number), f"{number}")
        found[name] = normalised_entropy(model.predict(judged)[:, 0].numpy(), judged.labels[:, 0].numpy())
    assert found["ranked"] < found["plain"] - 0.03


def test_a_checkpoint_keeps_them_and_a_resumed_learner_goes_on_bit_for_bit(tmp_path: Path) -> None:
    through, stopped = learner(), learner()
    for each in (through, stopped):
        each.fit(world(seed=1), "1")
    save_checkpoint(tmp_path / "full", stopped, **FIELDS)
    assert json.loads((tmp_path / "full" / "manifest.json").read_text())["format"] == FORMAT
    resumed, _ = load_checkpoint(tmp_path / "full", "cpu")
    for each in (through, resumed):
        each.fit(world(seed=2, shift=3.0), "2")
    mine, other = learner_state(through), learner_state(resumed)
    assert mine.keys() == other.keys() and {"quantiles.age_rank.edges", "quantiles.age_rank.seen"} <= mine.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert torch.equal(through.predict(world(seed=3)), resumed.predict(world(seed=3)))


def test_a_learner_that_grows_by_one_begins_as_it_was() -> None:
    small = learner(PLAIN)
    small.fit(world(seed=1), "1")
    assert added_inputs(PLAIN, RANKED) == ["age_rank"]
    large = grown(small, Member(RANKED, None))
    torch.testing.assert_close(large.predict(world(seed=3)), small.predict(world(seed=3)), atol=2e-5, rtol=1e-4)
    large.fit(world(seed=2), "2")
    larger = grown(large, Member(replace(RANKED, ids=(*RANKED.ids, ("item", 11))), None))
    assert torch.equal(larger.quantiles.edges["age_rank"], large.quantiles.edges["age_rank"])
    with pytest.raises(LearningError, match=r"age_rank.* is no input any more"):
        grown(large, Member(replace(RANKED, quantiles=(("age_rank", K - 1),)), None))


def test_a_slice_without_the_number_is_refused() -> None:
    lacking = replace(world(), numbers=torch.zeros(2000, 1), number_names=("age",))
    with pytest.raises(LearningError, match=r"number 'age_rank' is not among"):
        learner().fit(lacking, "1")
