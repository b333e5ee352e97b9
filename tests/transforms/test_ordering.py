"""Rows in order are those of polars' own sort by all columns, whatever they are."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.transforms.ordering import in_order

START = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = ["at", "id", "name"]
RNG = np.random.default_rng(7)


def rows(count: int, moments: int, *, in_time: bool) -> pl.DataFrame:
    """Rows of which some share all three columns, told apart by ``number``; ids and names have nulls."""
    after = RNG.integers(0, moments, count)
    after = np.sort(after) if in_time else after
    ids = [None if id_ == 0 else id_ for id_ in RNG.integers(-3, 4, count).tolist()]
    names = [None if name == "c" else name for name in RNG.choice(["b", "a", "c", "é"], count).tolist()]
    return pl.DataFrame(
        {
            "at": [START + timedelta(microseconds=int(each)) for each in after],
            "id": pl.Series(ids, dtype=pl.Int64),
            "name": pl.Series(names, dtype=pl.String),
            "number": np.arange(count),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def expected(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(ORDER, maintain_order=True, nulls_last=True)


@pytest.mark.parametrize("in_time", [True, False])
@pytest.mark.parametrize("moments", [1, 3, 100, 2_000, 10**6])
@pytest.mark.parametrize("count", [1, 2, 3, 500])
def test_order_is_that_of_sorting_by_all_columns(count: int, moments: int, in_time: bool) -> None:
    for _ in range(5):
        frame = rows(count, moments, in_time=in_time)
        assert in_order(frame, ORDER).equals(expected(frame))


def test_no_rows_and_rows_without_a_time() -> None:
    frame = rows(40, 30, in_time=False)
    without = frame.with_columns(at=pl.when(pl.col("number") % 7 != 0).then("at"))
    for each in (frame.clear(), without, without.filter(pl.col("at").is_null()), pl.concat([frame, frame])):
        assert in_order(each, ORDER).equals(expected(each))


def test_rows_of_several_chunks_are_taken_by_their_place_in_all_of_them() -> None:
    chunks = [rows(50, 1_000, in_time=False) for _ in range(4)]
    frame = pl.concat(chunks, rechunk=False)
    assert in_order(frame, ORDER).equals(expected(frame))
    later = [part.with_columns(pl.col("at") + timedelta(seconds=place)) for place, part in enumerate(chunks)]
    ordered = pl.concat([part.sort("at") for part in later], rechunk=False)
    assert in_order(ordered, ORDER).equals(expected(ordered))


def test_rows_in_order_are_not_copied() -> None:
    frame = expected(rows(100, 10**6, in_time=True)).unique("at", maintain_order=True)
    assert in_order(frame, ORDER) is frame
