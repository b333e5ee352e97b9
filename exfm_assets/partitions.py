"""Slices as Dagster partitions, and how a slice of one asset needs slices of another.

Belongs here: partition definitions and mappings. Not here: the arithmetic of slices (exfm/stream.py).
"""

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from dagster._core.definitions.partitions.mapping import time_window as mapping

from exfm.errors import DeclarationError
from exfm.stream import Slice, Stream

# Both are beta in Dagster 1.13, used on purpose and pinned by tests.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

SINGLE_RUN = dg.BackfillPolicy.single_run()
_MINUTES = re.compile(r"\*/(\d+) \* \* \* \*")
_HOURS = re.compile(r"0 \*/(\d+) \* \* \*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_walked = mapping._offsetted_datetime


def slice_partitions(stream: Stream) -> dg.TimeWindowPartitionsDefinition:
    """One partition a slice; the newest is the last one that has ended."""
    zone = stream.zone  # Dagster takes the hands of the clock, and not the zone, of what it is given
    return dg.TimeWindowPartitionsDefinition(
        start=stream.first_slice.astimezone(zone),
        end=None if stream.until is None else stream.until.astimezone(zone),
        cron_schedule=stream.cron,
        fmt=stream.key_format,
        timezone=stream.time_zone,
    )


def earlier(slices: int, *, to: int = -1) -> dg.TimeWindowPartitionMapping:
    """Slice t needs slices t - ``slices`` to t + ``to`` of the other asset, as far as the stream goes back."""
    return dg.TimeWindowPartitionMapping(
        start_offset=-slices, end_offset=to, allow_nonexistent_upstream_partitions=True
    )


@cache
def _step(cron: str, zone: str) -> timedelta | None:
    """The length of even slices; ``None`` where some are longer than others, or days, which Dagster counts itself."""
    minutes, hours = _MINUTES.fullmatch(cron), _HOURS.fullmatch(cron)
    if zone != "UTC" or (minutes is None and hours is None):
        return None
    return timedelta(minutes=int(minutes[1])) if minutes is not None else timedelta(hours=int(hours[1]))  # type: ignore[index]


def _offsetted(partitions_def: dg.TimeWindowPartitionsDefinition, dt: datetime, offset: int) -> datetime:
    """A moment so many slices later. Dagster walks there with croniter, slice by slice, wherever they are not days or
    hours: for a window of an hour over slices of a minute that made a tick of the automation last 20 seconds.
    """
    step = _step(partitions_def.cron_schedule, partitions_def.timezone)
    if step is None or (dt - _EPOCH) % step:
        return _walked(partitions_def, dt, offset)
    return dt + offset * step


mapping._offsetted_datetime = _offsetted


def slices_within(stream: Stream, length: timedelta) -> int:
    """How many slices a length of time reaches back, rounded up."""
    return -(-length // stream.lengths[0])


def slices_of(stream: Stream, keys: Sequence[str]) -> list[Slice]:
    """The slices that a run materialises, oldest first.

    Raises:
        DeclarationError: if there is none; Dagster takes a range that ends before it begins for an empty one.
    """
    if not keys:
        raise DeclarationError("range: it holds no slice: write it as first...last, the oldest slice first")
    return sorted((stream.slice_of(key) for key in keys), key=_start)


def _start(slice_: Slice) -> datetime:
    return slice_.start
