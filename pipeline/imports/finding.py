"""The files that a log's declaration names: which there are, of which kind, and what their folders say.

Belongs here: listing. Not here: what is in them (reading.py), which were read before (entries.py).
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from exfm.log_files import Files, Log
from pipeline.streams.layout import HIDDEN
from pipeline.tables import DataError
from pipeline.workspace import Workspace

TABLES = ("impressions", "outcomes", "interactions")
_KINDS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_COMPRESSED = (".gz", ".zst")
_LEVEL = re.compile(r"([^=/]+)=([^/]*)")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """A file of a log.

    Args:
        table: the table of the log that it is a part of.
        files: its declaration.
        name: its path below ``EXFM_DATA``.
        levels: what its folders say: ``dt=2026-01-31`` -> ``{"dt": "2026-01-31"}``.
        version_of: the table with versions that it is a part of, which replaces its files.
        at: where its rows are read from instead of its own path.
    """

    table: str
    files: Files
    folder: Path
    name: str
    kind: str
    levels: dict[str, str | None] = field(default_factory=dict, compare=False)
    version_of: str | None = None
    at: Path | None = None

    @property
    def path(self) -> Path:
        return self.at or self.folder / self.name

    @property
    def separator(self) -> str:
        """Between the columns of a CSV."""
        plain = self.name.lower().removesuffix(".gz").removesuffix(".zst")
        return self.files.separator or ("\t" if plain.endswith(".tsv") else ",")


@dataclass(frozen=True)
class Found:
    """The files of a log, in the order of their tables and names.

    Args:
        unread: files in the folders that were named, whose ending says of no kind.
    """

    files: tuple[SourceFile, ...]
    unread: tuple[str, ...] = ()


def find_sources(log: Log, folder: Path, tables: tuple[str, ...] = TABLES) -> Found:
    """List the files of some tables of a log.

    Raises:
        DataError: if a path names nothing, or two declarations of one table name the same file.
    """
    found: list[SourceFile] = []
    unread: list[str] = []
    for table in tables:
        taken: set[str] = set()
        for files in log.files(table):
            for source in find_files(f"Log.{table}", files, folder, unread, table):
                if source.name in taken:
                    raise DataError(
                        f"Log.{table}: {source.name} is named by two Files, so its rows would count twice: "
                        "name it in one of them"
                    )
                taken.add(source.name)
                found.append(source)
    return Found(tuple(found), tuple(dict.fromkeys(unread)))


def find_files(
    where: str, files: Files, folder: Path, unread: list[str], table: str | None = None
) -> Iterator[SourceFile]:
    """The files of one declaration.

    Args:
        where: how messages call it.
        unread: gets the names of files whose ending says of no kind.

    Raises:
        DataError: if a path names nothing.
    """
    names: dict[str, str | None] = {}
    for path in files.paths:
        matches = dict(_matching(path, folder, unread))
        if not matches:
            raise DataError(
                f"{where}: Files.paths {path!r} names no file below {folder}: write it there, or mend the path"
            )
        names |= matches
    for name in sorted(names):
        kind = files.kind if files.kind not in (None, "delta") else kind_of(name)
        if kind is None:
            unread.append(name)
            continue
        yield SourceFile(table or where, files, folder, name, kind, levels_of(name), version_of=names[name])


def _matching(pattern: str, folder: Path, unread: list[str]) -> Iterator[tuple[str, str | None]]:
    """Names of the files that a path means, each with the table with versions that it is a part of."""
    literal = folder / pattern
    paths = [literal] if literal.exists() else sorted(folder.glob(pattern))
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if any(part[0] in HIDDEN for part in PurePosixPath(name).parts):
            continue
        if path.is_dir():
            yield from _below(path, folder, unread)
        elif path.is_file():
            yield _spelt(name), None
        else:
            unread.append(_spelt(name))


def _below(top: Path, folder: Path, unread: list[str]) -> Iterator[tuple[str, str | None]]:
    """The files below a folder; of a table with versions, those of the newest."""

    def refuse(error: OSError) -> None:
        raise DataError(f"Log: {error.filename} can't be listed ({error.strerror}): make it readable")

    for inside, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        here = Path(inside)
        if (here / "_delta_log").is_dir():
            folders[:] = []
            table = here.relative_to(folder).as_posix()
            yield from ((name, table) for name in _of_delta(here, table))
            continue
        folders[:] = sorted(name for name in folders if name[0] not in HIDDEN)
        for path in (here / name for name in sorted(names) if name[0] not in HIDDEN):
            name = _spelt(path.relative_to(folder).as_posix())
            if path.is_file():
                yield name, None
            else:
                unread.append(name)  # a pipe, or a link to nothing


def _spelt(name: str) -> str:
    """A name, if it can be written down.

    Raises:
        DataError: if it is no UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"Log: the file {name!r} has a name that is no UTF-8: give it another") from error
    return name


def _of_delta(path: Path, table: str) -> list[str]:
    """The files of a Delta table's newest version."""
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as missing:
        raise DataError(
            f"Log: {path} is a Delta table, and deltalake is not installed: pip install 'exfm[delta]'"
        ) from missing
    try:
        uris: list[Any] = DeltaTable(path).file_uris()
    except (DeltaError, OSError) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"Log: {path} can't be read as a Delta table: {told}") from error
    return sorted(f"{table}/{_inside(uri.removeprefix('file://'), path)}" for uri in uris)


def _inside(uri: str, table: Path) -> str:
    """A file's path in its table. Paths come with letters as ``%20``, more or fewer of them than on the disk."""
    for root in (table.as_posix(), table.resolve().as_posix()):
        for whole in (uri, unquote(uri)):
            for start in (root, quote(root)):
                if whole.startswith(start + "/"):
                    rest = whole[len(start) + 1 :]
                    return next((each for each in (rest, unquote(rest)) if (table / each).is_file()), rest)
    return uri


def kind_of(name: str) -> str | None:
    """The kind that a file's ending says."""
    path = PurePosixPath(name.lower())
    if path.suffix in _COMPRESSED:
        path = path.with_suffix("")
    return _KINDS.get(path.suffix)


def levels_of(name: str) -> dict[str, str | None]:
    """What folders in the form ``name=value`` say."""
    levels: dict[str, str | None] = {}
    for part in PurePosixPath(name).parts[:-1]:
        with suppress(ValueError):
            if match := _LEVEL.fullmatch(part):
                value = unquote(match[2])
                levels[match[1]] = None if value == NO_VALUE else value
    return levels


def tables_to_import(work: Workspace) -> tuple[str, ...]:
    """The tables that the project reads and the declaration has files of."""
    log = work.project.log
    assert log is not None
    return tuple(table for table in TABLES if log.files(table) and work.project.reads_log(table))
