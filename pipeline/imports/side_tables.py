"""A side table from files of any shape: profiles, a catalogue, campaigns.

Belongs here: reading it as a frame. Not here: what its rows mean (imports/sources.py), a log's tables (importing.py).
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from exfm.log_files import Files
from pipeline.imports.connection import connected, explained
from pipeline.imports.converting import Conversion, Target, conversion_of, names_of
from pipeline.imports.finding import SourceFile, find_files
from pipeline.imports.line_ends import SeveralEnds, reading_any_ends
from pipeline.imports.lines import by_one_thread, lines_of
from pipeline.imports.reading import naming, quoted, rejected_lines, relation_of
from pipeline.imports.selecting import KEPT, REASON, select_rows
from pipeline.tables import DataError

DOUBT = "exfm doubt"
NULLED = "null: "  # how the reason begins of a row that is kept, without a value that can't be read


@dataclass(frozen=True)
class TableRead:
    """The rows of one file of a side table.

    Args:
        refused: why -> how many rows can't be read, or lack a value that can't be read.
    """

    source: SourceFile
    frame: pl.DataFrame
    refused: Mapping[str, int]


def side_files(where: str, files: Files, folder: Path) -> list[SourceFile]:
    """The files of a side table.

    Raises:
        DataError: if a path names none.
    """
    return list(find_files(where, files, folder, []))


def read_side_table(where: str, files: Files, folder: Path, target: Target) -> list[TableRead]:
    """Read a side table, file by file.

    Args:
        where: how messages call it.

    Raises:
        DataError: if a file is damaged, or lacks a key.
    """
    sources = side_files(where, files, folder)
    if not sources:
        raise DataError(f"{where}: Files.paths name no file whose ending says of its kind: set Files.kind")
    with tempfile.TemporaryDirectory() as aside:
        read = partial(_read, target=target, aside=Path(aside))
        return [replace(reading_any_ends(source, Path(aside), read), source=source) for source in sources]


def _read(source: SourceFile, target: Target, aside: Path) -> TableRead:
    lines = lines_of(source)
    SeveralEnds.refuse(source, lines)
    with connected(aside) as connection:
        relation = relation_of(connection, source, [*names_of(source.files), *target.schema])
        if not relation.columns:
            return TableRead(source, pl.DataFrame(schema=dict(target.schema)), {})
        relation = by_one_thread(relation, lines)
        conversion, doubts = _without_doubts(conversion_of(connection, relation, source, target), target)
        rows = select_rows(relation, conversion, source, {DOUBT: doubts})
        with naming(source), explained(source):
            connection.execute(f"CREATE TEMP TABLE converted AS {rows}")
        refused = connection.sql(
            f"SELECT split_part({quoted(REASON)}, ':', 1), count(*) FROM converted WHERE {quoted(REASON)} IS NOT NULL "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        doubted = connection.sql(
            f"SELECT split_part({quoted(DOUBT)}, ':', 1), any_value({quoted(DOUBT)}), count(*) FROM converted "
            f"WHERE {quoted(KEPT)} AND {quoted(REASON)} IS NULL AND {quoted(DOUBT)} IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
        names = ", ".join(quoted(name) for name in target.schema)
        frame = connection.sql(f"SELECT {names} FROM converted WHERE {quoted(KEPT)} AND {quoted(REASON)} IS NULL").pl()
        cut = len(rejected_lines(connection))
    null = {f"{NULLED}{told} in {source.name}": int(count) for _, told, count in doubted}
    reasons = null | {str(why): int(count) for why, count in refused} | ({"no row of a CSV": cut} if cut else {})
    return TableRead(source, frame, reasons)


def _without_doubts(conversion: Conversion, target: Target) -> tuple[Conversion, str]:
    """A conversion that refuses a row for its keys and time alone, and an expression of what else can't be read.

    A price that is no number is no reason to lose a row's category.
    """
    needed = {*target.keys, target.clock}
    columns = tuple(
        column if column.name in needed else replace(column, bad="NULL::VARCHAR") for column in conversion.columns
    )
    doubts = [column.bad for column in conversion.columns if column.name not in needed]
    return replace(conversion, columns=columns), f"coalesce(NULL::VARCHAR{''.join(f', {each}' for each in doubts)})"
