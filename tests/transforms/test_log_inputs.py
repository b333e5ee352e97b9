"""What the log brings beside ids, as tensors: against values made by hand."""

import numpy as np
import polars as pl
import pytest

from exfm.columns import Columns
from exfm.encoding import Encoding
from exfm.inputs import Bag, Bucket, Cross, LogInput, Number, Vector
from models.hashing import NULL_HASH, stable_hash
from pipeline.tables import DataError
from pipeline.transforms.inputs import hashed_ids, numbers, slice_tensors, vectors
from pipeline.transforms.lists import hashed_lists

NAN, INF = float("nan"), float("inf")
DTYPES: dict[str, type] = {"device": int, "country": str, "item_id": int}


def encoder(*inputs: LogInput) -> dict[str, Encoding]:
    from exfm.encoding import id_encoding

    return {
        **{name: id_encoding(name, dtype) for name, dtype in DTYPES.items()},
        **{each.name: each.encoding_among(DTYPES) for each in inputs},
    }


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (Number(name="x"), [2.0, -3.0, NAN, NAN, NAN]),
        (Number(name="x", null="zero"), [2.0, -3.0, 0.0, 0.0, 0.0]),
        (Number(name="x", treatment="log1p"), [np.log(3.0), -np.log(4.0), NAN, NAN, NAN]),
    ],
)
def test_numbers(declared: Number, expected: list[float]) -> None:
    frame = pl.DataFrame({"x": pl.Series([2.0, -3.0, None, NAN, INF])})
    np.testing.assert_allclose(numbers(frame, ["x"], encoder(declared))[:, 0], np.float32(expected), rtol=1e-6)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float32, pl.UInt8])
def test_a_number_is_the_same_whatever_type_it_comes_in(dtype: type[pl.DataType]) -> None:
    frame = pl.DataFrame({"x": pl.Series([2, 3], dtype=dtype)})
    assert numbers(frame, ["x"], encoder(Number(name="x")))[:, 0].tolist() == [2.0, 3.0]


def test_vectors_lie_side_by_side_and_a_missing_one_is_unknown() -> None:
    frame = pl.DataFrame({"a": [[1.0, 2.0], None, [5.0, NAN]], "b": [[7.0], [8.0], [9.0]]})
    read = vectors(frame, ["b", "a"], encoder(Vector(name="a", width=2), Vector(name="b", width=1)))
    np.testing.assert_array_equal(read, np.float32([[7, 1, 2], [8, NAN, NAN], [9, 5, NAN]]))
    fixed = frame.with_columns(pl.col("b").cast(pl.Array(pl.Float64, 1)))
    np.testing.assert_array_equal(vectors(fixed, ["b"], encoder(Vector(name="b", width=1)))[:, 0], [7, 8, 9])
    with pytest.raises(DataError, match=r"^b: a vector of 1 floats, not 2: pass it"):
        vectors(frame, ["b"], encoder(Vector(name="b", width=2)))
    assert vectors(frame.clear(), ["a"], encoder(Vector(name="a", width=2))).shape == (0, 2)


def test_bags_are_hashed_as_the_column_that_they_share_and_cut() -> None:
    frame = pl.DataFrame({"seen": [[1, 2, 3], None, []]}, schema={"seen": pl.List(pl.Int64)})
    shared, own = Bag(name="seen", of="item_id", length=2), Bag(name="seen", rows=9)
    for bag, salt, count in ((shared, "item_id", 2), (own, "seen", 3)):
        values, offsets = hashed_lists(frame, ["seen"], encoder(bag))["seen"]
        assert values.tolist() == stable_hash(np.arange(1, count + 1), salt).tolist()
        assert offsets.tolist() == [0, count, count, count]


def test_a_cross_is_one_id_for_each_combination() -> None:
    frame = pl.DataFrame({"device": [1, 1, 2, 2, None, 1], "country": ["a", "b", "a", "b", "a", None]})
    cross = Cross(name="both", of=("device", "country"), rows=100)
    hashed = hashed_ids(frame, ["both"], encoder(cross))[:, 0].tolist()
    assert len(set(hashed)) == 6 and NULL_HASH not in hashed
    turned = Cross(name="both", of=("country", "device"), rows=100)
    assert hashed_ids(frame, ["both"], encoder(turned))[:, 0].tolist() != hashed
    shuffled = frame[::-1]
    assert hashed_ids(shuffled, ["both"], encoder(cross))[:, 0].tolist() == hashed[::-1]
    many = pl.DataFrame({"device": np.repeat(np.arange(300), 300), "country": [f"{n}" for n in range(300)] * 300})
    assert len(set(hashed_ids(many, ["both"], encoder(cross))[:, 0].tolist())) == 90_000  # no two alike


def test_a_bucket_is_the_range_that_a_number_lies_in() -> None:
    bucket = Bucket(name="ranges", of="price", edges=(0.0, 10.0, 100.0))
    frame = pl.DataFrame({"price": [-1.0, 0.0, 9.99, 10.0, 100.0, INF, None, NAN]})
    hashed = hashed_ids(frame, ["ranges"], encoder(Number(name="price"), bucket))[:, 0].tolist()
    expected = stable_hash(np.array([0, 1, 1, 2, 3, 3]), "ranges").tolist()
    assert hashed == [*expected, NULL_HASH, NULL_HASH]
    rows = {value % bucket.rows for value in stable_hash(np.arange(4), "ranges").tolist()}
    assert len(rows) == 4


def test_all_of_them_in_one_slice() -> None:
    inputs = (
        Number(name="price"), Vector(name="image", width=2), Bag(name="tags", rows=9, dtype=str),
        Cross(name="both", of=("device", "country"), rows=8), Bucket(name="ranges", of="price", edges=(1.0,)),
    )  # fmt: skip
    columns = Columns(
        ids=("device",), features=(), numbers=("price",), vectors=("image",), bags=("tags",),
        derived=("both", "ranges"), parts=("device", "country", "price"),
    )  # fmt: skip
    frame = pl.DataFrame(
        {"impression_id": [1], "device": [3], "country": ["x"], "price": [2.5], "image": [[1.0, 2.0]], "tags": [["t"]]}
    )
    assert set(columns.stored) == {*frame.columns} - {"impression_id"}
    tensors = slice_tensors(frame, None, columns, (), encoder(*inputs))
    assert tensors.id_names == ("device", "both", "ranges")
    assert tensors.number_names == ("price", "image[0]", "image[1]")
    assert tensors.numbers.tolist() == [[2.5, 1.0, 2.0]]
    assert tensors.histories["tags"].values.tolist() == stable_hash(["t"], "tags").tolist()
