"""What a stream's own fields must fit: slices into days, inputs and labels beside its columns.

Belongs here: rules of the stream as a whole. Not here: what it is (stream.py), rules of each column (inputs.py).
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from exfm.errors import DeclarationError, choose_from, identifier, positive, unique
from exfm.inputs import check_beside
from exfm.names import COLUMNS
from exfm.time_zones import DAY, begin, check_zone, day_lengths

if TYPE_CHECKING:
    from exfm.stream import Stream

_LENGTHS = (
    *(timedelta(minutes=minutes) for minutes in range(1, 60) if 60 % minutes == 0),
    *(timedelta(hours=hours) for hours in range(1, 25) if 24 % hours == 0),
)
MOST_SLICES = 1_000_000  # of a closed log: Dagster lists them


def check_inputs(stream: "Stream") -> None:
    """Refuse inputs and labels that the log, or each other, can't give.

    Raises:
        DeclarationError: for the first.
    """
    taken = {*COLUMNS, *(each.name for each in (*stream.id_columns, *stream.inputs))}
    unique("Stream.tasks", (str(task.label) for task in stream.labelled_tasks if not task.reads_values))
    for task in stream.labelled_tasks:
        others = [other for other in stream.labelled_tasks if other.label == task.label]
        if not task.reads_values and len(others) > 1:
            raise DeclarationError(
                f"Task({task.name}).label: {task.label!r} is a value of task {others[-1].name!r}: "
                f"give Task({task.name}) above or ceiling, too"
            )
    for task in stream.labelled_tasks:
        if task.label in taken:
            raise DeclarationError(
                f"Task({task.name}).label: {task.label!r} is also an input, or a column that tables add: a label "
                "can't be one, rename the column"
            )
    labels = [task.label for task in stream.labelled_tasks]
    if stream.weight is not None:
        identifier("Stream.weight", stream.weight)
        if stream.weight in (*taken, *labels, *stream.task_names):
            raise DeclarationError(
                f"Stream.weight: {stream.weight!r} is also an input, a label, a task, or a column that tables add: "
                "rename the column"
            )
    if stream.request is not None and stream.request.name in (*taken, *labels, *stream.task_names, stream.weight):
        raise DeclarationError(
            f"Stream.request: {stream.request.name!r} is also an input, a label, a task, the weight, or a column that "
            "tables add: rename the column"
        )
    for field in ("numbers", "vectors", "bags", "crosses", "buckets"):
        unique(f"Stream.{field}", (each.name for each in getattr(stream, field)))
    ids = tuple(column.name for column in stream.id_columns)
    for bag in stream.bags:
        if bag.of is not None and ":" not in bag.of:  # a view's: bag_checks.py
            logged = [name for name in ids if name not in stream.calendar]
            choose_from(f"Bag({bag.name}).of", bag.of, logged, what="categorical column of the log")
    check_beside(stream.bags)
    for made in stream.made_inputs:
        made.check(ids, tuple(number.name for number in stream.numbers))


def _end_near(stream: "Stream", until: datetime) -> datetime:
    """The end of the slice that holds a moment, or of the first."""
    return stream.slice_at(max(stream.index_at(until), 0)).end


def check_slices(stream: "Stream") -> None:
    """Refuse slices that do not fit a day, or the stream's ends.

    Raises:
        DeclarationError: for the first.
    """
    length = stream.slice_length
    positive("Stream.slice_length", length)
    if length not in _LENGTHS:
        raise DeclarationError(
            f"Stream.slice_length: {length} does not divide a day evenly: "
            "use a day, 1/2/3/4/6/8/12 hours, or 1/2/3/4/5/6/10/12/15/20/30 minutes"
        )
    check_zone("Stream.time_zone", stream.time_zone)
    shortest, longest = day_lengths(stream.time_zone, stream.first_slice, stream.until)
    if shortest != longest and length != DAY:
        raise DeclarationError(
            f"Stream.time_zone: {stream.time_zone!r} changes its clock, so that a day has hours twice, and slices of "
            f"{length} no names of their own: use slice_length=timedelta(days=1), or 'UTC'"
        )
    midnight = begin(stream.zone, stream.first_slice.astimezone(stream.zone).date())
    local = "" if stream.time_zone == "UTC" else f" in {stream.time_zone}"
    if (stream.first_slice - midnight) % length or (length == DAY and stream.first_slice != midnight):
        raise DeclarationError(
            f"Stream.first_slice: {stream.first_slice} is not on a multiple of {length} since midnight{local}: "
            f"use {midnight + (stream.first_slice - midnight) // length * length}"
        )
    until = stream.until
    if until is not None and (until <= stream.first_slice or stream.slice_at(stream.index_at(until)).start != until):
        raise DeclarationError(
            f"Stream.until: {until} is not the end of a slice{local}: use {_end_near(stream, until)}"
        )
    since, last = stream.impressions_from, stream.until or datetime.max.replace(tzinfo=UTC)
    if since is not None and not (
        stream.first_slice < since < last and stream.slice_at(stream.index_at(since)).start == since
    ):
        raise DeclarationError(
            f"Stream.impressions_from: {since} is not the start of a later slice than the first{local}: use the start "
            "of one after first_slice, or drop it"
        )
    if stream.until is not None and (slices := (stream.until - stream.first_slice) // length) > MOST_SLICES:
        raise DeclarationError(
            f"Stream.until: {stream.until} makes {slices:,} slices of {length}, more than {MOST_SLICES:,}: "
            "use longer slices, or an earlier end"
        )
    if stream.known_until is not None and stream.known_until <= stream.first_slice:
        raise DeclarationError(
            f"Stream.known_until: {stream.known_until} is before the first outcome can be: use one after first_slice"
        )
