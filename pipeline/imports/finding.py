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
from urllib.parse import unquote

from exfm.log_files import Files, Log
from pipeline.streams.layout import HIDDEN
from pipeline.tables import DataError

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
        of_version: whether it is a part of a table with versions, which replaces its files.
        at: where its rows are read from instead of its own path.
    """

    table: str
    files: Files
    folder: Path
    name: str
    kind: str
    levels: dict[str, str | None] = field(default_factory=dict, compare=False)
    of_version: bool = False
    at: Path | None = None

    @property
    def path(self) -> Path:
        return self.at or self.folder / self.name

    @property
    def separator(self) -> str:
        """Between the columns of a CSV."""
        plain = self.name.removesuffix(".gz").removesuffix(".zst")
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
    names: dict[str, bool] = {}
    for path in files.paths:
        matches = dict(_matching(path, folder))
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
        yield SourceFile(table or where, files, folder, name, kind, levels_of(name), of_version=names[name])


def _matching(pattern: str, folder: Path) -> Iterator[tuple[str, bool]]:
    """Names of the files that a path means, and whether each is a part of a version."""
    literal = folder / pattern
    paths = [literal] if literal.exists() else sorted(folder.glob(pattern))
    for path in paths:
        if _hidden(path.relative_to(folder)):
            continue
        if (path / "_delta_log").is_dir():
            yield from ((name, True) for name in _of_delta(path, folder))
        elif path.is_dir():
            yield from ((name, False) for name in _below(path, folder))
        elif path.is_file():
            yield path.relative_to(folder).as_posix(), False


def _hidden(path: PurePosixPath | Path) -> bool:
    return any(part[0] in HIDDEN for part in path.parts if part)


def _below(top: Path, folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"Log: {error.filename} can't be listed ({error.strerror}): make it readable")

    for inside, folders, names in os.walk(top, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] not in HIDDEN)
        yield from (
            (Path(inside) / name).relative_to(folder).as_posix() for name in sorted(names) if name[0] not in HIDDEN
        )


def _of_delta(path: Path, folder: Path) -> list[str]:
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
        raise DataError(f"Log: {path} can't be read as a Delta table: {error}") from error
    return sorted(Path(unquote(uri.removeprefix("file://"))).relative_to(folder).as_posix() for uri in uris)


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
