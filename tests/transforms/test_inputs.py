"""Ids as hashes: a missing id is one of its own, large ids keep their bits, and no path is a pattern."""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from exfm.columns import Columns
from models.hashing import NULL_HASH, stable_hash
from pipeline.transforms.inputs import hashed_histories, hashed_ids, rows_of, slice_tensors
from projects.simulated import STREAM

LARGE = 2**53 + 1  # the first integer that a double can't hold
ODD_NAMES = ("a[b]c", "a*c", "a?c", "a%20c", "a#c", "a:c", "a b", "ünï ☃", "it's", 'say "x"', "a{b,c}d")


def ids(column: pl.Series) -> list[int]:
    hashed: list[int] = hashed_ids(pl.DataFrame({"id": column}), Columns(ids=("id",), features=()))[:, 0].tolist()
    return hashed


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Int8, pl.UInt32])
def test_a_missing_integer_is_an_id_of_its_own(dtype: type[pl.DataType]) -> None:
    whole, holed = ids(pl.Series([7, 8, 0], dtype=dtype)), ids(pl.Series([7, None, 0], dtype=dtype))
    assert holed == [whole[0], NULL_HASH, whole[2]]
    assert NULL_HASH not in whole


def test_a_missing_string_is_an_id_of_its_own() -> None:
    assert ids(pl.Series(["feed", None, ""])) == stable_hash(["feed", None, ""], "id").tolist()


@pytest.mark.parametrize("value", [LARGE, -LARGE, 2**63 - 1, -(2**63)])
def test_large_ids_keep_their_bits_beside_a_missing_one(value: int) -> None:
    alone = stable_hash(np.array([value]), "id").tolist()
    assert ids(pl.Series([value, None], dtype=pl.Int64)) == [*alone, NULL_HASH]
    assert ids(pl.Series([value], dtype=pl.Int64)) == alone


def test_histories_hold_missing_and_large_ids() -> None:
    lists = pl.DataFrame({"h": [[LARGE, None], None, [], [3]]}, schema={"h": pl.List(pl.Int64)})
    values, offsets = hashed_histories(lists, {"h": "item_id"})["h"]
    large, small = stable_hash(np.array([LARGE, 3]), "item_id").tolist()
    assert values.tolist() == [large, NULL_HASH, small]
    assert offsets.tolist() == [0, 2, 2, 2, 3]


def test_a_slice_with_missing_ids_becomes_tensors() -> None:
    frame = pl.DataFrame({"impression_id": [1, 2], "device": [None, LARGE]}, schema_overrides={"device": pl.Int64})
    tensors = slice_tensors(frame, None, Columns(ids=("device",), features=()), STREAM)
    assert tensors.ids[:, 0].tolist() == [NULL_HASH, *stable_hash(np.array([LARGE]), "device").tolist()]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_is_read_as_it_is_written(tmp_path: Path, name: str) -> None:
    for folder, value in ((name, 1), ("abc", 2), ("axc", 3), ("ac", 4)):
        (tmp_path / folder).mkdir(exist_ok=True)
        pl.DataFrame({"x": [value]}).write_parquet(tmp_path / folder / "part.parquet")
    assert duckdb.sql(rows_of(tmp_path / name / "part.parquet", "x")).fetchall() == [(1,)]
