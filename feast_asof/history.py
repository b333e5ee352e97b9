"""A view's rows, arranged so that the one to serve at a clock is found by a search within its key.

Belongs here: what is superseded, the search. Not here: order and ties (ordering.py), reading (reading.py), keys
(keys.py).

A row of a view is known at clock T if its timestamp t, and with the cut-off also its created timestamp c, is not
after T; of the known rows of a key the one with the greatest (t, c) is served, unless older than the ttl. With
``known = max(t, c)``, only rows that are the newest known one in the moment that they become known can ever be served;
of those, the last with ``known <= T`` is the answer. Rows that tie in key, t and c: the last in the files' order.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from feast_asof.errors import RetrievalError
from feast_asof.files import SourceFile, meeting, row_groups
from feast_asof.keys import NONE, Coder, Codes, coder_for
from feast_asof.ordering import Moments, in_order, newest
from feast_asof.plan import Plan
from feast_asof.reading import Bounds, read
from feast_asof.rows import Clock, first_line
from feast_asof.types import INT, family

NEVER = np.iinfo(np.int64).min
_FOREVER = np.iinfo(np.int64).max
_BLOCK = 1 << 16  # rows searched together: their arrays stay in a core's cache


@dataclass(frozen=True)
class History:
    """The servable rows of a view, by key and then by ``known``.

    ``starts[code]`` to ``starts[code + 1]`` are a key's rows; ``rows[i]`` is where row i is in ``frame``; ``known``,
    ``about`` (its event timestamp) and ``written`` (its created one) are microseconds.
    """

    frame: pl.DataFrame
    coder: Coder
    starts: Codes
    rows: Codes
    known: Moments
    about: Moments
    written: Moments | None
    ttl: int | None

    def find(self, keys: pl.DataFrame, clock: pl.Series) -> Codes:
        """Which servable row each entity row is served; -1 where there is none.

        Args:
            keys: the key columns of the entity rows, in the order of the view's keys.
            clock: their moments, microseconds; null where there is none.
        """
        codes, moments = self.codes_of(keys, clock), clock.fill_null(0).to_numpy()
        matches = np.empty(len(codes), np.int64)
        for rows in blocks(len(codes)):
            matches[rows] = self.search(codes[rows], moments[rows])
        return matches

    def codes_of(self, keys: pl.DataFrame, clock: pl.Series) -> Codes:
        """The code of each entity row's key; ``NONE`` where there is no such key, or no moment."""
        codes = self.coder.codes(keys)
        return np.where(clock.is_null().to_numpy(), NONE, codes) if clock.null_count() else codes

    def needed_from(self, moment: int) -> Codes:
        """The rows of ``frame`` that may be served at a moment or later, in their order."""
        first_of_key = np.zeros(len(self.rows) + 1, np.bool_)
        first_of_key[self.starts] = True
        passed = self.known <= moment
        gone = np.zeros(len(self.rows), np.bool_)
        gone[:-1] = passed[1:] & ~first_of_key[1:-1]  # the key's next row is served instead
        if self.ttl:
            gone |= passed & (moment - self.about > self.ttl)
        needed = np.zeros(self.frame.height, np.bool_)
        needed[self.rows[~gone]] = True
        return np.flatnonzero(needed)

    def indices(self, matches: Codes) -> pl.Series:
        """The row of ``frame`` of each match; null where there is none."""
        if not len(self.rows):
            return pl.Series([None] * len(matches), dtype=pl.UInt32)
        none = matches < 0
        rows = pl.Series(self.rows[matches])
        return rows.set(pl.Series(none), None) if none.any() else rows

    @cached_property
    def _steps(self) -> int:
        return int(np.diff(self.starts).max(initial=0)).bit_length()

    def search(self, codes: Codes, moments: Moments) -> Codes:
        """A binary search of all rows at once: the last servable row of each key with ``known <= moment``; else -1."""
        steps = self._steps
        if not steps:
            return np.full(len(codes), -1)
        # The code of no key, -1, gives a first row behind all rows and a last one before them: it finds none.
        first = self.starts[codes]
        last = self.starts[codes + 1] - 1
        at = first - 1
        for step in reversed(range(steps)):
            ahead = at + (1 << step)
            inside = ahead <= last
            known = self.known[np.minimum(ahead, last, out=ahead)]
            at += (inside & (known <= moments)).astype(np.int64) << step
        gone = at < first
        if self.ttl:
            gone |= moments - self.about[at] > self.ttl
        at[gone] = -1
        return at


def blocks(rows: int) -> list[slice]:
    """Rows in blocks that are searched together."""
    return [slice(start, min(start + _BLOCK, rows)) for start in range(0, rows, _BLOCK)]


def matches(
    histories: Sequence[History], keys: Sequence[pl.DataFrame], clock: pl.Series, pool: ThreadPoolExecutor
) -> list[Codes]:
    """``find`` of several histories; all threads search a single one, too."""
    codes = list(pool.map(lambda history, asked: history.codes_of(asked, clock), histories, keys))
    moments = clock.fill_null(0).to_numpy()
    found: list[Codes] = [np.empty(len(moments), np.int64) for _ in histories]

    def search(of: int, rows: slice) -> None:
        found[of][rows] = histories[of].search(codes[of][rows], moments[rows])

    pieces = [(of, rows) for of in range(len(histories)) for rows in blocks(len(moments))]
    list(pool.map(lambda piece: search(*piece), pieces))
    return found


def files_for(plan: Plan, clock: Clock, *, cutoff: bool) -> tuple[SourceFile, ...]:
    """The files of a view that can matter to the entity rows, or any one of them."""
    bounds = {name: closed(*ends) for name, ends in bounds_of(plan, clock, cutoff=cutoff).items()}
    return meeting(plan.source.files, bounds) or plan.source.files[:1]


def rows_of_files(plan: Plan, clock: Clock, *, cutoff: bool) -> int:
    """Rows of the files of a view that can matter to the entity rows."""
    return sum(file.rows for file in files_for(plan, clock, cutoff=cutoff))


def rows_of_groups(plan: Plan, clock: Clock, *, cutoff: bool) -> int:
    """Rows of the row groups that can matter: others are not read of local files."""
    if plan.source.location.system is not None:
        return rows_of_files(plan, clock, cutoff=cutoff)
    bounds = {name: closed(*ends) for name, ends in bounds_of(plan, clock, cutoff=cutoff).items()}
    total = 0
    for file in files_for(plan, clock, cutoff=cutoff):
        names = [name for name in bounds if name in file.ranges]
        for rows, ranges in row_groups(file, None, names):
            inside = all(ranges[name][0] <= bounds[name][1] and ranges[name][1] >= bounds[name][0] for name in names)
            total += rows if inside else 0
    return total


def prepare(
    plan: Plan, files: Sequence[SourceFile], clock: Clock, wanted: pl.DataFrame | None, *, cutoff: bool
) -> History:
    """Read and arrange what can matter to the entity rows.

    Args:
        files: those of the view to read.
        clock: what the entity rows span.
        wanted: their key columns, if they are at hand: rows of other keys are left out.
    """
    return arrange(plan, read_rows(plan, files, bounds_of(plan, clock, cutoff=cutoff)), clock, wanted, cutoff=cutoff)


def read_rows(plan: Plan, files: Sequence[SourceFile], bounds: Bounds) -> pl.DataFrame:
    """A view's keys, clocks and features of some files; rows outside the bounds may or may not be among them.

    Raises:
        RetrievalError: if a file can't be read.
    """
    source, names = plan.source, [key.source for key in plan.keys]
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    columns = list(dict.fromkeys([*names, *clocks, *(feature.source for feature in plan.features)]))
    try:
        return read(source.location, files, columns, bounds, plan.common)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise RetrievalError(
            f"view {plan.view!r}: its files can't be read ({first_line(error)}): write the damaged or missing one again"
        ) from error


def arrange(plan: Plan, frame: pl.DataFrame, clock: Clock, wanted: pl.DataFrame | None, *, cutoff: bool) -> History:
    """Rows of a view, in the order of its files, as a history: see ``prepare``."""
    source, names = plan.source, [key.source for key in plan.keys]
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    values = list(dict.fromkeys(feature.source for feature in plan.features))
    moments = {name: moments_of(frame[name]) for name in clocks}
    keep = _kept(frame, names, moments, plan, clock, cutoff=cutoff)
    if wanted is not None and names:
        keep &= _of_keys(frame.select(names), wanted)
    rows: Codes = np.flatnonzero(keep.to_numpy()).astype(np.uint32 if frame.height < 2**32 else np.int64)
    keys = frame.select(names) if names else pl.DataFrame(height=frame.height)  # polars forgets the height of nothing
    keys = keys if len(rows) == frame.height else keys[rows] if names else pl.DataFrame(height=len(rows))
    frame = frame.select(values)  # the other columns are let go while the rest is arranged
    about = moments[source.timestamp].fill_null(0).to_numpy()
    created = moments[source.created].fill_null(NEVER).to_numpy() if source.created else None
    known = about if created is None or not cutoff else np.maximum(about, created)
    del moments
    coder = coder_for(keys)
    codes = coder.codes(keys)
    codes = codes.astype(np.int32) if coder.size < 2**31 else codes
    codes, known, rows = in_order(codes, known, rows, about, created)
    about = known if created is None or not cutoff else about[rows]
    keep_last = np.ones(len(codes), np.bool_)
    keep_last[:-1] = (codes[1:] != codes[:-1]) | (known[1:] != known[:-1])
    keep_last &= newest(codes, about)
    if not keep_last.all():
        shared = about is known
        codes, known, rows = codes[keep_last], known[keep_last], rows[keep_last]
        about = known if shared else about[keep_last]
    starts = np.zeros(coder.size + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=coder.size), out=starts[1:])
    return History(frame, coder, starts, rows, known, about, None if created is None else created[rows], plan.ttl)


def bounds_of(plan: Plan, clock: Clock, *, cutoff: bool) -> Bounds:
    """Ranges of a view's columns outside of which no row can matter to the entity rows."""
    source = plan.source
    bounds: dict[str, tuple[int | None, int | None]] = {}
    for key in plan.keys:
        if key.entity in clock.keys and all(_is_integer(file, key.source) for file in source.files):
            bounds[key.source] = clock.keys[key.entity]
    if cutoff and source.created:
        bounds[source.created] = (None, clock.last)
    bounds[source.timestamp] = clock.stamps(plan.ttl)
    return bounds


def _is_integer(file: SourceFile, column: str) -> bool:
    return column in file.types and family(file.types[column]) == INT


def closed(low: int | None, high: int | None) -> tuple[int, int]:
    """Bounds with an end on both sides."""
    return NEVER if low is None else low, _FOREVER if high is None else high


def moments_of(column: pl.Series) -> pl.Series:
    """Microseconds UTC; a naive timestamp is UTC."""
    zone = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
    return column.cast(pl.Datetime("us", zone)).to_physical()


def _kept(
    frame: pl.DataFrame, names: list[str], moments: dict[str, pl.Series], plan: Plan, clock: Clock, *, cutoff: bool
) -> pl.Series:
    about = moments[plan.source.timestamp]
    keep = about.is_between(*closed(*clock.stamps(plan.ttl)))
    if cutoff and plan.source.created:
        keep = keep & (moments[plan.source.created] <= clock.last)
    for name in names:
        if frame[name].null_count():
            keep = keep & frame[name].is_not_null()
    return keep.fill_null(False)


def _of_keys(keys: pl.DataFrame, wanted: pl.DataFrame) -> pl.Series:
    """Which rows have a key that an entity row has."""
    coder = coder_for(wanted.rename(dict(zip(wanted.columns, keys.columns, strict=True))).drop_nulls())
    there = np.zeros(coder.size + 1, np.bool_)  # the last one stands for a key that is none, code -1
    there[coder.codes(wanted)] = True
    there[-1] = False
    return pl.Series(there[coder.codes(keys)], dtype=pl.Boolean)
