"""Freshness: how old the data behind what is kept may be, by the stream's own clock.

Belongs here: what can be declared of it, and what a stream allows at best. Not here: measuring it
(pipeline/upkeep/ages.py), what Dagster shows of it (exfm_assets/freshness_marks.py).

What counts is the data, never when something was recorded: a model that was trained a minute ago on last week's slices
is a week old. The clock of a stream is now, and of a closed log its end.
"""

from dataclasses import dataclass
from datetime import timedelta

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError


@declaration
class Freshness(Declaration):
    """Ages of the data behind something: when it is refreshed, and when a promise is broken.

    Args:
        warn: the machine refreshes it by itself, in time for this age not to be reached; ``None``: half a slice more
            than the stream allows at best, so at each slice.
        fail: the promise to those who use it; ``None``: two slices after ``warn``.
    """

    warn: timedelta | None = None
    fail: timedelta | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, age in (("warn", self.warn), ("fail", self.fail)):
            if age is not None and age < timedelta(minutes=1):
                raise DeclarationError(f"Freshness.{name}: {age} is too short to be looked at: use a minute or more")
        if self.warn is not None and self.fail is not None and self.warn >= self.fail:
            raise DeclarationError(f"Freshness.warn: {self.warn} is not before fail={self.fail}: use a shorter one")


@dataclass(frozen=True)
class Limits:
    """Ages at which something is refreshed, and at which a promise is broken.

    Args:
        best: the age that it has just before the next can be there, if no work took any time.
    """

    best: timedelta
    warn: timedelta
    fail: timedelta


def limits(where: str, declared: Freshness, best: timedelta, slice_length: timedelta) -> Limits:
    """What is declared, with what is not declared filled in.

    Raises:
        DeclarationError: if a promise is shorter than the stream allows.
    """
    if declared.fail is not None and declared.fail <= best:
        raise DeclarationError(
            f"{where}.fail: {declared.fail} can't be kept: with slices of {slice_length}, the wait for labels and the "
            f"slices of the gate, the data is {best} old before anything newer can be there: use more than that, or "
            "shorter slices"
        )
    fail = declared.fail
    warn = declared.warn if declared.warn is not None else best + slice_length / 2
    if declared.warn is None and fail is not None:
        warn = min(warn, best + (fail - best) / 2)
    return Limits(best, warn, fail if fail is not None else warn + 2 * slice_length)
