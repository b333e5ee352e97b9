"""Rows that could not be read in, mended: read again in the place of those that were refused.

Belongs here: listing them, reading them again under their file's declaration. Not here: rows that were read and break
the contract (slices/refused_rows.py).
"""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from exfm.writing import StateError, alone, unwritable
from pipeline.imports.connection import connected, explained, refusing
from pipeline.imports.converting import Target, conversion_of, names_of
from pipeline.imports.entries import OF_SEVERAL, Entry, made_of, read_entries, write_entry
from pipeline.imports.finding import SourceFile, kind_of, levels_of, tables_to_import
from pipeline.imports.importing import quarantine_path
from pipeline.imports.mended import Kept, keep
from pipeline.imports.reading import Relation, header_of, literal, naming, quoted, relation_of
from pipeline.imports.selecting import KEPT, REASON, select_rows
from pipeline.imports.values import hashed
from pipeline.streams.contract import TIME
from pipeline.tables import DataError, write_parquet
from pipeline.workspace import Workspace

MENDED_PART = "-mended"  # in the name of a part of the log with such rows
PLACE = "exfm place"  # among a mended row's values: the row's place in its file


@dataclass(frozen=True)
class Refused:
    """A row that could not be read in.

    Args:
        place: of the row in its file; of a line that can't be cut into columns, the line's.
        values: by the file's own names; the line's text where it can't be cut.
    """

    table: str
    file: str
    place: str
    reason: str
    values: Mapping[str, Any] | str

    def plain(self) -> dict[str, Any]:
        """As a line of JSON has it."""
        return {"table": self.table, "file": self.file, "place": self.place, "reason": self.reason,
                "values": self.values}  # fmt: skip


def refused_rows(work: Workspace, table: str) -> Iterator[Refused]:
    """The rows of a table's files that could not be read in."""
    for entry in read_entries(work.state.log, table).values():
        yield from refused_of(work, entry)


def refused_of(work: Workspace, entry: Entry) -> Iterator[Refused]:
    """Those of one file, but those that are in the log by now, if a mending was killed before it took them out here."""
    path, mended = quarantine_path(work.state.log, entry.table, entry.name), set(entry.mended)
    if path.is_file():
        rows = (_refused(entry, row) for row in pl.read_parquet(path, glob=False).iter_rows(named=True))
        yield from (row for row in rows if row.place not in mended)


def _refused(entry: Entry, row: Mapping[str, Any]) -> Refused:
    place = f"row {row['row']}" if row["row"] is not None else f"line {row['line']}"
    values = row["raw"]
    if row["row"] is not None:
        try:
            parsed = json.loads(row["raw"])
            values = parsed if isinstance(parsed, dict) else row["raw"]
        except (TypeError, ValueError):
            pass
    return Refused(entry.table, entry.name, place, row["reason"], values)


@dataclass(frozen=True)
class Mended:
    """What came of mended rows.

    Args:
        read: how many are in the log now; ``still``: those that still can't be read, with the new reason; ``unknown``:
            how many were mended before, or are no rows of the quarantine; ``unchanged``: how many are as they were.
    """

    read: int = 0
    still: tuple[Refused, ...] = ()
    unknown: int = 0
    unchanged: int = 0


def mend(work: Workspace, rows: Sequence[Refused]) -> Mended:
    """Read mended rows in. Safe to do again. They are kept: a file that is read anew gets them again.

    Raises:
        DataError: if a row's file is not known, or was read under another declaration.
        StateError: if the log's folder can't be written.
    """
    by_file: dict[tuple[str, str], list[Refused]] = {}
    for row in rows:
        by_file.setdefault((row.table, row.file), []).append(row)
    results: list[Mended] = []
    with alone(work.state.log / "_reading.lock", "mending rows"):
        entries = {table: read_entries(work.state.log, table) for table in tables_to_import(work)}
        for (table, file), mended in by_file.items():
            if file not in entries.get(table, {}):
                raise DataError(f"{table}: {file!r} is no file that was read in: `exfm quarantine` lists them")
            results.append(mend_file(work, entries[table][file], mended)[1])
    return Mended(
        sum(each.read for each in results),
        tuple(row for each in results for row in each.still),
        sum(each.unknown for each in results),
        sum(each.unchanged for each in results),
    )


def mend_file(work: Workspace, entry: Entry, rows: list[Refused]) -> tuple[Entry, Mended]:
    """Read mended rows of one file in: its entry from then on, and what came of them; raises as ``mend``."""
    table, file = entry.table, entry.name
    source = _source(work, table, entry)
    kept_aside = quarantine_path(work.state.log, table, file)
    known = {each.place: each for each in refused_of(work, entry)}
    in_quarantine = {row.place: row for row in rows if row.place in known}
    mended = {place: row for place, row in in_quarantine.items() if row.values != known[place].values}
    unknown, unchanged = len(rows) - len(in_quarantine), len(in_quarantine) - len(mended)
    cut = {place: _cut(row, source) for place, row in mended.items()}
    uncut = tuple(replace(mended[place], reason=why) for place, why in cut.items() if isinstance(why, str))
    mended = {place: mended[place] for place, values in cut.items() if not isinstance(values, str)}
    if not mended:
        return entry, Mended(0, uncut, unknown, unchanged)
    with tempfile.TemporaryDirectory() as aside:
        try:
            sound, reasons = _convert(work, source, entry, list(mended.values()), Path(aside))
        except OSError as error:
            raise StateError(unwritable(Path(aside), error)) from error
    places = sound[PLACE].to_list()
    made = [Kept(place, known[place].values, mended[place].values, entry.sha256) for place in places]
    keep(work.state.log, table, file, made)  # before they are in the log, so that none of those is not kept
    written, done = _write(work, entry, sound), (*entry.mended, *places)
    left = _without(pl.read_parquet(kept_aside, glob=False), done)
    reasons_left = Counter(reason.partition(":")[0] for reason in left["reason"])
    written = {**entry.written, **written}
    entry = replace(entry, reasons=dict(reasons_left), written=written, mended=done)
    write_entry(work.state.log, entry)
    take_out(kept_aside, done)
    still = tuple(replace(row, reason=reasons[place]) for place, row in mended.items() if place in reasons)
    return entry, Mended(sound.height, (*uncut, *still), unknown, unchanged)


def _without(refused: pl.DataFrame, places: Sequence[str]) -> pl.DataFrame:
    """Refused rows but those of some places."""
    place = pl.coalesce(pl.format("row {}", "row"), pl.format("line {}", "line"))
    return refused.filter(~place.is_in(places))


def take_out(path: Path, places: Sequence[str]) -> None:
    """Take rows of some places out of the file of those that were refused."""
    refused = pl.read_parquet(path, glob=False)
    left = _without(refused, places)
    if left.is_empty():
        path.unlink()
    elif left.height < refused.height:
        write_parquet(left, path)


def _source(work: Workspace, table: str, entry: Entry) -> SourceFile:
    """A file under the declaration by which it was read; it may be gone."""
    assert work.project.log is not None
    for files in work.project.log.files(table):
        kind = files.kind if files.kind not in (None, "delta") else kind_of(entry.name)
        source = SourceFile(table, files, work.state.data, entry.name, kind or "csv", levels_of(entry.name))
        if entry.made_of in {made_of(source, work.project.stream, of_several) for of_several in (OF_SEVERAL, 0)}:
            return source
    raise DataError(f"{table}: {entry.name} was read under another declaration: run `exfm import` first")


def _convert(
    work: Workspace, source: SourceFile, entry: Entry, rows: list[Refused], aside: Path
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows that can be read now, with their place, and why the others can't: place -> reason."""
    target = Target.of_log(work.project.stream, source.table)
    path = aside / "mended.jsonl"
    lines = [{**values, PLACE: row.place} for row in rows if isinstance(values := _cut(row, source), dict)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    names = dict.fromkeys(name for line in lines for name in line)
    with connected(aside) as connection, refusing(source), explained(source):
        as_json = replace(source, kind="json", at=path)
        relation = relation_of(connection, as_json, [*names, *names_of(source.files)])
        relation = _typed(relation, connection, source)
        conversion = conversion_of(connection, relation, as_json, target)
        query = select_rows(relation, conversion, as_json, {PLACE: quoted(PLACE)})
        connection.execute(f"CREATE TEMP TABLE mended AS {query}")
        made = [quoted(column.name) for column in conversion.columns]
        if conversion.made_id:
            place = f"replace({quoted(PLACE)}, 'row ', '')"
            named = hashed(f"{literal(entry.named or entry.name)} || '|' || {place}")
            made = [f"{named} AS impression_id", *made]
        sound = connection.sql(
            f"SELECT {', '.join(made)}, {quoted(PLACE)} FROM mended WHERE {quoted(KEPT)} AND {quoted(REASON)} IS NULL"
        ).pl()
        wrong = connection.sql(
            f"SELECT {quoted(PLACE)}, coalesce({quoted(REASON)}, 'left out by Files.where') FROM mended "
            f"WHERE NOT {quoted(KEPT)} OR {quoted(REASON)} IS NOT NULL"
        ).fetchall()
    return sound, {str(place): str(reason) for place, reason in wrong}


def _cut(row: Refused, source: SourceFile) -> dict[str, Any] | str:
    """A row's values by name, of a line's text cut as its file is; or why that can't be cut."""
    if not isinstance(row.values, str):
        return {name: value for name, value in row.values.items() if value is not None}
    if source.kind == "json":
        try:
            parsed = json.loads(row.values)
        except ValueError:
            parsed = None
        return parsed if isinstance(parsed, dict) else "no JSON object"
    with naming(source):
        names = list(source.files.header) or header_of(source)
    values = next(csv.reader([row.values], delimiter=source.separator), [])
    if len(values) != len(names):
        return f"it has {len(values)} columns, not {len(names)}: write {source.separator.join(names)}"
    return dict(zip(names, values, strict=True))


def _typed(relation: Relation, connection: Any, source: SourceFile) -> Relation:
    """With the types of the file's own columns, for expressions over them."""
    if source.kind != "parquet" or not source.path.is_file():
        return relation
    types = {
        name: kind
        for name, kind in relation_of(connection, source, ()).columns.items()
        if name in relation.columns and kind != "VARCHAR"
    }
    cast = ", ".join(f"try_cast({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in types.items())
    sql = f"(SELECT * REPLACE ({cast}) FROM {relation.sql})" if types else relation.sql
    return replace(relation, sql=sql, columns={**relation.columns, **types})


def _write(work: Workspace, entry: Entry, sound: pl.DataFrame) -> dict[str, int]:
    """Write mended rows beside their file's others, day by day: file of the log -> rows."""
    written: dict[str, int] = {}
    if sound.is_empty():
        return written
    base = next(iter(entry.written), "")
    key = Path(base).name.partition("-")[0] if base else quarantine_path(work.state.log, entry.table, entry.name).stem
    number, clock = sum(MENDED_PART in name for name in entry.written), TIME[entry.table]
    while any((work.state.log / entry.table).glob(f"day=*/{key}{MENDED_PART}{number}.parquet")):
        number += 1
    for (day,), rows in _by_day(sound, clock):
        name = f"{entry.table}/day={day}/{key}{MENDED_PART}{number}.parquet"
        write_parquet(rows.drop(PLACE, "exfm day"), work.state.log / name)
        written[name] = rows.height
    return written


def _by_day(frame: pl.DataFrame, clock: str) -> Iterable[tuple[tuple[Any, ...], pl.DataFrame]]:
    days = frame.with_columns(pl.col(clock).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%d").alias("exfm day"))
    return days.group_by("exfm day", maintain_order=True)
