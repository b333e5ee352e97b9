"""What every declaration keeps to: only fields that exist, each of its declared type, finite, in UTC, within bounds.

Belongs here: the rules that run over all fields of all declarations, their canonical form and its digest.
Not here: what one part asks beyond that (each part checks itself), the words of single checks (errors.py).

Types are checked, and values written and read, by pydantic; the sentence about a wrong one is ours.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import pydantic.dataclasses
from pydantic import (
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from exfm.errors import DeclarationError, identifier, shown

LARGEST_FLOAT = 3.4e38  # of 32 bits, in which models compute
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=36_525)  # a hundred years: further back no clock of Arrow, pandas and Feast agrees
# Unknown keys are dropped where a value is read back: a later exfm may say more. Calls refuse them, see _Named.
_CONFIG = ConfigDict(strict=True, extra="ignore", ser_json_timedelta="float")
T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def declaration(kind: type[T]) -> type[T]:
    """A frozen dataclass, given by keywords, whose fields are checked by pydantic (strictly: no value is converted)."""
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(kind)
    return cast(type[T], made)


class _Named(type):
    """Calls of a declaration: a field that does not exist, is not given, or is of another type is a sentence."""

    def __call__(cls, /, *args: Any, **given: Any) -> Any:
        known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
        if args:
            raise DeclarationError(f"{cls.__name__}: {shown(args[0])} has no field: write {_call(cls.__name__, known)}")
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                meant = f" (did you mean {near[0]!r}?)" if near else ""
                raise DeclarationError(
                    f"{cls.__name__}.{name}: is not supported{meant}: "
                    f"use one of {', '.join(known) or 'no field'}, or drop it"
                )
        for name, field in known.items():
            if name not in given and field.default is MISSING and field.default_factory is MISSING:
                raise DeclarationError(f"{cls.__name__}.{name}: is not given: declare one")
        try:
            return super().__call__(**given)
        except ValidationError as wrong:
            raise _sentence(cls, given, wrong) from None


def _call(name: str, known: dict[str, Field[Any]]) -> str:
    return f"{name}({next(iter(known), 'field')}=...)"


def _sentence(declared: type, given: Mapping[str, Any], wrong: ValidationError) -> DeclarationError:
    """The first thing that is wrong: what a declaration's own rule said, or a value of the wrong type."""
    first = wrong.errors(include_url=False)[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, DeclarationError):
        return own
    if not first["loc"]:  # a rule of a user's own class
        return DeclarationError(f"{_called(declared, given.get('name'))}: {own or first['msg']}")
    name = str(first["loc"][0])
    where = declared.__name__ if name == "name" else _called(declared, given.get("name"))
    return DeclarationError(f"{where}.{name}: {_mismatch(given[name], kinds(declared)[name])}")


def _called(declared: type, name: object) -> str:
    """How messages call a declaration: ``FeatureView(user_activity)``, or ``Training``."""
    return f"{declared.__name__}({name})" if isinstance(name, str) else declared.__name__


@declaration
class Declaration(metaclass=_Named):
    """Base of all declarations. A subclass with rules of its own calls ``super().__post_init__()`` first.

    Attributes:
        code_version: raised in a part when the same fields of it now mean something else, so that what was made of it
            is made again; nothing else is. A default that changes is such a change.

    Raises:
        DeclarationError: for the first field that breaks the rule.
    """

    code_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in kinds(type(self)):
            value = getattr(self, name)
            where = f"{self._where if name != 'name' else type(self).__name__}.{name}"
            _within_bounds(where, value)
            _of_known_class(where, value)
            if name == "name":
                identifier(where, value)

    @property
    def _where(self) -> str:
        return _called(type(self), getattr(self, "name", None))

    @model_serializer(mode="wrap")
    def _written(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields beside the kind, by which a value is read back as what it was."""
        version = {"code_version": self.code_version} if self.code_version != 1 else {}
        return {"type": type(self).__name__, **version, **fields_of(self)}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, plain: Any) -> Any:
        if isinstance(plain, dict) and plain.get("type") != cls.__name__:
            raise ValueError(f"is not a {cls.__name__}")
        return plain


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Writes and reads values of a type: a declaration, a union of some, or a record that holds them."""
    return TypeAdapter(kind)


def digest(*parts: object) -> str:
    """Twelve hex digits that name values by content: the same on every machine, other when something changes.

    A declaration's canonical form leaves out fields at their default, so a field that comes later changes no digest of
    what was declared before it, and has the ``code_version`` of each part, so that a change of meaning does.
    """
    canonical = json.dumps([canonical_form(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def canonical_form(part: object) -> Any:
    """A value as JSON has it; of declarations, only what is not at its default."""
    if isinstance(part, Declaration):
        return adapter(type(part)).dump_python(part, mode="json", exclude_defaults=True)
    if isinstance(part, Mapping):
        return {str(key): canonical_form(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [canonical_form(value) for value in part]
    if isinstance(part, timedelta):
        return part.total_seconds()
    return part if isinstance(part, str | int | float | bool | type(None)) else str(part)


@cache
def kinds(declared: type) -> dict[str, Any]:
    """The type of each field that can be declared."""
    hints = get_type_hints(declared)
    return {field.name: hints[field.name] for field in fields(declared) if field.init}


def _worded(kind: Any) -> str:
    """A type as a person says it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_worded(option) for option in args)
    if origin is tuple:
        return f"a tuple of {_worded(args[0])}"
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is type:
        return f"the type {args[0].__name__}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", NoneType: "None"}
    return words.get(kind) or str(kind.__name__)


def _example(kind: Any) -> str:
    """What to write for a type."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_example(option) for option in args)
    if origin is type:
        return str(args[0].__name__)
    examples = {timedelta: "timedelta(hours=...)", datetime: "datetime(..., tzinfo=UTC)"}
    if isinstance(kind, type) and issubclass(kind, Declaration):
        return f"{kind.__name__}(...)"
    return examples.get(kind) or _worded(kind)


def _mismatch(value: object, kind: Any) -> str:
    """What a value of the wrong type is, and what to write."""
    tuples = [option for option in (kind, *get_args(kind)) if get_origin(option) is tuple]
    remedy = f"write {_example(kind)}"
    if isinstance(value, type) and _is_class_of(value, kind):
        remedy = f"write {value.__name__}(...), not the class"
    elif tuples and isinstance(value, list | set | frozenset):
        remedy = "write a tuple, (..., ...)"
    elif tuples and _fits((value,), tuples[0]):
        remedy = f"write ({shown(value)},)"
    return f"{shown(value)} is not {_worded(kind)}: {remedy}"


def _fits(value: object, kind: Any) -> bool:
    try:
        adapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _is_class_of(value: type, kind: Any) -> bool:
    """Would an instance of a class be of the type?"""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(isinstance(option, type) and issubclass(value, option) for option in options)


def _of_known_class(where: str, value: object) -> None:
    """Refuse parts of a class of the user's own: digests and manifests know the fields of ours alone."""
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, Declaration) and not type(part).__module__.startswith("exfm."):
            base = next(kind.__name__ for kind in type(part).__mro__ if kind.__module__.startswith("exfm."))
            raise DeclarationError(
                f"{where}: {type(part).__name__} is a class of your own made of {base}, whose own fields no manifest "
                f"would keep: write {base}(...)"
            )


def _within_bounds(where: str, value: object) -> None:
    """Refuse numbers, moments and durations that no later step could compute with."""
    if isinstance(value, tuple):
        for item in value:
            _within_bounds(where, item)
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
