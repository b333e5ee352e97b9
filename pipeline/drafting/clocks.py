"""Outcomes that come before their impressions, or all of them hours after: of two clocks, one has another zone.

Belongs here: telling that, and which zone would explain it. Not here: how long outcomes take (slices.py).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.drafting.moments import Moment
from pipeline.drafting.slices import HOUR, Delays, told

MOST, SOME = 0.5, 0.05  # of outcomes that come too early: clocks differ; they do if the first are whole hours early
FEWEST = 20  # outcomes, of which it is told that none comes soon
ZONES = (
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "Europe/Moscow", "Asia/Dubai", "Asia/Karachi", "Asia/Dhaka",
    "Asia/Bangkok", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland", "America/New_York",
    "America/Chicago", "America/Halifax", "America/Denver", "America/Los_Angeles", "America/Anchorage",
    "America/Sao_Paulo", "Atlantic/Azores", "Atlantic/South_Georgia", "Pacific/Honolulu",
)  # fmt: skip
ROUNDED = 0.05  # of an hour, by which clocks that are set apart may differ besides
SOON = 0.2  # of an hour, within which the first outcomes come


@dataclass(frozen=True)
class Clocks:
    """The two clocks of a task.

    Args:
        shown: time of the impressions. ``outcomes``: of the outcomes.
        span: the first and the last moment of both, between which a zone may change its clock.
    """

    task: str
    delays: Delays
    shown: Moment
    outcomes: Moment
    span: tuple[datetime, datetime]

    def early(self) -> str | None:
        """What to do, where most outcomes come before their impressions, or some by whole hours."""
        early, delays = -self.delays.earliest / 3600, self.delays
        hours = math.ceil(early - ROUNDED)
        whole = hours - early <= SOON
        if hours < 1 or delays.early <= (SOME if whole else MOST) * delays.met:
            return None
        return (
            f"{delays.early:,} of {delays.met:,} outcomes come before their own impressions, by up to "
            f"{told(hours * HOUR)}: one of the two clocks has another zone; {self._mended(hours)}"
        )

    def late(self) -> str | None:
        """What to do, where nearly all outcomes come whole hours after their impressions, the first of them just then.

        So are outcomes of an honest clock at times: it is told where a zone is not known only.
        """
        late = self.delays.earliest / 3600
        hours = math.floor(late + ROUNDED)
        known = not (self.shown.zoneless or self.outcomes.zoneless)
        if hours < 1 or late - hours > SOON or known or self.delays.met < FEWEST:
            return None
        return (
            f"nearly none of {self.delays.met:,} outcomes comes within {told(hours * HOUR)} of its impression, and no "
            f"other task's come sooner: if that is not so in truth, one of the two clocks has another zone; "
            f"{self._mended(-hours)}"
        )

    def _mended(self, hours: int) -> str:
        """Which zone would explain that impressions are by so many hours later than they should be."""
        means = []
        # Of a clock that is changed meanwhile the first outcomes tell the larger number ahead, the smaller one behind.
        for time, ahead, extreme, called in (
            (self.shown, hours, max, "impressions"), (self.outcomes, -hours, min, "outcomes")
        ):  # fmt: skip
            zone = _zone(ahead, self.span, extreme) if time.zoneless else None
            if zone is not None:
                means.append((f"EventTime(zone={zone!r}) for the {called}, whose times name no zone", zone))
        mended = f"it would be explained by {', or by '.join(name for name, _ in means)}" if means else (
            "of both the zone is known, so whoever wrote one of them mistook a local time for UTC"
            if not (self.shown.zoneless or self.outcomes.zoneless) else "say it by --zone, or beside each time"
        )  # fmt: skip
        if means and self.shown.zoneless != self.outcomes.zoneless:
            return f"{mended}: draft it anew with --zone {means[0][1]}, for slices and windows change, too"
        if means:
            mended += "; mend first_slice, until and windows, too, for they were guessed by the clocks as they are"
        return mended


def none_soon(clocks: Iterable[Clocks]) -> tuple[Clocks, str] | None:
    """Of several tasks the one whose outcomes come soonest, if even those come whole hours late; and what to do."""
    soonest = min((each for each in clocks if each.delays.met), key=lambda each: each.delays.earliest, default=None)
    why = None if soonest is None else soonest.late()
    return None if soonest is None or why is None else (soonest, why)


def _zone(
    hours: int, span: tuple[datetime, datetime], extreme: Callable[[Iterable[timedelta]], timedelta]
) -> str | None:
    """A zone whose clock is so many hours ahead of UTC then."""

    def offset(zone: str) -> timedelta:
        return extreme(at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0) for at in span)

    return next((zone for zone in ZONES if offset(zone) == timedelta(hours=hours)), None)
