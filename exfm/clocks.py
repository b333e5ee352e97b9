"""Clocks of views: which stamps, windows and delays can be kept.

Belongs here: what all kinds of views ask of their durations. Not here: the rules of one kind (feature_views.py).
"""

from datetime import timedelta

from exfm.errors import DeclarationError, not_negative, positive
from exfm.stream import Stream

MOST_SLICES = 100_000  # that one slice may look back: Dagster walks them one by one


def check_clock(where: str, windows: dict[str, tuple[timedelta, ...]], every: timedelta | None) -> None:
    """Refuse windows that have no name or no row.

    Args:
        windows: by the field that declares them.
        every: of which they are multiples; ``None``: of the slice.

    Raises:
        DeclarationError: for one that is not longer than zero, a window that is not in whole minutes (features are
            named by them) or no multiple of ``every``.
    """
    if every is not None:
        positive(f"{where}.every", every)
        _whole(f"{where}.every", every, timedelta(seconds=1), "seconds")
    for field, declared in windows.items():
        for window in declared:
            positive(f"{where}.{field}", window)
            _whole(f"{where}.{field}", window, timedelta(minutes=1), "minutes")
            if every is not None and window % every:
                raise DeclarationError(f"{where}.{field}: {window} is not a multiple of every={every}: use a multiple")


def check_delay(where: str, delay: timedelta, ttl: timedelta) -> None:
    """Refuse a delay that is negative, or after which a value has expired.

    Raises:
        DeclarationError: if it is.
    """
    not_negative(f"{where}.delay", delay)
    if delay >= ttl:
        raise DeclarationError(
            f"{where}.delay: {delay} outlives every value, they expire after {ttl}: use a shorter one"
        )


def check_reach(field: str, length: timedelta, stream: Stream) -> None:
    """Refuse what looks further back than a graph of slices can.

    Raises:
        DeclarationError: if ``length`` is more than ``MOST_SLICES`` slices.
    """
    if length > MOST_SLICES * stream.slice_length:
        raise DeclarationError(
            f"{field}: {length} is more than {MOST_SLICES:,} slices of {stream.slice_length}: use a shorter one"
        )


def check_every(where: str, every: timedelta, stream: Stream) -> None:
    """Refuse stamps that don't meet the ends of slices.

    Raises:
        DeclarationError: if ``every`` does not divide the slice length.
    """
    if not stream.is_even and every != stream.slice_length:
        raise DeclarationError(
            f"{where}.every: {every} is not the slice length: in {stream.time_zone}, where two days a year are longer "
            "or shorter, stamps are the ends of slices: use every=timedelta(days=1)"
        )
    if stream.slice_length % every:
        raise DeclarationError(
            f"{where}.every: {every} does not divide the slice length {stream.slice_length}: use one that does"
        )


def _whole(field: str, value: timedelta, unit: timedelta, what: str) -> None:
    if value % unit:
        raise DeclarationError(f"{field}: {value} is not in whole {what}: use a multiple of {unit}")
