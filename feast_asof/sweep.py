"""Answering entity rows that come in order of time: histories that do not fit into memory are read along with them.

Belongs here: how far histories are read, and what of them is held. Not here: arranging them, the search (history.py).

What is held of a view is the newest row of each key, and the rows of the next stretch of time. So all that grows with
the question is the number of keys.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from feast_asof.files import SourceFile, meeting, row_groups
from feast_asof.history import History, arrange, bounds_of, closed, files_for, moments_of, read_rows
from feast_asof.plan import Plan
from feast_asof.reading import stacked
from feast_asof.rows import Clock


class NotInOrder(Exception):
    """The entity rows do not come in order of time, or views have more keys than there is room for."""


@dataclass(frozen=True)
class Group:
    """A row group of a view's file.

    Args:
        about: least event timestamp of its rows.
        first, last: between which its rows become known.
        size: bytes of its rows while they are arranged.
    """

    about: int
    first: int
    last: int
    size: int


class Pace:
    """How many bytes of views' rows are known at a moment; those of a row group are taken to be even in time."""

    def __init__(self, groups: Sequence[Group]) -> None:
        table = np.array([(group.first, group.last, group.size) for group in groups], np.float64)
        self._first, self._last, self._size = table.reshape(-1, 3).T

    def before(self, moment: int) -> float:
        """Bytes of the rows that are known at a moment."""
        share = (moment - self._first + 1) / (self._last - self._first + 1)
        return float((self._size * np.clip(share, 0, 1)).sum())

    def reach(self, since: int, until: int, size: float) -> int:
        """The last moment in (since, until] until which so many bytes come, or fewer; ``since + 1`` at least."""
        most = self.before(since) + size
        low, high = since + 1, max(until, since + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.before(middle) <= most else (low, middle - 1)
        return low


@dataclass
class View:
    """A view's rows as far as they are read.

    Args:
        files: in which they are, and ``groups`` their row groups.
        clock: what the entity rows span.
        width: bytes of a row while it is arranged.
        created: the column of the clock that cuts off; ``None``: rows are known when they are about.
    """

    plan: Plan
    files: tuple[SourceFile, ...]
    groups: tuple[Group, ...]
    clock: Clock
    width: int
    created: str | None
    frame: pl.DataFrame | None = None
    history: History | None = None

    @property
    def first(self) -> int:
        """The first moment at which a row that can matter may be known."""
        oldest = min((group.first for group in self.groups), default=self.clock.first)
        return max(oldest, closed(*self.clock.stamps(self.plan.ttl))[0])

    @property
    def size(self) -> int:
        """Bytes of what is held."""
        return self.width * (0 if self.frame is None else self.frame.height)

    @property
    def arranged(self) -> History:
        """The rows that are held.

        Raises:
            RuntimeError: if none was read yet.
        """
        if self.history is None:
            raise RuntimeError("no row was read yet")
        return self.history

    def let_go(self, moment: int) -> None:
        """Hold only what may be served at a moment or later."""
        if self.history is None or self.frame is None:
            return
        needed, self.history = self.history.needed_from(moment), None
        self.frame = self.frame if len(needed) == self.frame.height else self.frame[needed]

    def read_on(self, since: int, until: int) -> None:
        """Read the rows that become known after one moment until another; arrange them with those that are held."""
        about = [group.about for group in self.groups if group.last > since and group.first <= until]
        bounds = dict(bounds_of(self.plan, self.clock, cutoff=self.created is not None))
        bounds[self.plan.source.timestamp] = (min(about, default=until), until)
        files = meeting(self.files, {name: closed(*ends) for name, ends in bounds.items()}) if about else ()
        if files or self.frame is None:
            rows = read_rows(self.plan, files or self.files[:1], bounds)
            inside = self._known(rows).is_between(since + 1, until).fill_null(False)
            rows = rows if inside.all() else rows.filter(inside)
            self.frame = rows if self.frame is None else stacked([self.frame, rows], self.plan.common)
        self.history = arrange(self.plan, self.frame, self.clock, None, cutoff=self.created is not None)

    def _known(self, rows: pl.DataFrame) -> pl.Series:
        about = moments_of(rows[self.plan.source.timestamp])
        if self.created is None:
            return about
        created = moments_of(rows[self.created])
        return pl.select(pl.when(created.is_not_null()).then(pl.max_horizontal(about, created))).to_series()


def views_of(plans: Sequence[Plan], clock: Clock, widths: Sequence[int], *, cutoff: bool) -> list[View] | None:
    """The views, of which nothing is read yet; ``None`` if their files' footers do not tell of times."""
    views = []
    for plan, width in zip(plans, widths, strict=True):
        source, files = plan.source, files_for(plan, clock, cutoff=cutoff)
        created = source.created if cutoff else None
        clocks = [source.timestamp, *([created] if created else [])]
        if any(name not in file.ranges for file in files for name in clocks):
            return None
        groups = []
        for rows, ranges in (each for file in files for each in row_groups(file, source.location.system, clocks)):
            first, last = (max(ends) for ends in zip(*ranges.values(), strict=True))
            groups.append(Group(ranges[source.timestamp][0], first, last, rows * width))
        views.append(View(plan, files, tuple(groups), clock, width, created))
    return views


@dataclass
class Sweep:
    """Views that are read along with entity rows.

    Args:
        limit: bytes that the views may take.
        pool: in which views are read and arranged.
    """

    views: Sequence[View]
    limit: int
    pool: ThreadPoolExecutor
    reached: int = field(init=False)  # moment until which all views are read
    since: int | None = field(default=None, init=False)  # moment from which on histories can answer

    def __post_init__(self) -> None:
        self.reached = min(view.first for view in self.views) - 1
        self._pace = Pace([group for view in self.views for group in view.groups])
        self._first, self._last = self.views[0].clock.first, self.views[0].clock.last
        self._room = self.limit / 2  # for the rows of a stretch; as much for the newest rows of all keys

    def along(self, chunks: Iterable[pa.Table], clock_name: str) -> Iterator[pa.Table]:
        """Chunks of entity rows, each when the histories of all views can answer it.

        Args:
            clock_name: the column of the chunks' moments.

        Raises:
            NotInOrder: instead of the first chunk that can't be answered so.
        """
        for chunk in chunks:
            ends = pc.min_max(chunk[clock_name].cast(pa.int64()))
            start, end = ends["min"].as_py(), ends["max"].as_py()
            if start is None:  # no row has a moment: any history answers with nothing
                start = end = self._first if self.since is None else self.since
            if self.since is not None and start < self.since:
                raise NotInOrder
            if self.since is None or end > self.reached:
                if self._pace.before(end) - self._pace.before(start) > self._room:
                    raise NotInOrder
                self._advance(start, max(end, self._pace.reach(start, self._last, self._room)))
            yield chunk

    def _advance(self, start: int, until: int) -> None:
        """Have what is served from one moment until another: what is before it in steps, then the others."""
        while True:
            behind = self._pace.before(start) - self._pace.before(self.reached) > self._room / 4
            step = self._pace.reach(self.reached, start, self._room) if behind else until
            list(self.pool.map(lambda view: view.let_go(start), self.views))
            if sum(view.size for view in self.views) > self.limit - self._room / 2:
                raise NotInOrder
            list(self.pool.map(lambda view, until=step: view.read_on(self.reached, until), self.views))
            self.reached = max(self.reached, step)
            if step >= until:
                break
        self.since = start
