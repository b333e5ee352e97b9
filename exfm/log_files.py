"""The files of a log as somebody else wrote them: where they are, and which of their columns is what.

Belongs here: what can be said of them. Not here: reading them in (pipeline/imports/), what they become (stream.py).
"""

import re
from typing import Literal

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, not_empty, unique
from exfm.time_zones import check_zone

Encoding = Literal["utf-8", "utf-16", "latin-1"]
Kind = Literal["csv", "json", "parquet", "delta"]
TIME_UNITS = ("s", "ms", "us", "ns")


def _expression(field: str, sql: str | None) -> None:
    """Refuse what is more than one expression of SQL."""
    if sql is not None and (not sql.strip() or re.search(r";|--|/\*", sql)):
        raise DeclarationError(f"{field}: {sql!r} is not one expression: write one, without ';' or comments")


@declaration
class EventTime(Declaration):
    """The column that says when something happened.

    Args:
        of: its name in the files.
        sql: an expression of DuckDB over the files' columns instead: ``"date || ' ' || hour"``.
        unit: of a number: since 1970, UTC. ``iso``: a text such as ``2026-01-31 12:00:00.5+01:00``, or a column that is
            a moment already.
        format: of a text in another form, in the letters of ``strptime``: ``%d/%b/%Y:%H:%M:%S %z``, ``%y%m%d%H``.
        zone: of a text that names no zone: whose clock it was. The hour that a clock change skips or repeats counts as
            after the change.
    """

    of: str | None = None
    sql: str | None = None
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"
    format: str | None = None
    zone: str = "UTC"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.of is None) == (self.sql is None):
            raise DeclarationError(f"EventTime.of: {self.of!r} beside sql={self.sql!r}: use one of them")
        _expression("EventTime.sql", self.sql)
        check_zone("EventTime.zone", self.zone)
        if self.format is not None and self.unit != "iso":
            raise DeclarationError(f"EventTime.unit: {self.unit!r} beside format={self.format!r}: use one of them")
        if self.format is not None and "%" not in self.format:
            raise DeclarationError(f"EventTime.format: {self.format!r} has no letters of strptime: write as '%Y%m%d%H'")
        if self.unit in TIME_UNITS and self.zone != "UTC":
            raise DeclarationError(f"EventTime.zone: {self.zone!r}: numbers since 1970 have no zone: drop it")


@declaration
class From(Declaration):
    """A column of the log, and what the files call it: ``From(name="user_id", of="userId")``.

    Args:
        name: as the stream declares it.
        of: its name in the files, by default the same; a dotted path that begins with ``$`` reaches into an object of
            a JSON line (``$.device.os``). Of several, ids are joined by ``-`` (null if one of them is), and a vector or
            bag has one place each; in names ``*`` stands for a number that counts up: ``("affinity_*",)``.
        sql: an expression of DuckDB over the files' columns instead: ``"'men'"``, ``"price / 100"``.
        split: by what a text is cut into a list: ``^``, ``|``, ``,``. A text in the form of a JSON list needs none.
    """

    name: str
    of: str | tuple[str, ...] | None = None
    sql: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"From({self.name})"
        if self.of is not None and self.sql is not None:
            raise DeclarationError(f"{where}.of: {self.of!r} beside sql={self.sql!r}: use one of them")
        if self.of is None and self.sql is None:
            object.__setattr__(self, "of", self.name)
        if isinstance(self.of, tuple):
            not_empty(f"{where}.of", self.of, what="column")
            unique(f"{where}.of", self.of)
            if self.split is not None:
                raise DeclarationError(f"{where}.split: {self.split!r} beside several columns: use one of them")
        if self.split == "":
            raise DeclarationError(f"{where}.split: '' cuts nothing: name what stands between the ids")
        _expression(f"{where}.sql", self.sql)


@declaration
class Files(Declaration):
    """Files of one shape: a table of the log, or a part of it.

    A column that no ``From`` names is taken by its own name. Names in folders (``dt=2026-01-31/hour=7/``) are columns,
    too, and so is the file's own path, ``filename``. What no column of the log needs is not read. A name in the first
    line of a CSV loses the spaces around it; an empty one is ``column_0``, by its place.

    Args:
        paths: files, folders or patterns (``clicks/**/*.csv.gz``), below ``EXFM_DATA``. Names that begin with ``.`` or
            ``_`` are left out.
        time: when rows happened; ``None`` for a table without a time.
        columns: of what the files call otherwise.
        id: what identifies an impression: one column (a whole number is kept, a text becomes its hash), or several.
            ``None``: the file's path and the row's place in it.
        where: an expression of DuckDB: rows for which it is not true are no part of this table; they are counted.
        kind: ``csv``, ``json`` (one object a line), ``parquet`` or ``delta``; ``None``: by the files' endings.
        separator: between the columns of a CSV; ``None``: a comma, of ``.tsv`` a tab.
        header: the names of a CSV's columns, where its first line has none.
        nulls: texts that mean that a value is not known; an empty one always does.
        decimal: what stands before the fraction of a number that is a text.
        encoding: of texts.
    """

    paths: tuple[str, ...]
    time: EventTime | None = None
    columns: tuple[From, ...] = ()
    id: str | tuple[str, ...] | None = None
    where: str | None = None
    kind: Kind | None = None
    separator: str | None = None
    header: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ("",)
    decimal: Literal[".", ","] = "."
    encoding: Encoding = "utf-8"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_empty("Files.paths", self.paths, what="path")
        unique("Files.paths", self.paths)
        unique("Files.columns", (column.name for column in self.columns))
        unique("Files.header", self.header)
        for path in self.paths:
            if path.startswith("/") or ".." in path.split("/"):
                raise DeclarationError(f"Files.paths: {path!r} leaves EXFM_DATA: name files below it")
        if self.separator is not None and len(self.separator) != 1:
            raise DeclarationError(f"Files.separator: {self.separator!r} is not one character: use ',', ';' or '\\t'")
        if isinstance(self.id, tuple):
            not_empty("Files.id", self.id, what="column")
        _expression("Files.where", self.where)

    def column(self, name: str) -> From:
        """Where a column of the log comes from."""
        return next((each for each in self.columns if each.name == name), From(name=name, of=name))


@declaration
class Log(Declaration):
    """A log that is not in the canonical layout: how its files become one.

    The asset ``imported_log`` reads each file once, and again when it changed; rows that can't be read are kept aside
    with the reason. ``EXFM_DATA`` names the folder of the files, which is never written.

    Args:
        impressions, outcomes, interactions: the files of each table; several where they differ in shape.
    """

    impressions: tuple[Files, ...]
    outcomes: tuple[Files, ...] = ()
    interactions: tuple[Files, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        not_empty("Log.impressions", self.impressions, what="file")
        for table in ("impressions", "outcomes", "interactions"):
            for files in self.files(table):
                if files.time is None:
                    raise DeclarationError(
                        f"Log.{table}: Files({', '.join(files.paths)}) has no time: a stream needs one, so name its "
                        "column, time=EventTime(of='timestamp')"
                    )
        for files in self.outcomes:
            if files.id is None:
                raise DeclarationError(
                    f"Log.outcomes: Files({', '.join(files.paths)}) has no id: name the column that says which "
                    "impression it was, id='impression_id'"
                )

    def files(self, table: str) -> tuple[Files, ...]:
        """The files of a table of the log."""
        listed: tuple[Files, ...] = getattr(self, table)
        return listed
