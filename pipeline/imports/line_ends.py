r"""Texts whose lines end in several ways, as where a file of Windows was appended to one of Linux.

DuckDB reads files of ``\n``, ``\r\n`` or ``\r``. Of one that has two of them it says that it can't, or loses lines
without a word. Such a file is read from a copy in which each line ends in ``\n``: what stands between quotes of a CSV
is as it was, unless a quote is not closed.

Belongs here: telling that it is for that, and the copy. Not here: reading (reading.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import duckdb

from pipeline.imports.finding import SourceFile
from pipeline.imports.lines import Lines, line_ends
from pipeline.imports.reading import blocks_of, is_compressed, naming
from pipeline.tables import DataError

Answer = TypeVar("Answer")


class SeveralEnds(DataError):
    """A file whose lines end in several ways, and what to do where no copy helps.

    Attributes:
        quotes: whether its quotes tell which line ends are in values: where one is not closed, they do not.
    """

    quotes = True

    @classmethod
    def refuse(cls, source: SourceFile, lines: Lines) -> None:
        """Refuse what was read of a file, or is about to be.

        Raises:
            SeveralEnds: if its lines end in several ways.
        """
        if lines.ends > 1:
            error = cls(f"{source.name}: its lines end in several ways: write it again with one of them")
            error.quotes = not lines.unquoted
            raise error


_TOLD = "reached an invalid state"  # in DuckDB's error; it says so of other things, too


def reading_any_ends(
    source: SourceFile, aside: Path, read: Callable[[SourceFile], Answer], forget: Callable[[], object] = lambda: None
) -> Answer:
    """What a file is read as; where its lines end in several ways, its copy.

    Args:
        aside: a folder for the copy.
        read: refuses such a file by ``SeveralEnds.refuse``.
        forget: undoes what the first try left.

    Raises:
        DataError: as ``read``; and if that may be for the ends of lines in UTF-16.
    """
    try:
        return read(source)
    except (DataError, duckdb.InvalidInputException) as error:
        if not isinstance(error, SeveralEnds) and not _may_be_for_ends(error):
            raise
        if source.files.encoding == "utf-16":
            raise DataError(
                f"{source.name} can't be cut into lines: perhaps they end in several ways, which is not read of "
                "UTF-16: write it again in UTF-8"
            ) from error
        quotes = error.quotes if isinstance(error, SeveralEnds) else True
        if (copy := with_one_end(source, aside, quotes=quotes)) is None:
            raise
    forget()
    return read(copy)


def _may_be_for_ends(error: BaseException) -> bool:
    cause = error if isinstance(error, duckdb.Error) else error.__cause__
    return isinstance(cause, duckdb.InvalidInputException) and _TOLD in str(cause)


def with_one_end(source: SourceFile, aside: Path, *, quotes: bool = True) -> SourceFile | None:
    r"""The file with a copy of it in which each line ends in ``\n``; ``None`` if its lines end in one way already.

    Args:
        quotes: whether what stands between quotes of a CSV is left as it is.

    Raises:
        DataError: if a compressed file is damaged.
    """
    if source.kind not in ("csv", "json") or source.files.encoding == "utf-16":
        return None
    name = Path(source.name)
    path, seen = aside / "one-end" / (name.stem if is_compressed(source) else name.name), set[bytes]()
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(source), path.open("wb") as copy:
        copy.writelines(_with_one_end(blocks_of(source), seen, quotes=quotes and source.kind == "csv"))
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
            if not inside:
                seen.update(line_ends(part))
            yield part if inside else part.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if held:
        seen.update(() if inside else (held,))
        yield held if inside else b"\n"
