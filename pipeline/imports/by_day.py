"""One file of a log, read once: its rows cut by UTC day into files aside, those that can't be read apart.

Belongs here: one pass over a file, in memory that does not grow with it. Not here: putting what it makes into the log
(importing.py), what a column becomes (converting.py).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from exfm.stream import Stream
from pipeline.imports.connection import explained, watched
from pipeline.imports.converting import Conversion, Target, conversion_of, names_of
from pipeline.imports.finding import SourceFile
from pipeline.imports.line_ends import SeveralEnds, reading_any_ends
from pipeline.imports.lines import Looking, by_one_thread, looked_through
from pipeline.imports.reading import (
    Relation,
    forget_lines,
    literal,
    naming,
    quoted,
    rejected_lines,
    relation_of,
)
from pipeline.imports.selecting import KEPT, RAW, REASON, select_rows
from pipeline.imports.values import hashed
from pipeline.tables import DataError

ROW_GROUP = 122_880
LEFT_OUT, REFUSED = "left-out", "refused"  # where the day of a row stands that is not in the log
DAY, ROW = "exfm day", "exfm row"
Parts = dict[str, list[tuple[Path, int]]]  # day, or what became of rows instead -> files, each with its rows


@dataclass(frozen=True)
class Counted:
    """What became of a file's rows.

    Args:
        parts: day -> files aside, each with its rows; ``refused``: the file aside of those that were.
    """

    rows: int = 0
    left_out: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    parts: Parts = field(default_factory=dict)
    refused: Path | None = None


@dataclass(frozen=True)
class Reading:
    """One file, read once: its rows cut by day, the refused ones apart.

    Args:
        named: by which ids are made.
    """

    connection: duckdb.DuckDBPyConnection
    source: SourceFile
    stream: Stream
    aside: Path
    named: str
    tell: Callable[[float], None]

    def read(self) -> Counted:
        """Read the whole file, convert each row or say why it can't be, and count.

        Raises:
            DataError: as ``Import.read``.
        """
        return reading_any_ends(self.source, self.aside, self._read_through, self._forget)

    def _read_through(self, source: SourceFile) -> Counted:
        reading = replace(self, source=source)
        with looked_through(source, self.connection.interrupt) as looked:
            SeveralEnds.refuse(source, looked.glimpsed.result())  # before DuckDB is lost in it
            try:
                counted = reading._read(looked)
            except Exception:
                SeveralEnds.refuse(source, looked.whole.result())  # that is why
                raise
            SeveralEnds.refuse(source, looked.whole.result())  # rows may be lost without a word
            return counted

    def _forget(self) -> None:
        forget_lines(self.connection)
        self.connection.execute("DROP TABLE IF EXISTS refused")
        shutil.rmtree(self.aside / "days", ignore_errors=True)

    def _read(self, looked: Looking) -> Counted:
        target = Target.of_log(self.stream, self.source.table)
        relation = relation_of(self.connection, self.source, [*names_of(self.source.files), *target.schema])
        if not relation.columns:
            return Counted()  # an empty file
        conversion = conversion_of(self.connection, relation, self.source, target)
        relation, parts = self._cut_whole(relation, conversion, target, looked)
        left_out = sum(rows for _, rows in parts.pop(LEFT_OUT, []))
        refused, reasons = None, dict[str, int]()
        if parts.pop(REFUSED, []) or rejected_lines(self.connection):
            refused, reasons = self._refused(relation, conversion)
        kept = sum(rows for paths in parts.values() for _, rows in paths)
        rows = kept + left_out + sum(reasons.values())
        return Counted(rows, left_out, reasons, conversion.lacking, parts, refused)

    def _cut_whole(
        self, relation: Relation, conversion: Conversion, target: Target, looked: Looking
    ) -> tuple[Relation, Parts]:
        """The parts, cut by several threads where they may and lose no row; and what to read again if need be."""
        parts, may = None, relation.shared is not None and not conversion.made_id
        # All of it is looked through while it is read: waiting for that would leave a processor idle.
        if may and looked.glimpsed.result().may_share:
            try:
                parts = self._cut(replace(relation, sql=relation.shared or relation.sql), conversion, target)
            except DataError:
                if looked.whole.result().may_share:
                    raise
        lines = looked.whole.result()
        relation = by_one_thread(relation, lines)
        if parts is not None:
            rows = sum(rows for paths in parts.values() for _, rows in paths) + len(rejected_lines(self.connection))
            if lines.may_share and rows == lines.count - relation.head:
                return relation, parts
        if may:
            self._forget()
        return relation, self._cut(relation, conversion, target)

    def _cut(self, relation: Relation, conversion: Conversion, target: Target) -> Parts:
        """Every row into its day's files aside, or to those of what became of it instead."""
        with naming(self.source), explained(self.source), watched(self.connection, self.tell):
            self.connection.execute(
                f"COPY ({self._by_day(relation, conversion, target)}) TO {literal(str(self.aside / 'days'))} "
                f"(FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({quoted(DAY)}), ROW_GROUP_SIZE {ROW_GROUP})"
            )
        return self._parts()

    def _by_day(self, relation: Relation, conversion: Conversion, target: Target) -> str:
        """Every row in one pass, with its UTC day, or what became of it instead."""
        columns, rows = [quoted(column.name) for column in conversion.columns], self._rows(relation, conversion)
        if conversion.made_id:
            named = hashed(f"{literal(self.named)} || '|' || {quoted(ROW)}")
            columns, rows = [f"{named} AS impression_id", *columns], self._rows(relation, conversion, counted=True)
        assert target.clock is not None
        day = (
            f"CASE WHEN NOT {quoted(KEPT)} THEN '{LEFT_OUT}' WHEN {quoted(REASON)} IS NOT NULL THEN '{REFUSED}' "
            f"ELSE strftime({quoted(target.clock)}::DATE, '%Y-%m-%d') END"
        )
        return f"SELECT {', '.join(columns)}, {day} AS {quoted(DAY)} FROM {rows}"

    def _rows(self, relation: Relation, conversion: Conversion, *, counted: bool = False) -> str:
        """All rows; ``counted``: with their places. Counting makes one thread read a text, so it is done on demand."""
        if not counted:
            return f"({select_rows(relation, conversion, self.source)})"
        if relation.row is not None:
            return f"({select_rows(relation, conversion, self.source, {ROW: relation.row})})"
        return (
            f"(SELECT *, row_number() OVER () AS {quoted(ROW)} FROM ({select_rows(relation, conversion, self.source)}))"
        )

    def _parts(self) -> Parts:
        found: Parts = {}
        for path in sorted((self.aside / "days").glob("*/*.parquet")):
            day = path.parent.name.rpartition("=")[2]
            found.setdefault(day, []).append((path, pq.read_metadata(path).num_rows))
        return found

    def _refused(self, relation: Relation, conversion: Conversion) -> tuple[Path, dict[str, int]]:
        """The rows that were refused, with the reason, where they stood and what they were; and how many for what."""
        lines = rejected_lines(self.connection)
        rows = self._rows(relation, conversion, counted=True)
        self.connection.execute(
            f"CREATE TEMP TABLE refused AS SELECT {quoted(REASON)} AS reason, {quoted(ROW)}::BIGINT AS row, "
            f"NULL::BIGINT AS line, {quoted(RAW)} AS raw FROM {rows} WHERE {quoted(REASON)} IS NOT NULL"
        )
        if lines:
            why, number, text = ([line[place] for line in lines] for place in (1, 0, 2))
            self.connection.execute(
                "INSERT INTO refused (reason, line, raw) "
                "SELECT 'no row of a CSV: ' || unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[])",
                [why, number, text],
            )
        path = self.aside / "refused.parquet"
        query = f"SELECT reason, {literal(self.source.name)} AS file, row, line, raw FROM refused ORDER BY row, line"
        self.connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        counted = self.connection.sql(
            "SELECT split_part(reason, ':', 1) AS kind, count(*) AS many FROM refused GROUP BY kind "
            "ORDER BY many DESC, kind"
        ).fetchall()
        return path, {str(kind): int(many) for kind, many in counted}
