"""Some rows of a shape's files, from their beginning, middle and end, as a table of DuckDB.

Belongs here: which rows are looked at, in bounded time however large the files are. Not here: what they say
(looking.py).
"""

import gzip
import io
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.drafting.shapes import Shape
from pipeline.imports.finding import SourceFile
from pipeline.imports.line_ends import SeveralEnds, reading_any_ends
from pipeline.imports.lines import lines_of
from pipeline.imports.reading import (
    FILENAME,
    REJECTED,
    SCANNED,
    Relation,
    literal,
    naming,
    quoted,
    rejected_lines,
    relation_of,
)
from pipeline.tables import DataError

ROWS = 20_000  # that are looked at of one shape
FILES = 9  # of which they are
WHOLE = 12 * 2**20  # bytes of a file that is looked at as a whole
WHOLE_PACKED = 3 * 2**20
PIECE = 4 * 2**20  # bytes of each of three pieces of a larger one
UNPACKED = 64 * 2**20  # bytes of a packed file that are looked through
ENDS = 10  # rows at both ends of a piece that are always looked at
NESTED = 3  # levels of objects in a JSON line


@dataclass(frozen=True)
class Origin:
    """Where a column that was looked at comes from: its name (or path) in the files, or an expression."""

    of: str | None = None
    sql: str | None = None


@dataclass(frozen=True)
class Sample:
    """Rows of a shape.

    Args:
        table: of DuckDB; each column by its name in ``origins``.
        rows: that are in it; ``broken``: lines that are none.
        estimated: how many rows all files have, by their bytes.
        files: of how many of them.
        by_file: rows of each file that was looked at.
    """

    table: str
    origins: dict[str, Origin]
    kinds: dict[str, str]
    rows: int
    broken: int
    estimated: int
    files: int


def take_sample(connection: duckdb.DuckDBPyConnection, shape: Shape, table: str, aside: Path) -> Sample:
    """Look at some rows of some files.

    Args:
        table: what the sample is called.
        aside: a folder for pieces of large files.

    Raises:
        DataError: if a file is damaged, or no row of it can be read.
    """
    chosen = _spread(shape.sources)
    each, seen, broken, looked, origins = max(ROWS // len(chosen), 1), 0, 0, 0, dict[str, Origin]()
    connection.execute(f"DROP TABLE IF EXISTS {table}")
    for number, source in enumerate(chosen):
        pieces = list(_pieces(source, aside / f"{table}-{number}", each))
        looked += sum(piece.path.stat().st_size for piece in pieces) if len(pieces) > 1 else _share(source, pieces[0])
        add = partial(_add, connection, source, table=table, most=each // len(pieces), origins=origins)
        for piece in pieces:
            with naming(source):
                kept, lost = reading_any_ends(piece, aside / f"{table}-{number}", add)
            seen, broken = seen + kept, broken + lost
    if broken > seen:
        raise DataError(
            f"{shape.title}: {broken:,} of {seen + broken:,} lines looked at are no rows of {chosen[0].kind}: mend "
            "them (JSON has one object a line), or begin their name with '_' to leave them out"
        )
    rows = int(connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0])
    if not rows:
        raise DataError(f"{shape.title}: there is no row in it: name files that have some")
    kinds = {str(row[0]): str(row[1]) for row in connection.sql(f"DESCRIBE {table}").fetchall()}
    estimated = max(seen, round(seen * shape.bytes / max(looked, 1)))
    shutil.rmtree(aside, ignore_errors=True)
    return Sample(table, origins, kinds, rows, broken, estimated, len(chosen))


def _spread(sources: tuple[SourceFile, ...]) -> list[SourceFile]:
    """The first, the last and files evenly between."""
    if len(sources) <= FILES:
        return list(sources)
    return [sources[round(place * (len(sources) - 1) / (FILES - 1))] for place in range(FILES)]


def _share(source: SourceFile, piece: SourceFile) -> int:
    """How many bytes of a file a piece of it stands for."""
    return source.path.stat().st_size if piece.path == source.path else piece.path.stat().st_size


def _add(
    connection: duckdb.DuckDBPyConnection,
    source: SourceFile,
    piece: SourceFile,
    table: str,
    most: int,
    origins: dict[str, Origin],
) -> tuple[int, int]:
    """Add a piece's rows to a sample: how many it has, and lines that are none."""
    SeveralEnds.refuse(piece, lines_of(piece))
    connection.execute(f"DROP TABLE IF EXISTS {REJECTED}")
    connection.execute(f"DROP TABLE IF EXISTS {SCANNED}")
    relation, found = _opened(connection, piece)
    origins.update(found)
    values = [f"{origin.sql or quoted(str(origin.of))} AS {quoted(name)}" for name, origin in found.items()]
    values += [f"{literal(source.name)} AS {quoted(FILENAME)}", f"({relation.bad}) IS NOT NULL AS {quoted('exfm bad')}"]
    rows = f"SELECT {', '.join(values)} FROM {relation.sql}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE piece AS {rows}")
    lost = len(rejected_lines(connection))
    many, bad = connection.sql(f"SELECT count(*), count(*) FILTER ({quoted('exfm bad')}) FROM piece").fetchall()[0]
    # The ends, too: the first and the newest row are often there.
    drawn = f"SELECT rowid FROM piece USING SAMPLE reservoir({max(most, 1)} ROWS) REPEATABLE (1)"
    picked = (
        f"SELECT * EXCLUDE ({quoted('exfm bad')}) FROM piece WHERE NOT {quoted('exfm bad')} AND "
        f"(rowid IN ({drawn}) OR rowid < {ENDS} OR rowid >= {many - ENDS})"
    )
    exists = connection.sql(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'").fetchall()[0][0]
    if exists:
        picked = f"SELECT * FROM {table} UNION ALL BY NAME ({picked})"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {picked}")
    return int(many) - int(bad), int(bad) + lost


def _opened(connection: duckdb.DuckDBPyConnection, piece: SourceFile) -> tuple[Relation, dict[str, Origin]]:
    """A piece, and its columns; of objects inside rows, what they hold."""
    relation, paths = relation_of(connection, piece, []), list[str]()
    if piece.kind == "json":
        for _ in range(NESTED):
            inside = _inside(connection, relation)
            if not inside - {*paths}:
                break
            paths = sorted({*paths, *inside})
            relation = relation_of(connection, piece, paths)
        parents = {path.rpartition(".")[0] for path in paths} | {_last(path.rpartition(".")[0]) for path in paths}
        names = [name for name in relation.columns if name not in parents and name != FILENAME]
        return relation, {name: Origin(of=name) for name in names}
    found: dict[str, Origin] = {}
    for name, kind in relation.columns.items():
        if kind.startswith("STRUCT") and not kind.endswith("]"):
            described = connection.sql(f"DESCRIBE SELECT unnest({quoted(name)}) FROM {relation.sql}").fetchall()
            found |= {f"{name}.{row[0]}": Origin(sql=f"{quoted(name)}.{quoted(str(row[0]))}") for row in described}
        elif name != FILENAME:
            found[name] = Origin(of=name)
    return relation, found


def _last(path: str) -> str:
    return path.removeprefix("$.").replace('"', "")


def _inside(connection: duckdb.DuckDBPyConnection, relation: Relation) -> set[str]:
    """Paths of what the objects in a JSON file's columns hold."""
    paths = set()
    for name in relation.columns:
        value = quoted(name)
        found = connection.sql(
            f"SELECT DISTINCT unnest(json_keys({value})) FROM (SELECT {value} FROM {relation.sql} "
            f"WHERE starts_with({value}, '{{') AND json_valid({value}) LIMIT 300)"
        ).fetchall()
        parent = name if name.startswith("$") else "$." + _step(name)
        paths |= {f"{parent}.{_step(str(key))}" for (key,) in found}
    return paths


def _step(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and name.isascii() else f'"{name}"'


def _pieces(source: SourceFile, aside: Path, rows: int) -> Iterator[SourceFile]:
    """The file itself, or three pieces of it beside."""
    size, packed = source.path.stat().st_size, source.name.endswith((".gz", ".zst"))
    if size <= (WHOLE_PACKED if packed else WHOLE):
        yield source
    elif source.kind == "parquet":
        yield from _pieces_of_parquet(source, aside, rows)
    else:
        with naming(source):
            yield from _pieces_of_text(source, aside, size, packed=packed)


def _pieces_of_parquet(source: SourceFile, aside: Path, rows: int) -> Iterator[SourceFile]:
    try:
        with closing(pq.ParquetFile(source.path)) as file:
            last = file.num_row_groups - 1
            for number, group in enumerate(sorted({0, last // 2, last})):
                for batch in file.iter_batches(batch_size=max(rows // 3, 1), row_groups=[group]):
                    piece = _piece(source, aside / str(number), source.name)
                    pq.write_table(pa.Table.from_batches([batch]), piece.path)
                    yield piece
                    break
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{source.name} is not a whole parquet file ({error}): write it again, or begin its name with '_'"
        ) from error


def _piece(source: SourceFile, folder: Path, name: str) -> SourceFile:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return replace(source, folder=folder, name=name, levels=dict(source.levels))


def _pieces_of_text(source: SourceFile, aside: Path, size: int, *, packed: bool) -> Iterator[SourceFile]:
    """Whole lines from three places, below the first line of a CSV."""
    name = source.name.removesuffix(".gz").removesuffix(".zst")
    with closing(_binary(source)) as binary:
        head = binary.readline() if source.kind == "csv" else b""
        places = (len(head), UNPACKED // 4, UNPACKED - PIECE) if packed else (len(head), size // 2, size - PIECE)
        at = len(head)
        for number, place in enumerate(places):
            if packed:
                while at < place and (skipped := binary.read(min(place - at, 2**20))):
                    at += len(skipped)
            else:
                binary.seek(place)
            if number:
                at += len(binary.readline())
            text = binary.read(PIECE)
            at += len(text)
            if lines := text[: text.rfind(b"\n") + 1]:
                piece = _piece(source, aside / str(number), name)
                piece.path.write_bytes(head + lines)
                yield piece


def _binary(source: SourceFile) -> Any:
    if source.name.endswith(".gz"):
        return gzip.open(source.path)
    if source.name.endswith(".zst"):
        return io.BufferedReader(pa.CompressedInputStream(source.path.open("rb"), "zstd"))
    return source.path.open("rb")
