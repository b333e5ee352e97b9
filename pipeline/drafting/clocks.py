"""Outcomes that come before their impressions: of two clocks, one has another zone.

Belongs here: telling that, and which zone would explain it. Not here: how long outcomes take (slices.py).
"""

import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.drafting.moments import Moment
from pipeline.drafting.slices import Delays

MOST, SOME = 0.5, 0.05  # of outcomes that come too early: clocks differ; they do if the first are whole hours early
ZONES = (
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "Europe/Moscow", "Asia/Dubai", "Asia/Karachi", "Asia/Dhaka",
    "Asia/Bangkok", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland", "America/New_York",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Anchorage", "America/Sao_Paulo",
    "Atlantic/Azores", "Atlantic/South_Georgia", "Pacific/Honolulu",
)  # fmt: skip
ROUNDED = 0.05  # of an hour, by which clocks that are set apart may differ besides
SOON = 0.2  # of an hour, within which the first outcomes come


def clocks(delays: Delays, shown: Moment, outcomes: Moment, at: datetime) -> str | None:
    """What to do about two clocks, where most outcomes come before their impressions, or some by whole hours.

    Args:
        shown: time of the impressions. ``outcomes``: of the outcomes. ``at``: when zones are compared.
    """
    early = -delays.earliest / 3600
    hours = math.ceil(early - ROUNDED)
    whole = hours - early <= SOON
    if hours < 1 or delays.early <= (SOME if whole else MOST) * delays.met:
        return None
    told = f"{hours} hour{'s' if hours > 1 else ''}"
    means = []
    for time, ahead, called in ((shown, hours, "impressions"), (outcomes, -hours, "outcomes")):
        zone = _zone(ahead, at) if time.zoneless else None
        if zone is not None:
            means.append((f"EventTime(zone={zone!r}) for the {called}, whose times name no zone", zone))
    mended = f"it would be explained by {', or by '.join(name for name, _ in means)}" if means else (
        "of both the zone is known, so whoever wrote one of them mistook a local time for UTC"
    )  # fmt: skip
    if means and shown.zoneless != outcomes.zoneless:
        mended += f": draft it anew with --zone {means[0][1]}, for slices and windows change, too"
    elif means:
        mended += "; mend first_slice, until and windows, too, for they were guessed by the clocks as they are"
    return (
        f"{delays.early:,} of {delays.met:,} outcomes come before their own impressions, by up to {told}: one of the "
        f"two clocks has another zone; {mended}"
    )


def _zone(hours: int, at: datetime) -> str | None:
    """A zone whose clock is so many hours ahead of UTC then."""
    return next((zone for zone in ZONES if at.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(hours=hours)), None)
