"""A file of a log as a relation of DuckDB: every row, in the file's order, with the columns that it has.

Belongs here: CSV, JSON lines and parquet, plain or compressed. Not here: which files (finding.py), what becomes of
their columns (converting.py).

Texts stay texts: what a column is, the declaration says, not a guess from its first rows.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from exfm.writing import StateError, unwritable
from pipeline.imports.connection import refusal_of
from pipeline.imports.finding import SourceFile
from pipeline.tables import DataError

LONGEST_LINE = 16 * 2**20  # bytes
CHUNK = 2**18
BUFFER = 2 * LONGEST_LINE  # bytes that one thread is given at once
# Of several threads: of so many bytes each has several of a file of some 100 MB, and none is idle at its end.
LONGEST_SHARED = 4 * 2**20
LOOKED_AT = 1_000  # lines of a JSON file from which its names are known
LINE = "exfm line"  # the whole line of a JSON file, or of a CSV where that can't be cut
FILENAME = "filename"  # a column of every file: its path below EXFM_DATA
REJECTED, SCANNED = "rejected", "scanned"


@dataclass(frozen=True)
class Relation:
    """What a file's rows can be selected from.

    Args:
        sql: what stands after ``FROM``.
        columns: name -> type, as DuckDB calls it; those of folders among them. None: the file is empty.
        bad: an expression that tells rows that are none, ``NULL`` for the others.
        raw: an expression of a row as it was read, as JSON.
        row: an expression of its place in the file, from 1 on; ``None`` where only counting tells.
        shared, alone: as ``sql``, of a CSV that several threads cut into rows, or one from its start on (lines.py).
        head: lines before the first row.
    """

    sql: str
    columns: Mapping[str, str]
    bad: str
    raw: str
    row: str | None = None
    shared: str | None = None
    alone: str | None = None
    head: int = 0


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | None) -> str:
    """A text as SQL has it."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def place_of(path: Path) -> str:
    """A file as DuckDB takes it, to whom ``*``, ``?`` and ``[`` in its name mean no pattern."""
    return literal("".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path)))


def relation_of(connection: duckdb.DuckDBPyConnection, source: SourceFile, wanted: Iterable[str]) -> Relation:
    """Open a file.

    Args:
        wanted: names that the declaration uses: of JSON, also those that only later lines have.

    Raises:
        DataError: if the file is damaged, or is not of its kind.
    """
    with naming(source):
        readers = {"csv": _csv, "json": _json, "parquet": _parquet}
        relation = readers[source.kind](connection, source, list(wanted))
    if not relation.columns:
        return relation
    told = {FILENAME: source.name, **source.levels}
    levels = {name: value for name, value in told.items() if name.lower() not in map(str.lower, relation.columns)}
    added = "".join(f", {literal(value)}::VARCHAR AS {quoted(name)}" for name, value in levels.items())
    columns = {**relation.columns, **dict.fromkeys(levels, "VARCHAR")}
    shared, alone = (text and f"(SELECT *{added} FROM {text})" for text in (relation.shared, relation.alone))
    sql = f"(SELECT *{added} FROM {relation.sql})"
    return replace(relation, sql=sql, columns=columns, shared=shared, alone=alone)


_DAMAGE = (
    duckdb.IOException, duckdb.InvalidInputException, EOFError, gzip.BadGzipFile, zlib.error, csv.Error, UnicodeError,
)  # fmt: skip


class naming:
    """Damage as a sentence that names the file."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        remedy = "write it again, or begin its name with '_' to leave it out"
        if isinstance(error, duckdb.Error) and (refused := refusal_of(error)) is not None:
            raise StateError(unwritable(self._source.folder, refused)) from error
        if isinstance(error, OSError) and not isinstance(error, _DAMAGE) and error.errno is not None:
            why = error.strerror or str(error)
            raise DataError(f"{self._source.name} can't be read ({why}): make it readable") from error
        if isinstance(error, _DAMAGE) or (isinstance(error, OSError) and error.errno is None):
            told = str(error).splitlines()[0].replace(str(self._source.folder) + "/", "")
            raise DataError(
                f"{self._source.name} is not a whole {self._source.kind} file ({told}): {remedy}"
            ) from error


def _csv(connection: duckdb.DuckDBPyConnection, source: SourceFile, wanted: list[str]) -> Relation:
    skipped, names = 0, list(source.files.header)
    if not names:
        skipped, names = _header(source)
    if not names:
        return Relation("(SELECT NULL::VARCHAR AS nothing WHERE false)", {}, "NULL::VARCHAR", "NULL::VARCHAR")
    types = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"
    header = not source.files.header
    sql, shared, alone = (
        _read_csv(source, types, source.separator, '"', header=header, skip=skipped, longest=longest, threads=threads)
        for longest, threads in (
            (LONGEST_LINE, ""),
            (LONGEST_SHARED, f"buffer_size={2 * LONGEST_SHARED}, "),
            (LONGEST_LINE, f"buffer_size={BUFFER}, parallel=false, "),
        )
    )
    row, columns = ", ".join(f"{literal(name)}, {quoted(name)}" for name in names), dict.fromkeys(names, "VARCHAR")
    raw = f"json_object({row})"
    return Relation(sql, columns, "NULL::VARCHAR", raw, shared=shared, alone=alone, head=skipped + header)


def _read_csv(
    source: SourceFile,
    types: str,
    separator: str,
    quote: str,
    *,
    header: bool,
    skip: int = 0,
    longest: int | None = None,
    threads: str = "",
) -> str:
    """A call that reads lines as they are: nothing is detected, what can't be cut is set aside."""
    return (
        f"read_csv({place_of(source.path)}, auto_detect=false, hive_partitioning=false, columns={types}, "
        f"header={str(header).lower()}, skip={skip}, delim={literal(separator)}, quote={literal(quote)}, "
        f"escape={literal(quote)}, encoding={literal(source.files.encoding)}, nullstr='', "
        f"{threads}max_line_size={longest or LONGEST_LINE}, store_rejects=true, rejects_table={literal(REJECTED)}, "
        f"rejects_scan={literal(SCANNED)}, compression={literal(_compression(source.path.name))})"
    )


def header_of(source: SourceFile) -> list[str]:
    """The names in the first line of a CSV, without the spaces around them; ``column_0`` where one is empty.

    Raises:
        DataError: if two columns have one name: DuckDB does not tell capital letters apart.
    """
    return _header(source)[1]


def _header(source: SourceFile) -> tuple[int, list[str]]:
    """How many blank lines a CSV begins with, and the names after them."""
    csv.field_size_limit(LONGEST_LINE)
    with closing(_text(source)) as text:
        rows = csv.reader(text, delimiter=source.separator)
        skipped, first = next(((number, row) for number, row in enumerate(rows) if any(map(str.strip, row))), (0, []))
    names = [name.strip() or f"column_{place}" for place, name in enumerate(first)]
    seen: dict[str, str] = {}
    for name in names:
        if seen.setdefault(name.lower(), name) != name or names.count(name) > 1:
            raise DataError(
                f"{source.name}: two columns are called {name!r} (capital letters don't count): give "
                "Files.header other names, and leave the first line out by where"
            )
    return skipped, names


def _text(source: SourceFile) -> io.TextIOWrapper:
    encoding = {"utf-8": "utf-8-sig", "utf-16": "utf-16", "latin-1": "latin-1"}[source.files.encoding]
    binary = _plain(source.path.open("rb"), _compression(source.path.name))
    return io.TextIOWrapper(binary, encoding=encoding, errors="replace", newline="")


def _plain(binary: Any, compression: str) -> Any:
    """What a file holds."""
    if compression == "gzip":
        return gzip.GzipFile(fileobj=binary)
    return binary if compression == "none" else io.BufferedReader(pa.CompressedInputStream(binary, "zstd"))


def blocks_of(source: SourceFile) -> Iterator[bytes]:
    """What a file holds, uncompressed, piece by piece."""
    compression = _compression(source.path.name)
    with source.path.open("rb") as binary, closing(_plain(binary, compression)) as plain:
        while block := plain.read(CHUNK):
            yield block


def is_compressed(source: SourceFile) -> bool:
    """Is a text compressed?"""
    return source.kind != "parquet" and _compression(source.path.name) != "none"


def _compression(name: str) -> str:
    return {".gz": "gzip", ".zst": "zstd"}.get(Path(name).suffix.lower(), "none")


def _json(connection: duckdb.DuckDBPyConnection, source: SourceFile, wanted: list[str]) -> Relation:
    lines = _read_csv(source, f"{{{literal(LINE)}: 'VARCHAR'}}", "\x01", "", header=False)
    line = quoted(LINE)
    lines = f"(SELECT * FROM {lines} WHERE trim(coalesce({line}, '')) <> '')"
    # A CASE, for the parts of an AND are asked in any order.
    ok = f"coalesce(CASE WHEN json_valid({line}) THEN json_type({line}) END = 'OBJECT', false)"
    known = connection.sql(
        f"SELECT DISTINCT unnest(json_keys(CASE WHEN {ok} THEN {line} END)) "
        f"FROM (SELECT {line} FROM {lines} LIMIT {LOOKED_AT})"
    ).fetchall()
    early = {str(name) for (name,) in known if name}
    outside = {FILENAME, *source.levels}  # what a folder says, or the file's own path
    late = [name for name in dict.fromkeys(wanted) if name not in early and name not in outside]
    if late:  # is one of them in a later line?
        asked = ", ".join(
            f"bool_or(CASE WHEN {ok} THEN json_exists({line}, {literal(_json_path(name))}) END)" for name in late
        )
        there = connection.sql(f"SELECT {asked} FROM {lines}").fetchall()[0]
        late = [name for name, found in zip(late, there, strict=True) if found]
    names: dict[str, None] = {}
    lowered: set[str] = set()  # DuckDB does not tell capital letters apart: what is declared goes before what is not
    for name in [*(name for name in dict.fromkeys(wanted) if name in early), *late, *sorted(early)]:
        if name.lower() not in lowered:
            lowered.add(name.lower())
            names[name] = None
    forget_lines(connection)
    values = "".join(
        f", CASE WHEN {ok} THEN json_extract_string({line}, {literal(_json_path(name))}) END AS {quoted(name)}"
        for name in names
    )
    bad = f"CASE WHEN NOT {ok} THEN 'no JSON object' END"
    return Relation(f"(SELECT {line}{values} FROM {lines})", dict.fromkeys(names, "VARCHAR"), bad, line)


def _json_path(name: str) -> str:
    return name if name.startswith(("$.", "$[")) else "$." + json.dumps(name, ensure_ascii=False)


def _parquet(connection: duckdb.DuckDBPyConnection, source: SourceFile, wanted: list[str]) -> Relation:
    sql = f"read_parquet({place_of(source.path)}, hive_partitioning=false, file_row_number=true)"
    described = connection.sql(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {sql}").fetchall()
    columns = {str(row[0]): str(row[1]) for row in described}
    row = ", ".join(f"{literal(name)}, {quoted(name)}" for name in columns)
    return Relation(sql, columns, "NULL::VARCHAR", f"json_object({row})", "file_row_number + 1")


def forget_lines(connection: duckdb.DuckDBPyConnection) -> None:
    """Forget the lines of a CSV that could not be cut, before a file is read, or read again."""
    for table in (REJECTED, SCANNED):
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def rejected_lines(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str, str]]:
    """Lines of the last CSV that could not be cut into columns: number, why, the line."""
    try:
        found = connection.sql(
            f"SELECT line, min(error_type::VARCHAR), any_value(csv_line) FROM {REJECTED} GROUP BY line ORDER BY line"
        ).fetchall()
    except duckdb.CatalogException:
        return []
    return [(int(line), _spans(str(why).lower().replace("_", " "), str(text)), str(text)) for line, why, text in found]


def _spans(why: str, text: str) -> str:
    """A quote that is not closed takes the lines after it along."""
    lines = text.strip().count("\n") + 1
    return why if lines == 1 else f"{why}, over {lines:,} lines"
