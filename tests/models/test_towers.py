"""The two towers of a release: their product and the offset is torch's logit, each from its own inputs alone."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import onnxruntime
import pytest

from exfm.encoding import Encoding, bucket_encoding, id_encoding, number_encoding
from models.batch import SliceTensors
from models.export import _towers
from models.learner import Learner
from models.network_spec import NetworkSpec
from models.parts import TOWERS
from models.towers import SIDES, TowerInputs, joined_by, offset_of
from tests.models.test_export import AGREE, fitted, inputs
from tests.models.test_growth import TRAINING
from tests.models.test_lists_and_vectors import IMAGE, KIND, SEEN, TAGS, WHOSE, WORDS, world
from tests.models.test_lists_and_vectors import spec as spec_of

WORDS_MEANT = replace(WORDS, pooling="mean", target=None)
ITEMS_NUMBER = {"item_numbers": ("count",)}


class _Manifest:
    encoder: dict[str, Encoding] = {}


def vectors_of(learner: Learner, tensors: SliceTensors) -> dict[str, np.ndarray]:
    files, about = _towers(learner, _Manifest())  # type: ignore[arg-type]
    given, spec, vectors = inputs(learner, tensors), learner.spec, {}
    positions = [*spec.numbers, *(name for name, width in spec.vectors for _ in range(width))]
    for side, name in TOWERS.items():
        mine = TowerInputs.of(spec, side)
        assert about["towers"][side]["graph"] == sha256(files[name]).hexdigest()
        fields = given["fields"][:, [spec.id_names.index(each) for each in mine.ids]]
        numbers = given["numbers"][:, [at for at, of in enumerate(positions) if of in (*mine.numbers, *mine.vectors)]]
        lists = {f"list:{each}": given[f"list:{each}"] for each in mine.lists}
        lengths = {f"length:{each}": given[f"length:{each}"] for each in mine.pooled}
        session = onnxruntime.InferenceSession(files[name], providers=["CPUExecutionProvider"])
        asked = {"fields": fields, "numbers": numbers, **lists, **lengths}
        read = {each.name for each in session.get_inputs()}
        assert read <= asked.keys()  # nothing of the other side
        (vectors[side],) = session.run(["vectors"], {key: asked[key] for key in read})
    return vectors


SPECS: dict[str, NetworkSpec] = {
    "ids alone": spec_of("TwoTower"),
    "one layer": spec_of("TwoTower of one layer", TAGS, SEEN, vectors=(IMAGE,)),
    "every kind of input": replace(
        spec_of("TwoTower", TAGS, SEEN, WORDS_MEANT, vectors=(IMAGE,)), sides=(KIND, WHOSE), **ITEMS_NUMBER
    ),
    "numbers on the request's side": spec_of("TwoTower", SEEN, vectors=(IMAGE,)),
    "an item of lists and an image": replace(
        spec_of("TwoTower", TAGS, vectors=(IMAGE,)), item_ids=("tags", "image"), ids=(("user", 31), ("item", 23))
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_product_and_the_offset_are_torchs_logit(name: str) -> None:
    tensors = world(signal="image")
    learner = fitted(SPECS[name], tensors)
    vectors, expected = vectors_of(learner, tensors), learner.predict(tensors).numpy()[:, 0]
    products = (vectors["user"] * vectors["item"]).sum(axis=1) + offset_of(learner)
    assert np.abs(products - expected).max() < AGREE and expected.std() > 0.01
    everybody = vectors["user"] @ vectors["item"].T  # any user with any item: not those of one row alone
    assert everybody.shape == (400, 400) and np.ptp(everybody) > np.ptp(np.diag(everybody)) * 0.5


def test_each_input_is_of_one_tower() -> None:
    spec = SPECS["every kind of input"]
    both = [TowerInputs.of(spec, side) for side in SIDES]
    for kind, every in (
        ("ids", spec.id_names), ("numbers", spec.numbers), ("vectors", ("image",)), ("pooled", spec.pooled),
        ("lists", tuple(name for name, _ in spec.lists)),
    ):  # fmt: skip
        read = [name for each in both for name in getattr(each, kind)]
        assert sorted(read) == sorted(every)


ENCODER = {
    "user": id_encoding("user", int), "item": id_encoding("item", int), "price": number_encoding("none", "unknown"),
    "range": bucket_encoding("range", "price", (1.0,)),
}  # fmt: skip
BY_PRICE = replace(spec_of("TwoTower"), ids=(("user", 31), ("item", 23), ("range", 5)), numbers=("count", "price"))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (spec_of("TwoTower", SEEN), None),
        (replace(spec_of("TwoTower"), histories=(("seen", "item"),)), "seen is pooled by attention to the item"),
        (spec_of("TwoTower", WORDS), "words is pooled by attention to the item"),
        (replace(BY_PRICE, item_ids=("item", "range")), "range is made of price, which is of the other tower"),
        (replace(BY_PRICE, item_numbers=("price",)), "range is made of price, which is of the other tower"),
        (replace(BY_PRICE, item_ids=("item", "range"), item_numbers=("price",)), None),
        (replace(spec_of("TwoTower"), tasks=("click", "buy")), "it predicts 2 tasks"),
    ],
)
def test_what_joins_the_towers_is_said(spec: NetworkSpec, why: str | None) -> None:
    said = joined_by(spec, ENCODER)
    assert said is None if why is None else str(said).startswith(why)


def test_other_families_have_none_and_joined_ones_say_why() -> None:
    assert _towers(Learner.create(spec_of("DCNv2"), TRAINING, None, "cpu"), _Manifest()) == ({}, {})  # type: ignore[arg-type]
    joined = Learner.create(spec_of("TwoTower", WORDS), TRAINING, None, "cpu")
    assert _towers(joined, _Manifest()) == (  # type: ignore[arg-type]
        {}, {"towers": {"joined_by": "words is pooled by attention to the item"}}
    )  # fmt: skip
