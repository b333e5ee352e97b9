"""Where files lie: this machine or an object store; finding them, reading them, putting them in place in one step.

Belongs here: paths, globs, Arrow's file systems. Not here: footers (files.py), what is in a file.
An object store is reached through Arrow's own file system, so no DuckDB extension has to be downloaded.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from feast_asof.errors import RetrievalError

_HIVE = re.compile(r"^([^=/]+)=([^/]*)$")
_STALE = 3600.0  # seconds: a writer at work touches its file more often
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourcePath:
    """A file: its full name, and what changes whenever it is written again."""

    path: str
    identity: tuple[int, ...]
    partitions: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Location:
    """A file, folder or glob. ``system`` is ``None`` on this machine, and then ``path`` a path of it.

    ``base`` lies above every file of a glob, and only of one; it exists, so what looks like a pattern in it is a name.
    """

    path: str
    system: pafs.FileSystem | None = None
    scheme: str = ""
    base: str | None = None

    def find(self) -> list[SourcePath]:
        """Files in the order of their paths.

        Below a folder or glob, names that begin with a dot or ``_`` are unfinished or bookkeeping, and not seen.
        """
        return sorted(self._local() if self.system is None else self._remote(), key=lambda file: file.path)

    def filled(self, name: str) -> "Location":
        """A glob's file whose wildcards stand for ``name``."""
        assert self.base is not None
        path = self.base + re.sub(r"\*+", name, self.path[len(self.base) :])
        return Location(path, self.system, self.scheme)

    def _local(self) -> Iterator[SourcePath]:
        folder = Path(self.path)
        if self.base is not None:
            pattern = escape(self.base) + self.path[len(self.base) :]
            paths = [Path(path) for path in glob(pattern, recursive=True)]
        else:
            paths = list(_below_folder(folder)) if folder.is_dir() else [folder]
        for path in paths:
            parts = _below(str(path), self.path if self.base is None else self.base)
            if path.is_file() and not any(map(_hidden, parts)):
                seen = path.stat()
                yield SourcePath(str(path), (seen.st_ino, seen.st_mtime_ns, seen.st_size), _partitions(parts))

    def _remote(self) -> Iterator[SourcePath]:
        assert self.system is not None
        base = self.path if self.base is None else self.base
        wanted = None if self.base is None else _glob_pattern(base, self.path[len(base) :])
        info = self.system.get_file_info(base)
        if info.type == pafs.FileType.File:
            infos = [info]
        else:
            infos = self.system.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
        for entry in infos:
            named = wanted.fullmatch(entry.path) if wanted else entry.path.endswith(".parquet") or entry is info
            parts = _below(entry.path, base)
            if entry.type == pafs.FileType.File and named and not any(map(_hidden, parts)):
                identity = (int(entry.mtime_ns or 0), int(entry.size or 0))
                yield SourcePath(f"{self.scheme}{entry.path}", identity, _partitions(parts))

    def child(self, name: str) -> "Location":
        """A file below this folder."""
        return Location(f"{self.path.rstrip('/')}/{name}", self.system, self.scheme)

    def remove(self, path: str) -> None:
        """Delete one of the files that ``find`` gave."""
        if self.system is None:
            Path(path).unlink(missing_ok=True)
        else:
            self.system.delete_file(path.removeprefix(self.scheme))

    def exists(self) -> bool:
        if self.system is None:
            return Path(self.path).exists()
        return bool(self.system.get_file_info(self.path).type != pafs.FileType.NotFound)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """A sink whose bytes become visible under the path in one step, and only if nothing was raised."""
        if self.system is not None:
            with _upload(self.system, self.path) as sink:
                yield sink
            return
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.aside")
        for left in path.parent.glob(f".{escape(path.name)}.*.aside"):
            with suppress(FileNotFoundError):  # put in place by its writer since it was listed
                if time.time() - left.stat().st_mtime > _STALE:  # its writer was killed
                    left.unlink()
        try:
            with pa.OSFile(str(unfinished), "wb") as sink:
                yield sink
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _upload(system: pafs.FileSystem, path: str) -> Iterator[Any]:
    # An object store shows an object when its upload is closed; closing a half-written one would show that half, so
    # it goes to a hidden name first.
    folder, _, name = path.rpartition("/")
    unfinished = f"{folder}/.{name}.{os.getpid()}.aside"
    try:
        with system.open_output_stream(unfinished) as sink:
            yield sink
    except BaseException:
        system.delete_file(unfinished)
        raise
    system.move(unfinished, path)


def place_of(path: str, *, endpoint: str | None = None, credentials: Mapping[str, str] | None = None) -> Location:
    """The location of a path or URI.

    Args:
        path: a local path, or a URI that Arrow has a file system for (``s3://``, ``gs://``, ``hdfs://``).
        endpoint: of a store that speaks S3 but is not AWS, with or without its scheme.
        credentials: Feast's resolved ones (``AWS_ACCESS_KEY_ID``, ...); without them the usual chain of AWS.

    Raises:
        RetrievalError: if there is no file system for the URI.
    """
    scheme, mark, rest = path.partition("://")
    if not mark or scheme == "file":
        return _location(rest if mark else path, None, "")
    if scheme in ("s3", "s3a"):
        return _location(rest, _s3(endpoint, credentials or {}), "s3://")
    try:
        system, inner = pafs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RetrievalError(
            f"path {path!r}: no file system for {scheme!r} ({error}): use a local or s3:// path"
        ) from None
    return _location(inner, system, f"{scheme}://")


def _location(path: str, system: pafs.FileSystem | None, scheme: str) -> Location:
    """A location; wildcard characters in the name of a file or folder that exists are not wildcards."""
    location = Location(path, system, scheme)
    if not has_magic(path) or location.exists():
        return location
    parts = path.split("/")
    known = next(end for end in range(len(parts) - 1, -1, -1) if _is_there("/".join(parts[:end]), system))
    first = next((end for end in range(known, len(parts)) if has_magic(parts[end])), None)
    return location if first is None else Location(path, system, scheme, "/".join(parts[:first]))


def _is_there(path: str, system: pafs.FileSystem | None) -> bool:
    """Does a folder exist, or has its name no wildcards?"""
    return not has_magic(path) or Location(path, system).exists()


def _s3(endpoint: str | None, credentials: Mapping[str, str]) -> pafs.FileSystem:
    names = {
        "AWS_ACCESS_KEY_ID": "access_key",
        "AWS_SECRET_ACCESS_KEY": "secret_key",
        "AWS_SESSION_TOKEN": "session_token",
        "AWS_DEFAULT_REGION": "region",
    }
    options: dict[str, str] = {name: credentials[key] for key, name in names.items() if credentials.get(key)}
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, mark, rest = endpoint.partition("://")
        options |= {"endpoint_override": rest if mark else endpoint, "scheme": scheme if mark else "https"}
    return pafs.S3FileSystem(**options)


def _below(path: str, base: str) -> list[str]:
    """The parts of a path below a folder; none if it is the path itself."""
    return [part for part in path.removeprefix(base).split("/") if part]


def _below_folder(folder: Path) -> Iterator[Path]:
    """Parquet files at any depth; what is hidden is not looked into: others may be removing it."""
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(base, name) for name in names if name.endswith(".parquet"))


def _hidden(part: str) -> bool:
    return part.startswith((".", "_")) and "=" not in part


def _partitions(parts: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    matches = (_HIVE.match(part) for part in parts[:-1])
    pairs = ((match[1], unquote(match[2])) for match in matches if match)
    return tuple((name, None if value == NULL_PARTITION else value) for name, value in pairs)


def _glob_pattern(base: str, path: str) -> re.Pattern[str]:
    """A glob below ``base`` as a pattern over whole paths: ``*`` stays within a folder, ``**`` does not."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", path)
    return re.compile(
        re.escape(base)
        + "".join(parts.get(t, t if t.startswith("[") and t.endswith("]") else re.escape(t)) for t in tokens)
    )
