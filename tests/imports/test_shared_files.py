"""A file that several threads cut into rows has the rows that one thread would find."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from exfm.log_files import Files
from pipeline.imports import by_day, lines, reading
from pipeline.imports.converting import Target
from pipeline.imports.lines import Lines, lines_of
from pipeline.imports.reading import Relation
from pipeline.imports.run import sources_of
from pipeline.imports.side_tables import read_side_table
from tests.imports.logs import PLAIN, csv, read_in, rows, workspace

COUNT = 40_000
SHARE = 2**17
WITH_IDS = replace(PLAIN, id="user")  # rows without ids are counted, which one thread does


@pytest.fixture(autouse=True)
def _small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, reading):
        monkeypatch.setattr(module, "LONGEST_LINE", SHARE)
        monkeypatch.setattr(module, "LONGEST_SHARED", SHARE // 2)
    monkeypatch.setattr(reading, "BUFFER", 2 * SHARE)
    monkeypatch.setattr(reading, "CHUNK", SHARE // 8)


def _plain(row: int) -> str:
    return f"{row},i{row},d,2026-01-01T00:00:00Z,1,0"


def _quoted(row: int) -> str:
    return f'{row},"i{row}",d,"2026-01-01T00:00:00Z",1,0' if row % 3 else f'{row},"i{row}, ""x""",d,2026-01-01,1,""'


def _over_lines(row: int) -> str:
    inside = "\n".join(_plain(row * 1000 + other) for other in range(row % 7))
    return f'{row},i{row},"{inside}",2026-01-01T00:00:00Z,1,0'


def _long(row: int) -> str:
    return f"{row},i{row},{'d' * int(SHARE * 0.7) if row == COUNT - 100 else 'd'},2026-01-01T00:00:00Z,1,0"


def _too_few(row: int) -> str:
    return _plain(row) if row % 2 else f"{row},x"


def _stray(row: int) -> str:
    return f'{row},5" i{row},d,2026-01-01T00:00:00Z,1,0'


def _write(path: Path, line: Callable[[int], str], count: int = COUNT) -> None:
    text = csv(*(line(row) for row in range(count))).encode()
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(text)
    else:
        path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.csv.zst"])
@pytest.mark.parametrize(
    ("line", "kept", "refused"),
    [(_plain, COUNT, 0), (_quoted, COUNT, 0), (_over_lines, 10_000, 0), (_too_few, 10_000, 10_000), (_stray, COUNT, 0)],
)
def test_threads_find_the_rows_that_one_finds(
    tmp_path: Path, name: str, line: Callable[[int], str], kept: int, refused: int
) -> None:
    work = workspace(tmp_path, WITH_IDS)
    _write(work.state.data / name, line, kept + refused)
    (table,) = read_in(work).tables
    assert (table.kept, table.quarantined) == (kept, refused)
    assert sorted(rows(work)["user_id"]) == [row for row in range(kept + refused) if line is not _too_few or row % 2]


@pytest.mark.parametrize(("line", "kept", "cut"), [(_over_lines, 100_000, 0), (_too_few, 100_000, 100_000)])
def test_a_side_table_has_the_rows_that_one_thread_finds(
    tmp_path: Path, line: Callable[[int], str], kept: int, cut: int
) -> None:
    _write(tmp_path / "table.csv", line, kept + cut)
    schema: dict[str, pl.DataType] = {"user": pl.Int64(), "item": pl.String()}
    files = Files(paths=("table.csv",))
    (read,) = read_side_table("here", files, tmp_path, Target(schema, None, ("user",)))
    assert read.frame["user"].sort().to_list() == [row for row in range(kept + cut) if line is not _too_few or row % 2]
    assert read.refused == ({"no row of a CSV": cut} if cut else {})


@pytest.mark.parametrize("odd", [_over_lines, _long], ids=["over lines", "long"])
def test_a_value_that_threads_can_not_cut_far_in_a_file_has_it_read_again_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Callable[[int], str]
) -> None:
    """Reading begins by what a file's beginning is like; what counts is the whole."""
    work, asked, cut = workspace(tmp_path, WITH_IDS), list[str](), by_day.Reading._cut

    def noted(reading: by_day.Reading, relation: Relation, *more: Any) -> Any:
        asked.append(relation.sql)
        return cut(reading, relation, *more)

    monkeypatch.setattr(by_day.Reading, "_cut", noted)
    monkeypatch.setattr(lines, "GLIMPSE", SHARE)
    _write(work.state.data / "log.csv", lambda row: _plain(row) if row < COUNT // 2 else odd(row), COUNT)
    (table,) = read_in(work).tables
    assert (table.kept, table.quarantined) == (COUNT, 0)
    assert sorted(rows(work)["user_id"]) == list(range(COUNT))
    assert len(asked) == 2 and ["parallel=false" in sql for sql in asked] == [False, True]


def test_usual_files_are_read_once_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, asked, cut = workspace(tmp_path, WITH_IDS), list[str](), by_day.Reading._cut

    def noted(reading: by_day.Reading, relation: Relation, *more: Any) -> Any:
        asked.append(relation.sql)
        return cut(reading, relation, *more)

    monkeypatch.setattr(by_day.Reading, "_cut", noted)
    for number, line in enumerate((_plain, _quoted)):
        _write(work.state.data / f"log{number}.csv", line)
    read_in(work)
    assert len(asked) == 2 and not any("parallel=false" in sql for sql in asked)
    assert all(f"buffer_size={SHARE}" in sql for sql in asked)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a,b\n1,2\n", Lines(2, closed=True)),
        ("a,b\n1,2\n\n\n", Lines(2, closed=True)),
        ("a,b\n\n1,2", Lines(3, closed=True)),
        ('a,b\n"1","x ""y"", z"\n', Lines(2, closed=True)),
        ('a,b\n"",""\n', Lines(2, closed=True)),
        ('a,b\n1,"x\ny"\n', Lines(3, closed=True, broken=True)),
        ('a,b\n1,"x\ry"\n', Lines(2, closed=True, broken=True)),
        ('a,b\n1,"x\n' + "1,2\n" * SHARE + 'y"\n', Lines(SHARE + 3, closed=True, broken=True)),
        ('a,b\n1,"x\n', Lines(2, broken=True)),
        ('a,b\n1,5" x\n', Lines(2, broken=True)),
        ('a,b\n1,5" x 6"\n', Lines(2)),
        ('a,b\n1, "x"\n', Lines(2)),
        ('a,b\n"x" ,1\n', Lines(2)),
        ('5" disk,"a\nb",6" disk\n', Lines(2, broken=False)),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_look_tells_where_a_quote_may_hide_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, seen: Lines
) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv.gz").write_bytes(gzip.compress(text.encode()))
    (source,) = sources_of(work).files
    for block in (2**20, 7):
        if block == 7 and len(text) > 100:
            continue
        monkeypatch.setattr(reading, "CHUNK", block)
        looked = lines_of(source)
        assert (looked.closed, looked.may_share) == (seen.closed, seen.closed and not seen.broken)
        assert not seen.closed or replace(looked, long=False, ends=0) == seen
