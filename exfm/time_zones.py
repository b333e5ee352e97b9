"""Days of a time zone: where they begin, and whether they are all of one length.

Belongs here: arithmetic of local days. Not here: slices (stream.py).
"""

from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from exfm.errors import DeclarationError, shown

DAY = timedelta(days=1)
_THIS_MACHINES = ("localtime", "posixrules", "Factory")  # files beside the zones, whose meaning is no place's
LOOKED_AHEAD = timedelta(days=5 * 366)  # of a stream without an end: rules of a zone come back each year


def check_zone(field: str, name: str) -> None:
    """Refuse what names no time zone of the IANA database.

    Raises:
        DeclarationError: with the nearest name.
    """
    try:
        if name in _THIS_MACHINES:
            raise ValueError(name)
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise DeclarationError(
            f"{field}: {shown(name)} is no time zone{meant}: use a name such as 'Asia/Shanghai', or 'UTC'"
        ) from None


def begin(zone: ZoneInfo, day: date) -> datetime:
    """The first moment of a local day, in UTC; also of one that has no midnight, or two."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


@lru_cache(maxsize=256)
def day_lengths(name: str, first: datetime, until: datetime | None) -> tuple[timedelta, timedelta]:
    """The shortest and the longest day of a zone between two moments."""
    zone = ZoneInfo(name)
    if name == "UTC":
        return DAY, DAY
    day, end = first.astimezone(zone).date(), (until or first + LOOKED_AHEAD)
    starts = [begin(zone, day)]
    while starts[-1] < end:
        day += DAY
        starts.append(begin(zone, day))
    lengths = [after - before for before, after in zip(starts, starts[1:], strict=False)]
    return min(lengths, default=DAY), max(lengths, default=DAY)
