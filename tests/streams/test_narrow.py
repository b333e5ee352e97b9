"""Few columns of a slice, gone through several times: the same rows whether they stay in memory or not."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.stream import Slice
from pipeline.parts import NARROW
from pipeline.slices.narrow import NarrowSlice
from pipeline.tables import DataError, SliceTable

START = datetime(2026, 1, 1, tzinfo=UTC)
SLICE = Slice(key="2026-01-01", start=START, end=START + timedelta(days=1), index=0)
IDS = ["impression_id"]


def table(folder: Path, rows: int) -> SliceTable:
    stored = SliceTable(folder / "impressions", "impressions", part_rows=10)
    stored.write(SLICE, pl.DataFrame({"impression_id": range(rows), "user_id": [1] * rows}))
    return stored


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 10 * NARROW, 10 * NARROW + 1, 95])
def test_parts_are_those_of_the_table_and_few_rows_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    stored = table(tmp_path, rows)
    expected = [part.to_dicts() for part in stored.parts(SLICE, IDS)]
    collect, reads = SliceTable._collect, list[Sequence[object]]()

    def counted(*given: object) -> pl.DataFrame:
        reads.append(given)
        return collect(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(SliceTable, "_collect", counted)
    shown = NarrowSlice(stored, SLICE, IDS)
    assert not reads and shown.height == rows
    for _ in range(2):
        assert shown.lazy().collect().to_dicts() == [{"impression_id": number} for number in range(rows)]
        assert [part.to_dicts() for part in shown.parts()] == expected
    assert len(reads) == (1 if rows <= 10 * NARROW else 2 * -(-rows // (10 * NARROW)))


def test_what_was_read_is_known_by_what_it_was_before(tmp_path: Path) -> None:
    stored = table(tmp_path, 5)
    shown, before = NarrowSlice(stored, SLICE, IDS), stored.noted(SLICE)
    assert shown.lazy().collect().height == 5
    table(tmp_path, 6)  # made again in between
    assert [len(part) for part in shown.parts()] == [5]
    assert shown.noted == before != stored.noted(SLICE)


def test_a_missing_slice_is_said(tmp_path: Path) -> None:
    shown = NarrowSlice(SliceTable(tmp_path / "impressions", "impressions"), SLICE, IDS)
    assert shown.noted is None
    with pytest.raises(DataError, match="impressions has no slice 2026-01-01: materialise impressions"):
        shown.lazy()
