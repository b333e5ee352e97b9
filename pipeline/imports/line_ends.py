r"""Texts whose lines end in several ways, as where a file of Windows was appended to one of Linux.

DuckDB reads files of ``\n``, ``\r\n`` or ``\r``, but none that has two of them. Such a file is read from a copy in
which each line ends in ``\n``: what stands between quotes of a CSV is as it was.

Belongs here: telling that it is for that, and the copy. Not here: reading (reading.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import duckdb

from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import blocks_of, naming
from pipeline.tables import DataError

Answer = TypeVar("Answer")
_TOLD = "reached an invalid state"  # in DuckDB's error; it says so of other things, too


def reading_any_ends(
    source: SourceFile, aside: Path, read: Callable[[SourceFile], Answer], forget: Callable[[], object] = lambda: None
) -> Answer:
    """What a file is read as; where its lines end in several ways, its copy.

    Args:
        aside: a folder for the copy.
        forget: undoes what the first try left.

    Raises:
        DataError: as ``read``; and if that may be for the ends of lines in UTF-16.
    """
    try:
        return read(source)
    except (DataError, duckdb.InvalidInputException) as error:
        if not _may_be_for_ends(error):
            raise
        if source.files.encoding == "utf-16":
            raise DataError(
                f"{source.name} can't be cut into lines: perhaps they end in several ways, which is not read of "
                "UTF-16: write it again in UTF-8"
            ) from error
        if (copy := with_one_end(source, aside)) is None:
            raise
    forget()
    return read(copy)


def _may_be_for_ends(error: BaseException) -> bool:
    cause = error if isinstance(error, duckdb.Error) else error.__cause__
    return isinstance(cause, duckdb.InvalidInputException) and _TOLD in str(cause)


def with_one_end(source: SourceFile, aside: Path) -> SourceFile | None:
    r"""The file with a copy of it in which each line ends in ``\n``; ``None`` if its lines end in one way already.

    Raises:
        DataError: if a compressed file is damaged.
    """
    if source.kind not in ("csv", "json") or source.files.encoding == "utf-16":
        return None
    path, seen = aside / "one-end" / Path(source.name).name.removesuffix(".gz").removesuffix(".zst"), set[bytes]()
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(source), path.open("wb") as copy:
        copy.writelines(_with_one_end(blocks_of(source), seen, quotes=source.kind == "csv"))
    if len(seen) > 1:
        return replace(source, at=path)
    path.unlink()
    return None


def _with_one_end(blocks: Iterator[bytes], seen: set[bytes], *, quotes: bool) -> Iterator[bytes]:
    """The same bytes with other line ends; which there were is added to ``seen``.

    Args:
        quotes: whether what stands between quotes is left as it is. In JSON no value has a line end.
    """
    inside, held = False, b""
    for block in blocks:
        text = held + block
        held = b"\r" if text.endswith(b"\r") else b""  # the next block may begin with its "\n"
        parts = text[: len(text) - len(held)].split(b'"') if quotes else [text[: len(text) - len(held)]]
        for number, part in enumerate(parts):
            if number:
                inside = not inside
                yield b'"'
            yield part if inside else _changed(part, seen)
    if held:
        yield held if inside else _changed(held, seen)


def _changed(text: bytes, seen: set[bytes]) -> bytes:
    if b"\r" not in text:
        if b"\n" in text:
            seen.add(b"\n")
        return text
    plain = text.replace(b"\r\n", b"")
    seen |= {end for end in (b"\r", b"\n") if end in plain}
    if len(plain) < len(text):
        seen.add(b"\r\n")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
