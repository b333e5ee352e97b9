r"""Files whose lines end in several ways hold the rows that they would have with ``\n``."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.log_files import Files
from pipeline.imports import lines, reading
from pipeline.imports.converting import Target
from pipeline.imports.line_ends import with_one_end
from pipeline.imports.lines import lines_of
from pipeline.imports.run import import_log, sources_of
from pipeline.imports.side_tables import read_side_table
from pipeline.tables import DataError
from tests.drafting.drafts import drafted
from tests.imports.logs import PLAIN, csv, day_of_rows, read_in, rows, workspace

Ends = Callable[[int], str]
COUNT = 2_000
MIXED: dict[str, Ends] = {
    "windows first": lambda row: "\r\n" if row < COUNT // 2 else "\n",
    "windows last": lambda row: "\n" if row < COUNT // 2 else "\r\n",
    "in turn": lambda row: ("\n", "\r\n", "\r")[row % 3],
    "the last alone": lambda row: "\r\n" if row == COUNT - 1 else "\n",
}


def text(ends: Ends, *, json_: bool = False, quoted: Sequence[int] = ()) -> str:
    """Rows with line ends in quoted values, and further columns quoted."""
    if json_:
        plain = {"device": "d", "ts": "2026-01-01", "price": 0}
        return "".join(
            json.dumps({"user": row, "item": f"i{row}", "click": row % 2, **plain}) + ends(row) for row in range(COUNT)
        )
    devices, written = ("a\r\nb", "c\n", "\r", '"x"', "d", ""), [csv().strip() + ends(0)]
    for row in range(COUNT):
        values = [f"{row}", f"i{row}", devices[row % 6], "2026-01-01T00:00:00Z", f"{row % 2}", "0"]
        cells = [
            '"' + value.replace('"', '""') + '"' if place in quoted or (place == 2 and row % 6 != 4) else value
            for place, value in enumerate(values)
        ]
        written.append(",".join(cells) + ends(row))
    return "".join(written)


def read(folder: Path, written: str, name: str) -> pl.DataFrame:
    folder.mkdir()
    work = workspace(folder)
    raw = written.encode()
    (work.state.data / name).write_bytes(gzip.compress(raw) if name.lower().endswith(".gz") else raw)
    account = read_in(work).tables[0]
    assert account.kept == account.read == COUNT
    assert not list((work.state.log / "_reading").glob("*"))
    return rows(work)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.csv.GZ", "log.jsonl"])
@pytest.mark.parametrize("ends", MIXED.values(), ids=MIXED)
def test_rows_and_ids_are_those_of_one_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ends: Ends
) -> None:
    monkeypatch.setattr(reading, "CHUNK", 1_021)  # so that a block ends between two letters of an end, too
    json_ = name.endswith("jsonl")
    expected = read(tmp_path / "one", text(lambda row: "\n", json_=json_), name)
    assert expected.height == COUNT
    assert read(tmp_path / "several", text(ends, json_=json_), name).equals(expected)


@pytest.mark.parametrize("large", [False, True])  # as several threads cut it
@pytest.mark.parametrize("quoted", [(5,), (0,), range(6)])
@pytest.mark.parametrize("ends", MIXED.values(), ids=MIXED)
def test_values_in_quotes_hide_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Ends, quoted: Sequence[int], *, large: bool
) -> None:
    if large:
        for module in (lines, reading):
            monkeypatch.setattr(module, "LONGEST_LINE", 2**14)
            monkeypatch.setattr(module, "LONGEST_SHARED", 2**13)
        monkeypatch.setattr(lines, "GLIMPSE", 2**12)
        monkeypatch.setattr(reading, "BUFFER", 2**15)
    expected = read(tmp_path / "one", text(lambda row: "\n", quoted=quoted), "log.csv")
    assert read(tmp_path / "several", text(ends, quoted=quoted), "log.csv").equals(expected)


def test_a_refused_row_is_where_it_was(tmp_path: Path) -> None:
    found = []
    for name, ends in {"one": lambda row: "\n", **MIXED}.items():
        broken = text(ends).replace("1000,i1000,d,", "1000,i1000,d,d,").replace("1501,i1501,", "somebody,i1501,")
        (tmp_path / name).mkdir()
        work = workspace(tmp_path / name)
        (work.state.data / "log.csv").write_text(broken, newline="")
        account = read_in(work).tables[0]
        assert (account.kept, account.quarantined) == (COUNT - 2, 2)
        (refused,) = sorted((work.state.log / "_quarantine" / "impressions").glob("*.parquet"))
        found.append(pl.read_parquet(refused).sort("reason"))
    assert all(each.equals(found[0]) for each in found), found


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
@pytest.mark.parametrize("ends", [lambda row: "\n", *MIXED.values()], ids=["one", *MIXED])
def test_a_quote_that_is_not_closed_hides_no_line_of_them(tmp_path: Path, name: str, ends: Ends) -> None:
    work = workspace(tmp_path)
    raw = (text(ends, quoted=(5,)) + '7,i7,"d,2026-01-01T00:00:00Z,0,0\n').encode()
    (work.state.data / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    account = read_in(work).tables[0]
    assert (account.kept, account.quarantined) == (COUNT, 1)


def test_a_packed_file_with_many_lines_is_read_in_a_time_that_grows_with_it(tmp_path: Path) -> None:
    """DuckDB alone takes minutes: it looks for the end of each line in all that follows."""
    work = workspace(tmp_path)
    half = 30_000
    lines_ = [f'{row},i{row},d,2026-01-01T00:00:00Z,1,"0"' for row in range(2 * half)]
    whole = csv() + "\r\n".join(lines_[:half]) + "\r\n" + "\n".join(lines_[half:]) + "\n"
    (work.state.data / "log.csv.gz").write_bytes(gzip.compress(whole.encode()))
    assert read_in(work).tables[0].kept == 2 * half


def test_a_draft_reads_them_too(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    header, *lines = day_of_rows(1, 600).splitlines()
    ends = [("\n", "\r\n")[number % 2] for number in range(len(lines))]
    mixed = "".join(map("".join, zip(lines, ends, strict=True)))
    (tmp_path / "log" / "log.csv").write_text(f"{header}\n{mixed}", newline="")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    (shown, *_) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined) == (600, 0)


def test_a_side_table_reads_them_too(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log.csv"
    path.write_text(text(MIXED["in turn"]), newline="")
    target = Target({"user": pl.Int64(), "item": pl.String()}, None, ("user",))
    (side,) = read_side_table("items", Files(paths=("log.csv",)), work.state.data, target)
    assert side.frame["user"].to_list() == list(range(COUNT)) and side.source.path == path


def test_what_is_broken_otherwise_is_said_as_before(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_bytes(gzip.compress(text(MIXED["in turn"]).encode())[:-40])
    with pytest.raises(DataError, match="log.csv"):
        import_log(work)


def test_of_utf_16_it_is_said(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, encoding="utf-16"))
    (work.state.data / "log.csv").write_bytes(text(MIXED["in turn"]).encode("utf-16"))
    with pytest.raises(DataError, match=r"log.csv can't be cut into lines: .* write it again in UTF-8"):
        import_log(work)


@pytest.mark.parametrize("left_off", [0, 1])  # the last line may end in nothing
def test_a_file_of_one_end_is_not_copied(tmp_path: Path, left_off: int) -> None:
    work = workspace(tmp_path, replace(PLAIN, paths=("a.csv", "b.csv", "c.csv")))
    for name, end in (("a", "\n"), ("b", "\r\n"), ("c", "\r")):
        written = text(lambda row, end=end: end)  # type: ignore[misc]
        (work.state.data / f"{name}.csv").write_text(written[: len(written) - left_off * len(end)], newline="")
    sources = sources_of(work).files
    assert [lines_of(source).ends for source in sources] == [1] * 3
    assert [with_one_end(source, tmp_path) for source in sources] == [None] * 3
    assert not list((tmp_path / "one-end").iterdir())
    assert read_in(work).tables[0].kept == 3 * COUNT
