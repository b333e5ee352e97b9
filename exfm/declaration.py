"""What every declaration keeps to: only fields that exist, each of its declared type, finite, in UTC, within bounds.

Belongs here: the rule that runs over all fields of all declarations, found by introspection.
Not here: what one part asks beyond that (each part checks itself), the words of single checks (errors.py).
"""

import math
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from exfm.errors import DeclarationError, identifier, shown

ADDED = {"added": True}  # metadata of a field that came later: at its default it leaves a digest as it was
LARGEST_FLOAT = 3.4e38  # of 32 bits, in which models compute
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=36_525)  # a hundred years: further back no clock of Arrow, pandas and Feast agrees


class _Named(type):
    """Calls of a declaration: a field that does not exist, or is not given, is said in a sentence."""

    def __call__(cls, *args: Any, **given: Any) -> Any:
        known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
        if args:
            raise DeclarationError(f"{cls.__name__}: {shown(args[0])} has no field: write {_call(cls.__name__, known)}")
        for name in given:
            if name not in known:
                raise DeclarationError(
                    f"{cls.__name__}.{name}: is not supported: use one of {', '.join(known) or 'no field'}, or drop it"
                )
        for name, field in known.items():
            if name not in given and field.default is MISSING and field.default_factory is MISSING:
                raise DeclarationError(f"{cls.__name__}.{name}: is not given: declare one")
        return super().__call__(**given)


def _call(name: str, known: dict[str, Field[Any]]) -> str:
    return f"{name}({next(iter(known), 'field')}=...)"


class Declaration(metaclass=_Named):
    """Base of all declarations. A subclass with rules of its own calls ``super().__post_init__()`` first.

    Raises:
        DeclarationError: for the first field that breaks the rule.
    """

    def __post_init__(self) -> None:
        for name, kind in kinds(type(self)).items():
            value = getattr(self, name)
            where = f"{self._where if name != 'name' else type(self).__name__}.{name}"
            if not fits(value, kind):
                raise DeclarationError(f"{where}: {_mismatch(value, kind)}")
            _within_bounds(where, value)
            if name == "name":
                identifier(where, value)

    @property
    def _where(self) -> str:
        """How messages call it: ``FeatureView(user_activity)``, or ``Training``."""
        name = getattr(self, "name", None)
        return f"{type(self).__name__}({name})" if name is not None else type(self).__name__


@cache
def kinds(declared: type) -> dict[str, Any]:
    """The type of each field that can be declared."""
    hints = get_type_hints(declared)
    return {field.name: hints[field.name] for field in fields(declared) if field.init}


def fits(value: object, kind: Any) -> bool:
    """Is a value of a type, as type checkers see it, but that a bool is no number?"""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in args)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(one, args[0]) for one in value)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is type:
        return value is args[0]
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _said(kind: Any) -> str:
    """A type as a person says it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_said(one) for one in args)
    if origin is tuple:
        return f"a tuple of {_said(args[0])}"
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is type:
        return f"the type {args[0].__name__}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", NoneType: "None"}
    return words.get(kind) or str(kind.__name__)


def _mismatch(value: object, kind: Any) -> str:
    """What a value of the wrong type is, and the mend."""
    tuples = [one for one in (kind, *get_args(kind)) if get_origin(one) is tuple]
    mend = f"write {_said(kind)}"
    if isinstance(value, type) and fits_class(value, kind):
        mend = f"write {value.__name__}(...), not the class"
    elif tuples and isinstance(value, list | set | frozenset):
        mend = "write a tuple, (..., ...)"
    elif tuples and fits((value,), tuples[0]):
        mend = f"write ({shown(value)},)"
    return f"{shown(value)} is not {_said(kind)}: {mend}"


def fits_class(value: type, kind: Any) -> bool:
    """Would an instance of a class be of the type?"""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(isinstance(one, type) and issubclass(value, one) for one in options if get_origin(one) is None)


def _within_bounds(where: str, value: object) -> None:
    """Refuse numbers, moments and durations that no later step could compute with."""
    if isinstance(value, tuple):
        for one in value:
            _within_bounds(where, one)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise DeclarationError(f"{where}: {value!r} is not finite: use a number")
        if abs(value) > LARGEST_FLOAT:
            raise DeclarationError(f"{where}: {value!r} is too large for 32 bits: use a number below 3.4e38")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise DeclarationError(f"{where}: {shown(value)} is too large for 64 bits: use one below 2**63")
    elif isinstance(value, str):
        if not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise DeclarationError(f"{where}: {shown(value)} is half a character: use text that UTF-8 can write")
    elif isinstance(value, datetime):
        if value.utcoffset() != timedelta(0) or value.tzname() != "UTC":
            raise DeclarationError(f"{where}: {value!r} is not in UTC: write datetime(..., tzinfo=UTC)")
        if not EARLIEST <= value <= LATEST:
            raise DeclarationError(f"{where}: {value} is out of range: use a moment between 1970 and 2200")
    elif isinstance(value, timedelta) and abs(value) > LONGEST:
        raise DeclarationError(f"{where}: {value} is too long: use at most a hundred years")
