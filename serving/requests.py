"""A request's JSON as what is asked, checked by name and type.

Belongs here: what may be asked, and what is said of what may not. Not here: HTTP (app.py), features (features.py).

    {"user": 5, "context": {"country": "DE"}, "candidates": [7, {"item_id": 9, "price": 3.5}]}

``user`` and each candidate are an id, or an object with the id and more columns of the log; ``context`` holds the
columns that are the same for all candidates. What is left out is unknown (null), as a null of the log is.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from exfm.learning import Student
from exfm.log_columns import Column
from exfm.project import Project
from serving.errors import RequestError
from serving.features import Asked

FIELDS = ("user", "context", "candidates")


def clock_of(project: Project) -> Callable[[], datetime]:
    """The clock of requests: of a stream that is closed it stands at its end, so that its values are as old as then."""
    until = project.stream.until

    def now() -> datetime:
        moment = datetime.now(UTC)
        return moment if until is None else min(moment, until)

    return now


def asked_of(body: bytes, project: Project, student: Student, known: frozenset[str], most: int, now: datetime) -> Asked:
    """What a body asks of a student.

    Args:
        known: names of columns that the student's release can use.
        most: candidates.
        now: when it is asked, in UTC.

    Raises:
        RequestError: in one sentence that names the field, the value and what to pass.
    """
    plain = _object("the request", _parsed(body))
    for name in plain:
        if name not in FIELDS:
            raise RequestError(f"{_short(name)} is no field of a request: use {', '.join(FIELDS)}")
    stream = project.stream
    known -= {stream.surface.name, *stream.calendar}
    shared = {**_columns("context", plain.get("context", {}), known - {stream.item.name})}
    user = plain.get("user")
    of_user = user if isinstance(user, dict) else {stream.user.name: user}
    shared |= _columns("user", of_user, known - {stream.item.name})
    shared[stream.user.name] = _id("user", shared.get(stream.user.name), stream.user.dtype)
    candidates = plain.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        raise RequestError("candidates: it is empty or no list: pass the items to rank")
    if len(candidates) > most:
        raise RequestError(
            f"candidates: {len(candidates)} are more than the {most} of a request: rank them in parts", 413
        )
    each = [_candidate(at, given, stream.item, known - {stream.user.name}) for at, given in enumerate(candidates)]
    shared[stream.surface.name] = student.surface
    return Asked(shared, each, now)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it can't be decoded"
        raise RequestError(f"the body is no JSON ({reason}): pass an object with {', '.join(FIELDS)}", 400) from error


def _object(what: str, plain: Any) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise RequestError(f"{what}: {_short(plain)} is no object: pass one with names and values")
    return plain


def _columns(what: str, plain: Any, known: frozenset[str]) -> Mapping[str, Any]:
    columns = _object(what, plain)
    for name in columns:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RequestError(
                f"{what}.{_short(name)} is no column that the student reads: use {names}, or leave it out"
            )
    return columns


def _candidate(at: int, given: Any, item: Column, known: frozenset[str]) -> Mapping[str, Any]:
    where = f"candidates[{at}]"
    columns = _columns(where, given, known) if isinstance(given, dict) else {item.name: given}
    if _id(where, columns.get(item.name), item.dtype) is None:
        raise RequestError(f"{where}: it has no item's id: pass one")
    return columns


def _id(where: str, value: Any, dtype: type) -> Any:
    """An id of the log's type, or a null."""
    if type(value) is int and dtype is int and -(2**63) <= value < 2**63:
        return value
    if value is None:
        return None
    if isinstance(value, str) and dtype is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"{where}: {_short(value)} is no Unicode text: pass one") from error
        return value
    kind = "a text" if dtype is str else "a whole number of 64 bits"
    raise RequestError(f"{where}: {_short(value)} is no id: pass {kind}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."
