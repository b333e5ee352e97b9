"""A request's JSON as what is asked, checked by name and type.

Belongs here: what may be asked, and what is said of what may not. Not here: HTTP (app.py), features (features.py).

    {"user": 5, "context": {"country": "DE"}, "candidates": [7, {"item_id": 9, "price": 3.5}]}
    {"user": 5, "context": {"country": "DE"}, "k": 100, "rank": "feed_click"}

``user`` and each candidate are an id, or an object with the id and more columns of the log; ``context`` holds the
columns that are the same for all candidates. What is left out is unknown (null), as a null of the log is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exfm.learning import Student
from exfm.log_columns import Column
from exfm.project import Project
from serving.errors import RequestError
from serving.features import Asked

FIELDS, WANTED = ("user", "context", "candidates"), ("user", "context", "k", "rank")
MOST_WANTED = 100  # items, where a request does not say how many


def declared_columns(project: Project, student: Student) -> frozenset[str]:
    """Columns of the log that a student or its shadow declares, whether what serves now reads them or not.

    What reads them may be gone a moment later, as after a roll-back: who sends them should not be refused then.
    """
    stream = project.stream
    shadow = student.serving.shadow
    inputs = {*student.inputs, *(() if shadow is None else project.student(shadow).inputs)}
    for made in stream.made_inputs:
        if made.name in inputs:
            inputs |= {made.of} if isinstance(made.of, str) else {*made.of}
    columns = {column.name for column in (*stream.id_columns, *stream.logged_inputs)}
    return frozenset(inputs & columns)


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
    plain, stream = _plain(body, FIELDS), project.stream
    known -= {stream.surface.name, *stream.calendar}
    shared = _shared(plain, project, student, known)
    candidates = plain.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        raise RequestError("candidates: it is empty or no list: pass the items to rank")
    if len(candidates) > most:
        raise RequestError(
            f"candidates: {len(candidates)} are more than the {most} of a request: rank them in parts", 413
        )
    each = [_candidate(at, given, stream.item, known - {stream.user.name}) for at, given in enumerate(candidates)]
    return Asked(shared, each, now)


@dataclass(frozen=True)
class Wanted:
    """A retrieval that is asked for.

    Args:
        shared: as of ``Asked``.
        k: how many items.
        rank: the student that ranks them; ``None``: nobody.
    """

    shared: Mapping[str, Any]
    k: int
    rank: str | None
    now: datetime


def wanted_of(
    body: bytes,
    project: Project,
    student: Student,
    known_of: Callable[[str | None], frozenset[str]],
    most: int,
    now: datetime,
) -> Wanted:
    """What a body wants of a student that retrieves.

    Args:
        known_of: names of columns that are used where a student ranks what is retrieved, or nobody (``None``).
        most: items.
        now: when it is asked, in UTC.

    Raises:
        RequestError: in one sentence that names the field, the value and what to pass.
    """
    plain, stream = _plain(body, WANTED), project.stream
    rank, k = plain.get("rank"), plain.get("k", MOST_WANTED)
    if rank is not None and not isinstance(rank, str):
        raise RequestError(f"rank: {_short(rank)} is no student's name: pass one, or leave it out")
    if type(k) is not int or k < 1:
        raise RequestError(f"k: {_short(k)} is no number of items: pass a whole number from 1 to {most}")
    if k > most:
        raise RequestError(f"k: {k} is more than the {most} items of a request: pass fewer", 413)
    known = known_of(rank) - {stream.surface.name, *stream.calendar}
    return Wanted(_shared(plain, project, student, known), k, rank, now)


def _plain(body: bytes, fields: Sequence[str]) -> dict[str, Any]:
    plain = _object("the request", _parsed(body, fields))
    for name in plain:
        if name not in fields:
            raise RequestError(f"{_short(name)} is no field of a request: use {', '.join(fields)}")
    return plain


def _shared(plain: Mapping[str, Any], project: Project, student: Student, known: frozenset[str]) -> dict[str, Any]:
    """Columns of the user, the context and the surface: the same for all items.

    Requests to a student of all surfaces bring the surface in their context.
    """
    stream, known = project.stream, known - {project.stream.item.name}
    surface, of_all = stream.surface.name, student.surface is None
    shared = {**_columns("context", plain.get("context", {}), known | {surface} if of_all else known)}
    user = plain.get("user")
    shared |= _columns("user", user if isinstance(user, dict) else {stream.user.name: user}, known)
    shared[stream.user.name] = _id("user", shared.get(stream.user.name), stream.user.dtype)
    if of_all and (given := shared.get(surface)) is not None and given not in stream.surfaces:
        names = ", ".join(map(repr, stream.surfaces))
        raise RequestError(f"context.{surface}: {_short(given)} is no surface of the stream: use one of {names}")
    shared[surface] = shared.get(surface) if of_all else student.surface
    return shared


def _parsed(body: bytes, fields: Sequence[str]) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it can't be decoded"
        raise RequestError(f"the body is no JSON ({reason}): pass an object with {', '.join(fields)}", 400) from error


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
