"""Digests of columns follow from values and their order alone, and name what a model reads of a table."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline.column_digests import column_digests
from pipeline.sidecar import sidecar_of
from pipeline.tables import SliceTable
from projects.simulated import STREAM

PIECE = STREAM.slice_at(0)
FRAME = pl.DataFrame({
    "impression_id": [1, 2, 3, 4],
    "at": [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(4)],
    "text": ["a", None, "", "bc"],
    "share": [0.5, None, float("nan"), -0.0],
    "flag": [True, None, False, True],
    "ids": [[1, 2], [], None, [3, None]],
    "names": [["a", "bc"], ["ab", "c"], None, []],
})  # fmt: skip
GOLDEN = {
    "impression_id": "fdd784ddd5cc", "at": "a3dbd489c102", "text": "311ffa6b721e", "share": "cfb8a62b280a",
    "flag": "6ae6bbc3a011", "ids": "7c5732336799", "names": "55f433be6086",
}  # fmt: skip


def test_they_do_not_depend_on_how_a_frame_is_held(tmp_path: Path) -> None:
    digests = column_digests(FRAME)
    assert list(digests) == FRAME.columns and all(len(digest) == 12 for digest in digests.values())
    assert len(set(digests.values())) == len(digests)
    for compression in ("zstd", "uncompressed"):
        FRAME.write_parquet(tmp_path / "frame.parquet", compression=compression, row_group_size=2)
        assert column_digests(pl.read_parquet(tmp_path / "frame.parquet")) == digests
    assert column_digests(pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)) == digests
    garbage = FRAME.with_columns(share=pl.when(pl.col("impression_id") != 2).then(pl.col("share").fill_null(7.0)))
    assert column_digests(garbage)["share"] == digests["share"]  # what lies under a null is no value


def test_they_are_those_of_earlier_versions() -> None:
    """Else all that is stored would be made again."""
    assert column_digests(FRAME) == GOLDEN
    part = pl.DataFrame({"text": [None, ""]}, {"text": pl.String()})
    assert column_digests(FRAME[1:3])["text"] == column_digests(part)["text"]


@pytest.mark.parametrize("changed", [
    pl.col("text").fill_null(""), pl.col("text").reverse(), pl.col("share").fill_null(0.0),
    pl.col("share").cast(pl.Float32), pl.col("flag").fill_null(False), pl.col("impression_id") + 1,
    pl.col("at").dt.offset_by("1us"), pl.col("ids").fill_null([]), pl.col("ids").list.reverse(),
    pl.Series("names", [["ab", "c"], ["ab", "c"], None, []]), pl.Series("names", [["a"], ["bc", "ab", "c"], None, []]),
])  # fmt: skip
def test_they_change_with_any_value(changed: pl.Expr) -> None:
    frame = FRAME.with_columns(changed)
    (name,) = [
        name for name in FRAME.columns if not frame[name].equals(FRAME[name], null_equal=True, check_dtypes=True)
    ]
    before, after = column_digests(FRAME), column_digests(frame)
    assert {column for column in before if before[column] != after[column]} == {name}
    assert column_digests(FRAME[:3])["text"] != before["text"]


@pytest.fixture
def table(tmp_path: Path) -> SliceTable:
    table = SliceTable(tmp_path / "logged_inputs", "logged_inputs", by_column=True)
    table.write(PIECE, FRAME)
    return table


def test_columns_of_a_table_keep_their_name_when_others_come_or_change(table: SliceTable) -> None:
    name, whole = table.known_as(PIECE, ["text", "share"])
    assert whole == table.digest(PIECE)
    table.write(PIECE, FRAME.with_columns(more=pl.lit(1), flag=None).select(reversed([*FRAME.columns, "more"])))
    assert table.known_as(PIECE, ["share", "text"])[0] == name
    assert table.known_as(PIECE, ["text", "flag"])[0] != name
    assert table.known_as(PIECE, ["text", "gone"]) == (table.digest(PIECE),)
    assert table.known_as(STREAM.slice_at(1), ["text"]) == ()


def test_a_file_that_says_nothing_of_columns_is_known_as_a_whole_and_so_are_its_columns_in_the_next(
    table: SliceTable,
) -> None:
    """As an earlier version wrote it."""
    SliceTable(table.folder, table.name).write(PIECE, FRAME)
    whole = table.digest(PIECE)
    assert table.known_as(PIECE, ["text"]) == (whole,)
    for more in (1, 2):  # also when it is replaced once more
        table.write(PIECE, FRAME.with_columns(more=pl.lit(more), flag=None))
        assert table.known_as(PIECE, ["text"])[1:] == (table.digest(PIECE), whole)
        assert whole not in table.known_as(PIECE, ["text", "flag"])
    sidecar_of(table.path(PIECE)).unlink()  # a file without a sidecar is read
    assert table.known_as(PIECE, ["text"])[1:] == (table.digest(PIECE),)
