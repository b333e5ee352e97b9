"""Features of a request: what it brings itself, what the clock says, and what Feast's online store holds.

Belongs here: reading, and caching what is of items. Not here: how features are encoded (encoder.py), the store
(feature_repo/).

What is of the user or the request alone is read once a request. What is of candidates is read once for all of them,
and kept for a declared age. A value that has outlived its view's ttl is missing, as it is in training.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from feast import FeatureStore, FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from exfm.columns import FeatureColumn
from exfm.project import Project
from serving.encoder import Column, Signature
from serving.errors import RequestError

Key = tuple[Any, ...]
Row = tuple[datetime | None, tuple[Any, ...]]  # when it was stamped, and values in the view's order
NOTHING: Row = (None, ())
_FIELDS = {int: "int64_val", str: "string_val"}


@dataclass(frozen=True)
class Asked:
    """A request, whose names and types are known to be right.

    Args:
        shared: columns that are the same for all candidates, by name; ``each``: those of each candidate.
        now: of the request, in UTC.
    """

    shared: Mapping[str, Any]
    each: Sequence[Mapping[str, Any]]
    now: datetime


@dataclass
class Gathered:
    """All columns of a request, and what is known of where they come from.

    Args:
        columns: of each candidate, or one for all.
        missing: view -> how many of its entities the store does not know, or knew too long ago.
        age: of the oldest value that was used, in seconds; ``None`` if none was.
        hits, misses: of the cache.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    age: float | None = None
    hits: int = 0
    misses: int = 0


@dataclass(frozen=True)
class ViewRead:
    """A view as a release reads it."""

    view: FeatureView
    entities: tuple[str, ...]
    dtypes: tuple[type, ...]
    features: tuple[str, ...]
    ttl: timedelta


class ItemCache:
    """Rows of candidates' views, each for at most an age; the ones that were used longest ago go first.

    Args:
        age: seconds; 0 keeps nothing.
        most: rows.
    """

    def __init__(self, age: float, most: int = 200_000, clock: Callable[[], float] = time.monotonic) -> None:
        self.age, self.most, self._clock = age, most, clock
        self._rows: OrderedDict[tuple[str, Key], tuple[float, Row]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, of: str, keys: Sequence[Key]) -> dict[Key, Row]:
        """Those that are known and young enough."""
        if self.age <= 0:
            return {}
        now, found = self._clock(), {}
        with self._lock:
            for key in keys:
                kept = self._rows.get((of, key))
                if kept is not None and now - kept[0] <= self.age:
                    found[key] = kept[1]
                    self._rows.move_to_end((of, key))
        return found

    def put(self, of: str, rows: Mapping[Key, Row]) -> None:
        """Keep some."""
        if self.age <= 0:
            return
        now = self._clock()
        with self._lock:
            for key, row in rows.items():
                self._rows[(of, key)] = (now, row)
                self._rows.move_to_end((of, key))
            while len(self._rows) > self.most:
                self._rows.popitem(last=False)


class FeatureReader:
    """All columns that a release reads, of a request.

    Args:
        store: of the project, applied.
        signature: of the release; its views' features are read by the same names that training had.
        cache: of candidates' rows.
    """

    def __init__(self, project: Project, store: FeatureStore, signature: Signature, cache: ItemCache) -> None:
        self.project, self.stream, self._store, self._cache = project, project.stream, store, cache
        self.dtypes = {column.name: column.dtype for column in self.stream.id_columns}
        of_views = [FeatureColumn.of(name) for name in signature.columns if "__" in name]
        names = dict.fromkeys(column.view for column in of_views)
        self.views = tuple(
            self._view(name, tuple(each.feature for each in of_views if each.view == name)) for name in names
        )
        self.of_log = tuple(name for name in signature.columns if "__" not in name)
        encodings = {name: signature.encoding_of(name) for name in signature.columns}
        self._lengths = {
            name: encoding.length for name, encoding in encodings.items() if encoding is not None and encoding.length
        }
        self._zone = ZoneInfo(self.stream.time_zone)

    def _view(self, name: str, features: tuple[str, ...]) -> ViewRead:
        declared = self.project.view(name)
        dtypes = tuple(self.dtypes[entity] for entity in declared.entities)
        held = self._store.get_feature_view(name)
        return ViewRead(held, tuple(declared.entities), dtypes, features, declared.ttl)

    @property
    def known(self) -> frozenset[str]:
        """Names that a request may bring: columns of the log that are read, and keys of views."""
        keys = (entity for view in self.views for entity in view.entities)
        return frozenset((*self.of_log, *keys, self.stream.user.name, self.stream.item.name, self.stream.surface.name))

    def gather(self, asked: Asked) -> Gathered:
        """Every column of a request.

        Raises:
            RequestError: if a key is of another type than its column.
        """
        gathered = Gathered()
        local = asked.now.astimezone(self._zone)
        calendar = {"hour_of_day": local.hour, "day_of_week": local.isoweekday()}
        for name in self.of_log:
            if name in self.stream.calendar:
                gathered.columns[name] = [calendar[name]]
            elif any(name in one for one in asked.each):
                gathered.columns[name] = [one.get(name, asked.shared.get(name)) for one in asked.each]
            else:
                gathered.columns[name] = [asked.shared.get(name)]
        for view in self.views:
            self._of_view(view, asked, gathered)
        for name, length in self._lengths.items():  # what stands behind is not read, so it is not logged
            gathered.columns[name] = [
                value[:length] if isinstance(value, list) else value for value in gathered.columns[name]
            ]
        return gathered

    def probe(self) -> None:
        """Ask the store for one unknown key of each view.

        Raises:
            RetrievalError: if it can't be read, or was never loaded.
        """
        for view in self.views:
            self._read(view, [tuple(dtype() for dtype in view.dtypes)])

    def _of_view(self, view: ViewRead, asked: Asked, gathered: Gathered) -> None:
        """Add a view's columns: one value each where its keys are the same for all candidates."""
        per_candidate = any(entity in one for one in asked.each for entity in view.entities)
        of_each = asked.each if per_candidate else ({},)
        keys = [
            tuple(
                _checked(name, dtype, one.get(name, asked.shared.get(name)))
                for name, dtype in zip(view.entities, view.dtypes, strict=True)
            )
            for one in of_each
        ]
        rows = self._rows(view, keys, gathered, cached=per_candidate)
        unknown, oldest = 0, None
        values: list[tuple[Any, ...]] = []
        for key in keys:
            stamped, row = rows.get(key, NOTHING)
            if stamped is None or asked.now - stamped > view.ttl:
                unknown += 1
                values.append((None,) * len(view.features))
                continue
            oldest = stamped if oldest is None else min(oldest, stamped)
            values.append(row)
        for at, feature in enumerate(view.features):
            gathered.columns[FeatureColumn(view.view.name, feature).name] = [row[at] for row in values]
        if unknown:
            gathered.missing[view.view.name] = unknown
        if oldest is not None:
            gathered.age = max(gathered.age or 0.0, (asked.now - oldest).total_seconds())

    def _rows(self, view: ViewRead, keys: Sequence[Key], gathered: Gathered, *, cached: bool) -> dict[Key, Row]:
        """Of keys without a null: none has rows with one."""
        wanted = list(dict.fromkeys(key for key in keys if None not in key))
        of = f"{view.view.name}:{','.join(view.features)}"
        found = self._cache.get(of, wanted) if cached else {}
        lacking = [key for key in wanted if key not in found]
        gathered.hits += len(found)
        gathered.misses += len(lacking) if cached else 0
        if lacking:
            read = self._read(view, lacking)
            if cached:
                self._cache.put(of, read)
            found = {**found, **read}
        return found

    def _read(self, view: ViewRead, keys: Sequence[Key]) -> dict[Key, Row]:
        """From the online store; keys that it does not know have nothing."""
        entities = [
            EntityKey(
                join_keys=list(view.entities),
                entity_values=[
                    _key(name, dtype, part) for name, dtype, part in zip(view.entities, view.dtypes, key, strict=True)
                ],
            )
            for key in keys
        ]
        answers = self._store._get_provider().online_read(
            config=self._store.config, table=view.view, entity_keys=entities, requested_features=list(view.features)
        )
        return {key: _row(answer, view.features) for key, answer in zip(keys, answers, strict=True)}


def _checked(name: str, dtype: type, part: Any) -> Any:
    """A part of a key, or a null.

    Raises:
        RequestError: if it is of another type than its column.
    """
    fits = isinstance(part, dtype) and not isinstance(part, bool)
    if part is None or (fits and (dtype is str or -(2**63) <= part < 2**63)):
        return part
    kind = "a text" if dtype is str else "a whole number of 64 bits"
    raise RequestError(f"{name}: {part!r:.60} is no id of this column: pass {kind}")


def _key(name: str, dtype: type, part: Any) -> Value:
    """A part of a key as Feast has it."""
    value = Value()
    try:
        setattr(value, _FIELDS[dtype], part)
    except ValueError as error:  # half a surrogate pair
        raise RequestError(f"{name}: {part!r:.60} is no Unicode text: pass one") from error
    return value


def _row(answer: tuple[datetime | None, Mapping[str, Value] | None], features: Sequence[str]) -> Row:
    stamped, values = answer
    if stamped is None or values is None:
        return NOTHING
    at = stamped if stamped.tzinfo is not None else stamped.replace(tzinfo=UTC)
    return at, tuple(_plain(values.get(name)) for name in features)


def _plain(value: Value | None) -> Any:
    """A proto as a plain value."""
    which = value.WhichOneof("val") if value is not None else None
    if value is None or which is None:
        return None
    held = getattr(value, which)
    return list(held.val) if which.endswith("_list_val") else held
