"""The lines and quotes of a CSV, looked through beside the reading: how many threads may cut it into rows.

DuckDB lets each thread look for the first row of its share of the file. It takes a line of a quoted value for a row,
and loses a share that begins with a line that is no row, without a word. So threads share a file only if no line break
stands in a value, and what they read counts only if each line became a row or is told of. One thread is right about
both, but does not tell of a quote that is not closed: that it reads a file needs all of them closed.

Belongs here: looking. Not here: cutting (reading.py), what follows from it (by_day.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event

import numpy as np

from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import LONGEST_LINE, LONGEST_SHARED, Relation, blocks_of, is_compressed, naming

GLIMPSE = 8 * 2**20  # bytes of a file's beginning, by which it is begun to be read
_QUOTE, _BREAK, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]


@dataclass(frozen=True)
class Lines:
    """What was seen of a file.

    Args:
        count: of its lines, without blank ones at its end.
        closed: whether each quote begins or ends a value, and each value ends.
        broken: whether a line break is in a value.
        long: whether a line may be longer than those that several threads cut.
        ends: in how many ways lines end (line_ends.py).
        unquoted: whether that is of all line breaks, since quotes don't tell which of them are in values.
    """

    count: int = 0
    closed: bool = False
    broken: bool = False
    long: bool = False
    ends: int = 0
    unquoted: bool = False

    @property
    def may_share(self) -> bool:
        """May several threads cut the file?"""
        return self.closed and not self.broken and not self.long


def by_one_thread(relation: Relation, lines: Lines) -> Relation:
    """A file as one thread reads it, which is right about its rows where all its quotes are closed."""
    return replace(relation, sql=relation.alone) if relation.alone is not None and lines.closed else relation


@dataclass(frozen=True)
class Looking:
    """A file that is being looked through.

    Args:
        glimpsed: what is seen of its beginning.
        whole: what is seen of all of it.
    """

    glimpsed: "Future[Lines]"
    whole: "Future[Lines]"


@contextmanager
def looked_through(source: SourceFile, stop: Callable[[], None] = lambda: None) -> Iterator[Looking]:
    """Look through a file in a thread, while the block reads it.

    Args:
        stop: stops what reads it, which is of no use once lines are found to end in several ways, and may take hours.

    Raises:
        DataError: if a compressed file is damaged, whatever the block stumbles over.
    """
    glimpsed, whole, over = Future[Lines](), Future[Lines](), Event()

    def glimpse(lines: Lines) -> None:
        if not glimpsed.done():
            glimpsed.set_result(lines)

    def look() -> None:
        try:
            lines = lines_of(source, glimpse)
        except BaseException as error:
            glimpse(Lines())
            whole.set_exception(error)
            return
        glimpse(lines)
        whole.set_result(lines)
        while lines.ends > 1 and not over.wait(0.05):  # again, for it may be between two queries
            stop()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look)
        try:
            yield Looking(glimpsed, whole)
        finally:
            over.set()
            whole.result()


def lines_of(source: SourceFile, glimpse: Callable[[Lines], None] = lambda lines: None) -> Lines:
    """Read a text once through; of a plain one that is too small for several threads only the ends of lines count.

    Args:
        glimpse: is told what was seen of its beginning, once that was looked at.

    Raises:
        DataError: if a compressed file is damaged: DuckDB neither compares its checksum nor sees where a ``.zst`` is
            cut.
    """
    if source.kind == "parquet":
        return Lines()
    single_bytes = source.files.encoding != "utf-16"
    with naming(source):
        small = not is_compressed(source) and source.path.stat().st_size <= LONGEST_LINE
        shareable = source.kind == "csv" and single_bytes and not small
        if small and not single_bytes:
            return Lines()
        counter, seen = _Counter(source.separator, quotes=source.kind == "csv"), 0
        for block in blocks_of(source):
            counter.see(block)
            seen += len(block)
            if shareable and seen >= GLIMPSE:
                glimpse(counter.so_far())
    lines = counter.lines() if single_bytes else Lines()
    lines = lines if shareable else Lines(ends=lines.ends, unquoted=lines.unquoted)
    glimpse(lines)
    return lines


class _Counter:
    """Counts the lines of a file that comes in blocks, and looks at its quotes and at what ends its lines."""

    def __init__(self, separator: str, *, quotes: bool = True) -> None:
        self._quotes, self._ends = quotes, Counter[bytes]()
        self._sides = np.zeros(256, dtype=bool)  # what may stand beside a quote that begins or ends a value
        self._sides[[_QUOTE, _BREAK, _RETURN]] = True
        if len(separator.encode()) == 1:
            self._sides[separator.encode()[0]] = True
        self._breaks, self._at_end, self._rest = 0, 0, b""
        self._inside, self._closed, self._broken, self._long = 0, True, False, False
        self._every, self._held = Counter[bytes](), b""  # ends of lines wherever they are; the return of a block's end

    def so_far(self) -> Lines:
        """What was seen so far."""
        return self._lines(closed=self._closed)

    def _lines(self, *, closed: bool) -> Lines:
        count, ends = self._breaks - max(self._at_end - 1, 0), self._ends if closed else self._every
        return Lines(count, closed, self._broken, self._long, len(ends), not closed)

    def see(self, block: bytes) -> None:
        """The next block of the file."""
        text = self._held + block
        self._held = text[-1:] if text.endswith(b"\r") else b""
        self._every += line_ends(text[: len(text) - len(self._held)])
        if not self._closed:
            return
        end = block.rfind(b"\n") + 1
        if not end:
            self._rest += block
            self._closed = len(self._rest) <= LONGEST_LINE
            return
        self._whole_lines(self._rest + block[:end])
        self._rest = block[end:]

    def _whole_lines(self, text: bytes) -> None:
        self._long |= len(text) > LONGEST_SHARED  # blocks are much smaller, so that is of one line
        letters = np.frombuffer(text, dtype=np.uint8)
        self._breaks += int(np.count_nonzero(letters == _BREAK))
        at_end = len(text) - len(text.rstrip(b"\n"))
        self._at_end = at_end + (self._at_end if at_end == len(text) else 0)
        if self._quotes and (self._inside or b'"' in text):
            self._look_at_quotes(letters)
        else:
            self._ends += line_ends(text)

    def _look_at_quotes(self, letters: np.ndarray) -> None:
        """Of two quotes in a value the first ends it and the second begins it again."""
        quotes = np.flatnonzero(letters == _QUOTE)
        begin, end = quotes[self._inside :: 2], quotes[1 - self._inside :: 2]
        before = letters[begin - 1]
        before[begin == 0] = _BREAK
        self._closed = bool(self._sides[before].all() and self._sides[letters[end + 1]].all())
        breaks = np.flatnonzero((letters == _BREAK) | (letters == _RETURN))
        inside = (np.searchsorted(quotes, breaks) + self._inside) % 2 == 1
        self._broken |= bool(inside.any())
        self._ends += _ends_at(letters, breaks[~inside])
        self._inside = (self._inside + len(quotes)) % 2

    def lines(self) -> Lines:
        """What was seen, at the end of the file."""
        if self._rest and self._closed:
            self._whole_lines(self._rest + b"\n")
            self._ends -= line_ends(self._rest[-1:] + b"\n")  # that one was put there
            self._ends += line_ends(self._rest[-1:])
        self._every += line_ends(self._held)
        return self._lines(closed=self._closed and not self._inside)


def line_ends(text: bytes) -> Counter[bytes]:
    r"""How many lines of a text without quotes end in ``\n``, ``\r\n``, ``\r``, where any does."""
    returns = text.count(b"\r")
    return _counted(returns, text.count(b"\n"), text.count(b"\r\n") if returns else 0)


def _ends_at(letters: np.ndarray, breaks: np.ndarray) -> Counter[bytes]:
    """The same of line breaks outside quotes; the last of ``letters`` is a line feed."""
    returns = breaks[letters[breaks] == _RETURN]
    both = int(np.count_nonzero(letters[returns + 1] == _BREAK))
    return _counted(returns.size, breaks.size - returns.size, both)


def _counted(returns: int, feeds: int, both: int) -> Counter[bytes]:
    return +Counter({b"\n": feeds - both, b"\r\n": both, b"\r": returns - both})
