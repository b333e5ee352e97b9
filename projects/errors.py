"""The one error of a bad declaration, and the helpers that word it.

Belongs here: how a declaration complains. Not here: what it complains about (each part checks itself).
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta


class DeclarationError(ValueError):
    """A declaration that can't be honoured: one sentence that names the field, the value and the mend."""


def choose_from(field: str, value: object, known: Iterable[object], *, what: str) -> None:
    """Refuse a name that is not declared.

    Raises:
        DeclarationError: if ``value`` is not among ``known``.
    """
    names = list(known)
    if value not in names:
        listed = ", ".join(map(repr, names)) or "none is declared"
        raise DeclarationError(f"{field}: {value!r} is not a declared {what}: use one of {listed}, or declare it")


def at_least(field: str, value: float, least: float) -> None:
    """Refuse a number below its least value.

    Raises:
        DeclarationError: if ``value < least``.
    """
    if value < least:
        raise DeclarationError(f"{field}: {value!r} is too small: use {least} or more")


def positive(field: str, value: timedelta) -> None:
    """Refuse a duration that is zero or negative.

    Raises:
        DeclarationError: if ``value`` is not longer than zero.
    """
    if value <= timedelta(0):
        raise DeclarationError(f"{field}: {value} is not a duration: use one longer than zero")


def aware(field: str, value: datetime) -> None:
    """Refuse a timestamp that does not say its zone.

    Raises:
        DeclarationError: if ``value`` is naive or not in UTC.
    """
    if value.utcoffset() != timedelta(0):
        raise DeclarationError(f"{field}: {value!r} is not in UTC: write datetime(..., tzinfo=UTC)")


def not_empty(field: str, values: Collection[object], *, what: str) -> None:
    """Refuse an empty collection.

    Raises:
        DeclarationError: if there is nothing in ``values``.
    """
    if not values:
        raise DeclarationError(f"{field}: () declares no {what}: declare at least one")


def unique(field: str, names: Iterable[str]) -> None:
    """Refuse a name that is used twice.

    Raises:
        DeclarationError: naming the first repeated one.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DeclarationError(f"{field}: {name!r} is declared twice: rename one of them")
        seen.add(name)


def identifier(field: str, name: str) -> None:
    """Refuse a name that Feast, Dagster or a folder could not carry.

    Raises:
        DeclarationError: if ``name`` is not lower-case letters, digits and single underscores.
    """
    if not name.isidentifier() or name != name.lower() or "__" in name:
        raise DeclarationError(
            f"{field}: {name!r} can't name a view, an asset and a folder: use lower-case letters, digits, single '_'"
        )
