"""Every row of a file in one query: converted, or with why it can't be and what it was.

Belongs here: putting the expressions of the columns together. Not here: the expressions (converting.py), what is done
with the rows (importing.py, side_tables.py, mending.py).
"""

from collections.abc import Mapping

from pipeline.imports.converting import Conversion, given, made
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import Relation, quoted

REASON, KEPT, RAW = "exfm reason", "exfm kept", "exfm raw"


def select_rows(
    relation: Relation, conversion: Conversion, source: SourceFile, more: Mapping[str, str] | None = None
) -> str:
    """A query of all rows of a file: converted, or with why they can't be and what they were.

    Args:
        more: expressions over the file's columns to carry along, by their names.
    """
    where = source.files.where
    kept = "true" if where is None else f"coalesce(({where})::BOOLEAN, false)"
    givens = "".join(f", {column.given} AS {given(column.name)}" for column in conversion.columns)
    mades = "".join(f", {column.made} AS {made(column.name)}" for column in conversion.columns)
    bads = ", ".join([relation.bad, *(column.bad for column in conversion.columns)])
    values = "".join(f", {made(column.name)} AS {quoted(column.name)}" for column in conversion.columns)
    also = "".join(f", {quoted(name)}" for name in more or {})
    carried = "".join(f", {expression} AS {quoted(name)}" for name, expression in (more or {}).items())
    rows = (
        f"SELECT {kept} AS {quoted(KEPT)}, coalesce({bads}) AS {quoted(REASON)}{values}{carried}, "
        f"({relation.raw})::VARCHAR AS {quoted(RAW)} "
        f"FROM (SELECT *{mades} FROM (SELECT *{givens} FROM {relation.sql}))"
    )
    sound = f"{quoted(KEPT)} AND {quoted(REASON)} IS NULL"
    names = [quoted(column.name) for column in conversion.columns]
    chosen = ", ".join(f"CASE WHEN {sound} THEN {name} END AS {name}" for name in names)
    refused = f"{quoted(KEPT)} AND {quoted(REASON)} IS NOT NULL"
    return (
        f"SELECT {quoted(KEPT)}, CASE WHEN {quoted(KEPT)} THEN {quoted(REASON)} END AS {quoted(REASON)}, "
        f"{chosen}{also}, CASE WHEN {refused} THEN {quoted(RAW)} END AS {quoted(RAW)} FROM ({rows})"
    )
