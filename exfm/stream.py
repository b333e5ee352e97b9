"""The stream: the log's columns, surfaces and tasks, and how time is cut into slices.

Belongs here: what a log is, and the arithmetic of slices and attribution windows.
Not here: reading it (pipeline/streams/), where it lies on disk (exfm/state.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exfm.declaration import Declaration, declaration
from exfm.errors import (
    DeclarationError,
    at_least,
    choose_from,
    not_empty,
    not_negative,
    unique,
)
from exfm.inputs import Bag, Bucket, Cross, LogInput, Number, Vector
from exfm.log_columns import Column, Request, Task
from exfm.names import columns_and_tasks
from exfm.stream_checks import check_inputs, check_slices
from exfm.time_zones import DAY, begin, day_lengths

PART_ROWS = 1 << 18  # of 80 columns and histories some 800 MB, while they are learnt from
CALENDAR = ("hour_of_day", "day_of_week")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A half-open part of the stream, [start, end), named by ``key`` (also its Dagster partition key).

    Args:
        index: its place in the stream, 0 for the first; negative before the stream.
    """

    key: str
    start: datetime
    end: datetime
    index: int

    @property
    def folder(self) -> str:
        """The slice's hive folder: ``slice=`` and the key without colons."""
        return f"slice={self.key.replace(':', '')}"


@declaration
class Stream(Declaration):
    """A log of impressions, outcomes and interactions, cut into slices.

    Args:
        first_slice: start of the first slice, UTC, on a multiple of ``slice_length`` since midnight of ``time_zone``.
        slice_length: a day, or hours that divide a day, or minutes that divide an hour.
        time_zone: by whose clock slices are cut and named, and calendar columns are derived. In one that changes its
            clock slices are whole days, of which two a year have 23 and 25 hours.
        impressions_from: where interactions begin before impressions do: start of the first slice that has any. Slices
            before it are there for views to look back on; ``None``: every slice should have some.
        until: end of a closed log (the end of its last slice); ``None`` for one that still grows.
        known_until: outcomes after it are not in the log, so a window that closes later stays open. ``None``: complete.
        lateness: how long after its window an outcome is still recognised (and counted as late), not an orphan.
        user, item, surface: columns of the impressions with these roles.
        surfaces: every value of the surface column; a row with another one is quarantined.
        context: further categorical columns of the impressions.
        numbers, vectors, bags: further columns of the impressions: numbers, lists of floats, several ids at once.
        calendar: any of ``hour_of_day``, ``day_of_week``, derived from ``event_timestamp``.
        weight: a column of the impressions that says how many impressions a row stands for; of a log whose negatives
            were sampled, 1 / rate for those, 1 for the others. Losses, NE, AUC and calibration are then of all.
        request: a column of the impressions that says what was shown together.
        crosses, buckets: ids that are made of other columns when a model reads them.
        tasks: what is predicted.
        part_rows: a slice of more rows is read, worked on and written in parts of so many, of which few are in memory
            at once; models learn from it part by part, each in an order of its own. Fewer need less memory.
        quarantine_limit: share of a table's rows, in (0, 1], of which a run may quarantine more only by stopping.
    """

    first_slice: datetime
    slice_length: timedelta
    user: Column
    item: Column
    surface: Column
    surfaces: tuple[int | str, ...]
    tasks: tuple[Task, ...]
    until: datetime | None = None
    impressions_from: datetime | None = None
    known_until: datetime | None = None
    lateness: timedelta = timedelta(0)
    context: tuple[Column, ...] = ()
    calendar: tuple[str, ...] = ()
    quarantine_limit: float = 0.5
    numbers: tuple[Number, ...] = ()
    vectors: tuple[Vector, ...] = ()
    bags: tuple[Bag, ...] = ()
    crosses: tuple[Cross, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    weight: str | None = None
    request: Request | None = None
    time_zone: str = "UTC"
    part_rows: int = PART_ROWS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_slices(self)
        not_empty("Stream.tasks", self.tasks, what="task")
        not_empty("Stream.surfaces", self.surfaces, what="surface")
        unique("Stream.tasks", (task.name for task in self.tasks))
        for value in self.surfaces:
            if not isinstance(value, self.surface.dtype):
                raise DeclarationError(
                    f"Stream.surfaces: {value!r} is not of the surface column's type {self.surface.dtype.__name__}: "
                    "write it as one, or change Column.dtype"
                )
        unique("Stream.surfaces", self.surfaces)
        unique("Stream.calendar", self.calendar)
        for derived in self.calendar:
            choose_from("Stream.calendar", derived, CALENDAR, what="calendar column")
        unique("Stream.context", (column.name for column in self.id_columns))
        check_inputs(self)
        columns_and_tasks((each.name for each in (*self.id_columns, *self.inputs)), self.task_names)
        not_negative("Stream.lateness", self.lateness)
        at_least("Stream.part_rows", self.part_rows, 1)
        if not 0 < self.quarantine_limit <= 1:
            raise DeclarationError(
                f"Stream.quarantine_limit: {self.quarantine_limit!r} is not a share of rows: use one in (0, 1]"
            )

    @property
    def id_columns(self) -> tuple[Column, ...]:
        """Every categorical column, calendar ones included, in a fixed order."""
        calendar = (Column(name=name, rows=32) for name in self.calendar)
        return (self.user, self.item, self.surface, *self.context, *calendar)

    @property
    def inputs(self) -> tuple[LogInput, ...]:
        """What models can read of the log beside its categorical columns."""
        return (*self.logged_inputs, *self.made_inputs)

    @property
    def logged_inputs(self) -> tuple[Number | Vector | Bag, ...]:
        """Those that are columns of the impressions."""
        return (*self.numbers, *self.vectors, *self.bags)

    @property
    def made_inputs(self) -> tuple[Cross | Bucket, ...]:
        """Those that are made of other columns when a model reads them."""
        return (*self.crosses, *self.buckets)

    @property
    def item_inputs(self) -> tuple[str, ...]:
        """Those of them that say something of the item alone."""
        said = {each.name for each in self.logged_inputs if each.of_item}
        made = (bucket.name for bucket in self.buckets if bucket.of in said)
        return (*(each.name for each in self.inputs if each.name in said), *made)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def labelled_tasks(self) -> tuple[Task, ...]:
        """Tasks whose labels are a column of the impressions."""
        return tuple(task for task in self.tasks if task.label is not None)

    @property
    def outcome_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the log has outcomes of."""
        return tuple(task.name for task in self.tasks if task.label is None)

    @property
    def shown_since(self) -> datetime:
        """Start of the first slice that has impressions."""
        return self.impressions_from or self.first_slice

    @property
    def longest_window(self) -> timedelta:
        return max(task.window for task in self.tasks)

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    @property
    def key_format(self) -> str:
        return "%Y-%m-%d" if self.slice_length == DAY else "%Y-%m-%d-%H:%M"

    @property
    def cron(self) -> str:
        """The cron schedule whose ticks are the slices' starts, by the clock of ``time_zone``."""
        minutes = self.slice_length // timedelta(minutes=1)
        if minutes >= 24 * 60:
            return "0 0 * * *"
        return f"0 */{minutes // 60} * * *" if minutes >= 60 else f"*/{minutes} * * * *"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def lengths(self) -> tuple[timedelta, timedelta]:
        """The shortest and the longest slice: other than ``slice_length`` where the zone changes its clock."""
        if self.slice_length != DAY:
            return self.slice_length, self.slice_length
        return day_lengths(self.time_zone, self.first_slice, self.until)

    @property
    def is_even(self) -> bool:
        """Are all slices of one length?"""
        return self.lengths[0] == self.lengths[1]

    @property
    def slack(self) -> timedelta:
        """How much longer some slices can be than as many times ``slice_length``: the hour of a clock change."""
        return self.lengths[1] - self.slice_length

    def slice_at(self, index: int) -> Slice:
        """The slice at a place in the stream, 0 being the first; negative places lie before the stream."""
        start, end = self._start_of(index), self._start_of(index + 1)
        key = start.astimezone(self.zone).strftime(self.key_format)
        return Slice(key=key, start=start, end=end, index=index)

    def _start_of(self, index: int) -> datetime:
        if self.is_even:
            return self.first_slice + index * self.slice_length
        return begin(self.zone, self._first_day + timedelta(days=index))

    @property
    def _first_day(self) -> date:
        return self.first_slice.astimezone(self.zone).date()

    def slice_of(self, key: str) -> Slice:
        """The slice that a key names.

        Raises:
            DeclarationError: if the key is not the start of a slice of this stream.
        """
        try:
            start = datetime.strptime(key, self.key_format).replace(tzinfo=self.zone).astimezone(UTC)
        except (ValueError, OverflowError):
            start = self.first_slice - self.slice_length
        slice_ = self.slice_at(self.index_at(start))
        if slice_.key != key or start < self.first_slice or (self.until is not None and start >= self.until):
            ends = f" and before {self.until:{self.key_format}}" if self.until else ""
            raise DeclarationError(
                f"slice: {key!r} is not a slice of this stream: "
                f"use a key like {self.slice_at(0).key}, not earlier{ends}"
            )
        return slice_

    def index_at(self, moment: datetime) -> int:
        """The place of the slice that holds ``moment``; negative before the stream."""
        if self.is_even:
            return (moment - self.first_slice) // self.slice_length
        return (moment.astimezone(self.zone).date() - self._first_day).days

    def slices(self, start: datetime, end: datetime) -> Iterator[Slice]:
        """The slices of the stream that meet [start, end), oldest first."""
        index = max(self.index_at(start), 0)
        last = end if self.until is None else min(end, self.until)
        while (slice_ := self.slice_at(index)).start < last:
            yield slice_
            index += 1

    @property
    def all_slices(self) -> list[Slice] | None:
        """Every slice of a closed log, oldest first; ``None`` while it grows."""
        return None if self.until is None else list(self.slices(self.first_slice, self.until))

    def slices_between(self, first: str, last: str) -> list[Slice]:
        """The slices from one key to another, both included, oldest first.

        Raises:
            DeclarationError: if a key names no slice, or the last is before the first.
        """
        start, end = self.slice_of(first), self.slice_of(last)
        if end.start < start.start:
            raise DeclarationError(
                f"range: {first}...{last} ends before it begins, so it holds no slice: write {last}...{first}"
            )
        return list(self.slices(start.start, end.end))

    def closes(self, slice_: Slice, now: datetime) -> datetime:
        """``as_of`` of a slice's labels: when its last window closes, or how far the log is known if that is sooner."""
        known = now if self.known_until is None else min(self.known_until, now)
        return min(slice_.end + self.longest_window, known)

    def serving_lag(self, task: str) -> int:
        """Slices between the one that a checkpoint trained on last and the first that it can serve.

        A label closes the task's window after its impression, so a checkpoint that trained on slice s exists from
        ``end(s) + window`` and serves slice t only if ``start(t)`` is not earlier.
        """
        return 1 - (-self.task(task).window // self.lengths[0])  # 1 + ceil(window / length)
