"""A release in onnxruntime: the scores of torch, from raw rows of every kind of input, and of whole releases alone."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.checkpoint import load_checkpoint
from pipeline.transforms.inputs import tensors_for
from serving.encoder import Encoder
from serving.errors import ReleaseError, RequestError
from serving.model import ServedModel, signature_of
from serving.tables import mapped
from tests.serving.worlds import columns_of, released, rows_of

AGREE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases") / "v1"
    released(folder)
    return folder


def of_torch(folder: Path, frame: pl.DataFrame) -> np.ndarray:
    learner, manifest = load_checkpoint(folder)
    scores: np.ndarray = torch.sigmoid(learner.predict(tensors_for(manifest, frame))[:, 0]).numpy()
    return scores


def one_by_one(model: ServedModel, frame: pl.DataFrame) -> np.ndarray:
    """Rows of different times are requests of their own."""
    scores = []
    for row in frame.iter_slices(1):
        now = row["event_timestamp"][0].timestamp()
        scores.append(model.score(columns_of(row), 1, now)[0])
    return np.array(scores)


def test_scores_are_those_of_torch_from_raw_rows_of_every_kind(folder: Path) -> None:
    frame, model = rows_of(400), ServedModel(folder)
    model.warm()
    expected = of_torch(folder, frame)
    assert np.abs(one_by_one(model, frame) - expected).max() < AGREE
    assert expected.std() > 0.02
    together = frame.with_columns(event_timestamp=pl.lit(frame["event_timestamp"][0]))
    now = frame["event_timestamp"][0].timestamp()
    scores = model.score(columns_of(together), together.height, now)
    assert np.abs(scores - of_torch(folder, together)).max() < AGREE


def test_what_holds_for_all_candidates_is_given_once(folder: Path) -> None:
    model, row = ServedModel(folder), rows_of(50).filter(pl.col("seen").list.len() > 1)[:1]
    items = [f"item/{n}😀" for n in range(30)]
    many = pl.concat([row] * 30).with_columns(item_id=pl.Series(items))
    now = row["event_timestamp"][0].timestamp()
    once = {**columns_of(row), "item_id": items}
    scores = model.score(once, 30, now)
    assert np.abs(scores - of_torch(folder, many)).max() < AGREE and np.ptp(scores) > 1e-3


def test_hashes_numbers_and_rows_are_those_of_training_to_the_bit(folder: Path) -> None:
    """Rounding may differ in the graph, never in what goes in."""
    from models.learner_slice import inputs_of

    frame = rows_of(300, seed=7).with_columns(event_timestamp=pl.lit(rows_of(1)["event_timestamp"][0]))
    learner, manifest = load_checkpoint(folder)
    read = inputs_of(tensors_for(manifest, frame), learner.spec, learner.table, learner.quantiles)
    encoder = Encoder(signature_of(folder), mapped(folder / "serving.safetensors", "table.weight"))
    given = encoder.inputs(columns_of(frame), frame.height, frame["event_timestamp"][0].timestamp())
    assert np.array_equal(given["fields"], learner.table.lookup(read.rows).numpy())
    assert np.array_equal(given["numbers"], read.numbers.numpy(), equal_nan=True)
    for (name, _), lists in zip(learner.spec.lists, read.histories, strict=True):
        places = np.arange(given[f"list:{name}"].shape[1]) < np.diff(lists.offsets.numpy())[:, None]
        assert np.array_equal(given[f"list:{name}"][places], learner.table.lookup(lists.values).numpy())


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("user_id", "5", "user_id: '5' is no whole number"),
        ("user_id", True, "user_id: True is no whole number"),
        ("user_id", 2.5, "user_id: 2.5 is no whole number"),
        ("user_id", 2**63, "user_id: 9223372036854775808 is too large for 64 bits"),
        ("item_id", 5, "item_id: 5 is no text"),
        ("clicks", "many", "clicks: 'many' is no number"),
        ("rate", 10**400, "rate: .* too large"),
        ("image", [1.0, 2.0], r"image: \[1.0, 2.0\] is no vector of 3 numbers"),
        ("image", [1.0, None, 2.0], r"image: \[1.0, None, 2.0\] has a null inside"),
        ("image", "abc", "image: 'abc' is no vector of 3 numbers"),
        ("image", [1.0, "x", 2.0], "image: 'x' is no number"),
        ("seen", "abc", "seen: 'abc' is no list of ids"),
        ("seen", [1], "seen: 1 is no text"),
        ("when", [1], "when: it is not as long as seen"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_name(folder: Path, column: str, value: object, sentence: str) -> None:
    model = ServedModel(folder)
    columns: dict[str, list[object]] = {name: [None] for name in model.signature.columns}
    with pytest.raises(RequestError, match=sentence):
        model.score({**columns, column: [value]}, 1, 0.0)


@pytest.mark.parametrize("name", ["model.onnx", "serving.safetensors", "signature.json", "manifest.json"])
def test_a_release_that_is_damaged_is_refused(tmp_path: Path, name: str) -> None:
    released(tmp_path / "v1", slices=1)
    path = tmp_path / "v1" / name
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1] + b"?", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(ReleaseError, match=name):
            ServedModel(tmp_path / "v1")
    path.write_bytes(whole)
    ServedModel(tmp_path / "v1")


def test_a_release_of_an_earlier_or_a_later_exfm_says_so(tmp_path: Path) -> None:
    released(tmp_path / "v1", slices=1)
    path = tmp_path / "v1" / "signature.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "format": 2}))
    with pytest.raises(ReleaseError, match="is of format 2, not 1: update exfm"):
        ServedModel(tmp_path / "v1")
    path.unlink()
    with pytest.raises(ReleaseError, match="has no signature.json, as an earlier exfm released it"):
        ServedModel(tmp_path / "v1")
