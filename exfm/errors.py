"""The one error of a bad declaration, and the helpers that word it.

Belongs here: how a declaration complains. Not here: what it complains about (each part checks itself).
"""

import re
from collections.abc import Collection, Iterable
from datetime import timedelta
from difflib import get_close_matches

LONGEST_NAME = 64  # with what is added to it, it must fit a file's name (255 bytes)
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class DeclarationError(ValueError):
    """A declaration that can't be honoured: one sentence that names the field, the value and the mend."""


def shown(value: object) -> str:
    """A value as a sentence can hold it: on one line, and not for ever."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def choose_from(field: str, value: object, known: Iterable[object], *, what: str) -> None:
    """Refuse a name that is not declared.

    Raises:
        DeclarationError: if ``value`` is not among ``known``.
    """
    names = list(known)
    if value not in names:
        if not names:
            raise DeclarationError(f"{field}: {shown(value)} is not a declared {what}: none is, so declare it")
        near = get_close_matches(str(value), map(str, names), n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        listed = ", ".join(map(repr, names))
        raise DeclarationError(
            f"{field}: {shown(value)} is not a declared {what}{meant}: use one of {listed}, or declare it"
        )


def int_or_str(field: str, dtype: object) -> None:
    """Refuse a type of ids that is neither.

    Raises:
        DeclarationError: if it is not the type ``int`` or the type ``str``.
    """
    if dtype not in (int, str):  # bool is a kind of int
        raise DeclarationError(f"{field}: {shown(dtype)} is not the type int or the type str: use one of them")


def at_least(field: str, value: float, least: float) -> None:
    """Refuse a number below its least value.

    Raises:
        DeclarationError: if ``value < least``.
    """
    if value < least:
        raise DeclarationError(f"{field}: {value!r} is too small: use {least} or more")


def at_most(field: str, value: float, most: float) -> None:
    """Refuse a number above its largest value.

    Raises:
        DeclarationError: if ``value > most``.
    """
    if value > most:
        raise DeclarationError(f"{field}: {value!r} is too large: use {most:,} or less")


def above_zero(field: str, value: float) -> None:
    """Refuse a number that is zero or negative.

    Raises:
        DeclarationError: if ``value <= 0``.
    """
    if not value > 0:
        raise DeclarationError(f"{field}: {value!r} is not positive: use one above 0")


def share(field: str, value: float) -> None:
    """Refuse a number outside [0, 1].

    Raises:
        DeclarationError: if it is.
    """
    if not 0 <= value <= 1:
        raise DeclarationError(f"{field}: {value!r} is not a share: use one in [0, 1]")


def positive(field: str, value: timedelta) -> None:
    """Refuse a duration that is zero or negative.

    Raises:
        DeclarationError: if ``value`` is not longer than zero.
    """
    if value <= timedelta(0):
        raise DeclarationError(f"{field}: {value} is not a duration: use one longer than zero")


def not_negative(field: str, value: timedelta) -> None:
    """Refuse a negative duration.

    Raises:
        DeclarationError: if it is.
    """
    if value < timedelta(0):
        raise DeclarationError(f"{field}: {value} is negative: use zero or more")


def not_empty(field: str, values: Collection[object], *, what: str) -> None:
    """Refuse an empty collection.

    Raises:
        DeclarationError: if there is nothing in ``values``.
    """
    if not values:
        raise DeclarationError(f"{field}: () declares no {what}: declare at least one")


def unique(field: str, names: Iterable[str | int]) -> None:
    """Refuse a name that is used twice.

    Raises:
        DeclarationError: naming the first repeated one.
    """
    seen: set[str | int] = set()
    for name in names:
        if name in seen:
            raise DeclarationError(f"{field}: {name!r} is declared twice: rename or drop one of them")
        seen.add(name)


def identifier(field: str, name: str) -> None:
    """Refuse a name that Feast, Dagster or a folder could not carry.

    Raises:
        DeclarationError: if ``name`` is not up to 64 lower-case letters of ASCII and digits, with single ``_`` between.
    """
    if not _NAME.fullmatch(name):
        raise DeclarationError(
            f"{field}: {shown(name)} can't name a view, an asset and a folder: use lower-case letters a-z, digits, "
            "and single '_' between them, beginning with a letter"
        )
    if len(name) > LONGEST_NAME:
        raise DeclarationError(
            f"{field}: {shown(name)} is longer than {LONGEST_NAME} characters, so a file could not be named by it: "
            "use a shorter one"
        )
