"""Sidecars: the small file beside each stored parquet file that says what it holds and what it was made of.

Belongs here: writing and reading them, and telling whether a file still is what was written.
Not here: what each table is made of (provenance.py), what is out of date (verify/tables_current.py).

A file without a readable sidecar is taken as it is: an older version wrote it, or a writer was stopped between the
two. It gets one when it is made again. The old one goes before its file is replaced, so none speaks of another file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl

from exfm.atomic_write import atomic_write
from exfm.stream import PART_ROWS
from pipeline.column_digests import ColumnDigests, column_digests
from pipeline.parts import apart, cut, sink

FORMAT = 1
SECONDS = "seconds"  # among the notes: how long the slice took to make
SAME_MOMENT = 10_000_000  # nanoseconds, a tick of the slowest usual clock: what changes again within may keep its times
Columns = Mapping[str, str]  # name -> digest of its values
Identity = tuple[int, int, int, int]  # of a file's bytes: inode, size, when they changed, when anything of it changed
LogFile = tuple[int, int, str | None]  # of a file of the log: size, mtime_ns, digest (None: no row of it was wanted)


@dataclass(frozen=True)
class Sidecar:
    """What a stored file was when it was written.

    Args:
        sha256: of its bytes, in hex.
        size: in bytes.
        made_of: what was read for it -> digest of that.
        log: by table of the log, the files that were looked at, so that unchanged ones need not be read again.
        notes: what was reported of it besides (counts, rates), to be reported again where it need not be made again.
        columns: of a table that is read by column, each one's digest.
        replaced: files before it that said nothing of their columns: digest -> those of the columns.
        identity: of the file's bytes, as the file system told it when they were hashed.
    """

    sha256: str
    size: int
    rows: int
    made_of: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, Mapping[str, LogFile]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    replaced: Mapping[str, Columns] = field(default_factory=dict)
    identity: Identity | None = None

    @property
    def digest(self) -> str:
        """Twelve hex digits of the file's content."""
        return self.sha256[:12]

    def known_as(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Digests under which some columns are known, the one to use first: of the columns, of the whole file, and of
        earlier whole files in which they were the same."""
        wanted = sorted(columns)
        if not set(wanted) <= self.columns.keys():
            return (self.digest,)
        mine = [(name, self.columns[name]) for name in wanted]
        earlier = [
            whole for whole, then in self.replaced.items() if [(name, then.get(name)) for name in wanted] == mine
        ]
        return (hashlib.sha256(json.dumps(mine).encode()).hexdigest()[:12], self.digest, *earlier)


@dataclass(frozen=True)
class Written:
    """What was written: how many rows, and their schema."""

    rows: int
    schema: pl.Schema


def sidecar_of(path: Path) -> Path:
    """Where a file's sidecar lies; its name ends in nothing that a reader globs."""
    return path.with_suffix(".json")


def write_stored(
    rows: pl.DataFrame | Iterable[pl.DataFrame],
    path: Path,
    made_of: Mapping[str, str] | None = None,
    log: Mapping[str, Mapping[str, LogFile]] | None = None,
    notes: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    by_column: bool = False,
    part_rows: int = PART_ROWS,
) -> Written:
    """Write rows so that ``path`` holds either what it held before or all of them, then its sidecar.

    Of equal rows the files are equal, however they were made: who reads one knows it by its digest.

    Args:
        rows: whole, or in parts, at least one; no more of them are in memory than ``part_rows`` and a part.
        notes: if they are only known once the rows are written, what tells them then.
        by_column: whether its readers ask for digests of columns.
    """
    replaced, digests = replaced_by(path) if by_column else {}, ColumnDigests()
    count, schema = 0, pl.Schema()

    def written() -> Iterator[pl.DataFrame]:
        nonlocal count, schema
        for part in cut([rows] if isinstance(rows, pl.DataFrame) else rows, part_rows):
            count, schema = count + part.height, part.schema
            hashing = hashes.submit(digests.add, part) if by_column else None  # while it is written
            yield _compact(part)
            if hashing is not None:
                hashing.result()

    with ThreadPoolExecutor(1) as hashes, apart(written()) as parts, atomic_write(path) as file:
        sink(parts, file)
        sidecar_of(path).unlink(missing_ok=True)
    told = notes() if callable(notes) else notes
    write_sidecar(path, count, made_of, log, told, digests.of_columns(), replaced)
    return Written(count, schema)


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """With lists of their own: those of a part of a frame lie in the whole one's, by whose size pages are cut."""
    every = np.arange(frame.height)
    return frame.with_columns(frame[name].gather(every) for name in frame.columns if frame[name].dtype == pl.List)


def write_sidecar(
    path: Path,
    rows: int,
    made_of: Mapping[str, str] | None = None,
    log: Mapping[str, Mapping[str, LogFile]] | None = None,
    notes: Mapping[str, Any] | None = None,
    columns: Columns | None = None,
    replaced: Mapping[str, Columns] | None = None,
) -> None:
    """Say of a file as it is now what it holds and what it was made of."""
    identity = _identity(path.stat())
    known = (made_of or {}, log or {}, notes or {}, columns or {}, replaced or {})
    put_sidecar(path, Sidecar(_hashed(path, identity), identity[1], rows, *known, identity))


def put_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write a file's sidecar as it is: the file is not looked at."""
    with atomic_write(sidecar_of(path)) as file:
        file.write(json.dumps({"format": FORMAT, **asdict(sidecar)}, indent=1).encode())


def replaced_by(path: Path) -> Mapping[str, Columns]:
    """Of a file that is written by column, files before it that said nothing of their columns: digest -> of columns.

    An earlier version wrote those, and what read them names them as a whole.
    """
    sidecar = read_sidecar(path)
    if sidecar is not None and sidecar.columns:
        return sidecar.replaced
    if not path.is_file() or not as_written(path):
        return {}
    return {sha256_of(path)[:12]: _columns(path, _identity(path.stat()))}


def known_as(path: Path, columns: Iterable[str]) -> tuple[str, ...]:
    """Digests under which some columns of a stored file are known, the one to use first.

    An earlier version's file, whose sidecar says nothing of columns, is known as a whole. One that lost its sidecar is
    read.
    """
    sidecar = read_sidecar(path)
    if sidecar is None:
        sidecar = Sidecar(sha256_of(path), path.stat().st_size, 0, columns=_columns(path, _identity(path.stat())))
    return sidecar.known_as(columns)


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar of a stored file; ``None`` if there is none, or none that this version can read."""
    sidecar_path = sidecar_of(path)
    try:
        return _parsed(sidecar_path, _identity(sidecar_path.stat()))
    except FileNotFoundError:
        return None


def as_written(path: Path, *, by_bytes: bool = False) -> bool:
    """Does a file hold what its sidecar says? One without a sidecar is taken as it is, if all of it can be read.

    A file that the file system says is untouched since it was hashed is not read for it, as git does: hashing takes
    longer than reading. What changes bytes behind the file system's back (a failing disk) shows ``by_bytes`` alone.
    """
    for _ in range(3):
        sidecar = read_sidecar(path)
        if sidecar is None:
            return _readable(path, _identity(path.stat()))
        if not by_bytes and _untouched(path, sidecar):
            return True
        if path.stat().st_size == sidecar.size and sha256_of(path) == sidecar.sha256:
            return True
        if read_sidecar(path) == sidecar:
            return False
    return False  # it is being replaced faster than it can be read


def _untouched(path: Path, sidecar: Sidecar) -> bool:
    """Is it the file that was hashed, by what the file system says, and had that time to show a change?"""
    told = path.stat()
    if _identity(told) != sidecar.identity or told.st_ctime_ns % SAME_MOMENT == 0:  # coarse clocks tell too little
        return False
    try:
        return sidecar_of(path).stat().st_mtime_ns - told.st_ctime_ns > SAME_MOMENT
    except FileNotFoundError:
        return False  # it is being replaced


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, read once a process for as long as the file stays the same."""
    return _hashed(path, _identity(path.stat()))


@contextmanager
def hashed_beside(paths: Iterable[Path]) -> Iterator[None]:
    """Hash files in a thread where ``as_written`` would, which then knows them; those that can't be read not.

    Whoever asks for them then meets the error.
    """

    def look_at_all() -> None:
        for path in paths:
            with suppress(OSError):
                as_written(path)

    thread = Thread(target=look_at_all, name="sha256")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=50_000)
def _hashed(path: Path, identity: Identity) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=50_000)
def _columns(path: Path, identity: Identity) -> Columns:
    """Of a file that can't be read, none."""
    try:
        return column_digests(pl.read_parquet(path, hive_partitioning=False, glob=False))
    except (pl.exceptions.PolarsError, OSError):
        return {}


@lru_cache(maxsize=50_000)
def _readable(path: Path, identity: Identity) -> bool:
    try:
        pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return True


@lru_cache(maxsize=50_000)
def _parsed(path: Path, identity: Identity) -> Sidecar | None:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            return None
        log = {
            table: {name: (int(size), int(changed), digest) for name, (size, changed, digest) in files.items()}
            for table, files in plain["log"].items()
        }
        made_of = {str(name): str(digest) for name, digest in plain["made_of"].items()}
        notes = dict(plain.get("notes", {}))  # an earlier version wrote none, as of what follows
        columns, replaced = dict(plain.get("columns", {})), dict(plain.get("replaced", {}))
        hashed_as = plain.get("identity")
        sha256, size, rows = str(plain["sha256"]), int(plain["size"]), int(plain["rows"])
        inode, bytes_, modified, changed = hashed_as or (0, 0, 0, 0)
        then = None if hashed_as is None else (int(inode), int(bytes_), int(modified), int(changed))
        return Sidecar(sha256, size, rows, made_of, log, notes, columns, replaced, then)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
