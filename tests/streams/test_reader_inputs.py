"""Numbers, vectors and bags of a log: what types they may come in, and which rows are no vectors."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.inputs import Bag, Number, Vector
from pipeline.streams.reader import read_log
from pipeline.tables import DataError
from pipeline.transforms.quarantine import count_reasons
from projects.simulated import STREAM
from tests.streams.test_reader import DAY, START, impressions, write

WITH = replace(
    STREAM,
    numbers=(Number(name="price"),),
    vectors=(Vector(name="image", width=2),),
    bags=(Bag(name="tags", rows=9, dtype=str), Bag(name="seen", of="item_id")),
)
NAN = float("nan")


def rows(**changes: pl.Series) -> pl.DataFrame:
    columns = {
        "price": pl.Series([1.5, None, NAN]),
        "image": pl.Series([[1.0, 2.0], None, [3.0, NAN]]),
        "tags": pl.Series([["a", "b"], [], None], dtype=pl.List(pl.String)),
        "seen": pl.Series([[1], None, [2, 3]]),
    }
    return impressions().with_columns(series.alias(name) for name, series in {**columns, **changes}.items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"price": pl.Series([1, 2, 3], dtype=pl.UInt8)},
        {"price": pl.Series(["1.50", "2", "3"]).cast(pl.Decimal(10, 2))},
        {"price": pl.Series([None, None, None])},
        {"image": pl.Series([[1.0, 2.0]] * 3, dtype=pl.Array(pl.Float64, 2))},
        {"image": pl.Series([[1.0, 2.0]] * 3, dtype=pl.List(pl.Float16))},
        {"image": pl.Series([[1, 2]] * 3, dtype=pl.List(pl.Int32))},
        {"seen": pl.Series([[1], [2], [3]], dtype=pl.List(pl.Int16))},
        {"tags": pl.Series([["a"]] * 3, dtype=pl.Array(pl.String, 1))},
        {"tags": pl.Series([[None], None, []], dtype=pl.List(pl.Null))},
        {"tags": pl.Series([None, None, None])},
    ],
)
def test_they_come_in_the_contracts_types_whatever_they_were_written_as(
    tmp_path: Path, changes: dict[str, pl.Series]
) -> None:
    write(tmp_path, rows(**changes))
    read = read_log(tmp_path, WITH, "impressions", START, START + DAY)
    assert read.quarantine.is_empty() and read.frame.height == 3
    types = {"price": pl.Float64(), "image": pl.List(pl.Float32), "tags": pl.List(pl.String), "seen": pl.List(pl.Int64)}
    assert {name: read.frame.schema[name] for name in types} == types
    expected = rows(**changes).sort("event_timestamp")
    for name, dtype in types.items():
        mine = expected[name]
        mine = mine.arr.to_list() if isinstance(mine.dtype, pl.Array) else mine
        assert read.frame[name].equals(mine.cast(dtype), null_equal=True), name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"price": pl.Series(["1", "2", "3"])}, r"impressions\.price is String in .*: write it as Float64"),
        ({"image": pl.Series([1.0, 2.0, 3.0])}, r"impressions\.image is Float64 in .*: write it as List\(Float32\)"),
        ({"image": pl.Series([["a"]] * 3)}, r"impressions\.image is List\(String\) in .*: write it as"),
        ({"tags": pl.Series([[1]] * 3)}, r"impressions\.tags is List\(Int64\) in .*: write it as List\(String\)"),
        ({"seen": pl.Series([[1.5]] * 3)}, r"impressions\.seen is List\(Float64\) in .*: write it as List\(Int64\)"),
    ],
)
def test_what_says_something_else_is_refused(tmp_path: Path, changes: dict[str, pl.Series], sentence: str) -> None:
    write(tmp_path, rows(**changes))
    with pytest.raises(DataError, match=sentence):
        read_log(tmp_path, WITH, "impressions", START, START + DAY)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, rows().drop("image"))
    with pytest.raises(DataError, match=r"impressions\.image: no such column in .*: write it as List\(Float32\)"):
        read_log(tmp_path, WITH, "impressions", START, START + DAY)


def test_rows_that_hold_no_vector_are_quarantined(tmp_path: Path) -> None:
    write(tmp_path, rows(image=pl.Series([[1.0, 2.0, 3.0], [1.0, None], [4.0, 5.0]])))
    read = read_log(tmp_path, WITH, "impressions", START, START + DAY)
    assert read.frame.height == 1 and read.rows_read == 3
    assert count_reasons(read.quarantine) == {
        "image is a vector of another width": 1,
        "image is a vector with a null": 1,
    }
    assert "image is a vector of another width: 3 floats, not 2" in read.quarantine["reason"].to_list()
