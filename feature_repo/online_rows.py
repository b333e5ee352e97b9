"""A view in the embedded online store: one table, a row an entity, a column a feature.

Belongs here: the table's layout, and values on their way into it and out of it. Not here: the file (embedded.py), the
rows to write (loading.py).

Feast's SQLite store has a row for each feature of each entity, and a text beside each value: of 60,000 users with eight
features that is half a million statements, most of a load. Here it is one statement an entity, and a request reads one
row an entity. The values are SQLite's own, so a shell shows them::

    SELECT clicks_6h, datetime("$event" / 1000000, 'unixepoch') FROM "exfm_user_activity:rows" LIMIT 5;

Numbers, texts and flags are kept as they are, lists of numbers as little-endian arrays, all other types as Feast's
protos.
"""

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureView, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as WireType
from feast.type_map import python_values_to_proto_values

from feast_asof.errors import RetrievalError

KEY, EVENT, CREATED = (
    "$key",
    "$event",
    "$created",
)  # never a feature's column: those end in $ and digits if they have a $
AT_ONCE = 10_000  # keys of one question: SQLite takes 32,766 values
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# How a value of a type is kept: SQLite's affinity, and the proto's field.
_KEPT = {
    ValueType.INT32: ("INTEGER", "int32_val"),
    ValueType.INT64: ("INTEGER", "int64_val"),
    ValueType.FLOAT: ("REAL", "float_val"),
    ValueType.DOUBLE: ("REAL", "double_val"),
    ValueType.STRING: ("TEXT", "string_val"),
    ValueType.BOOL: ("INTEGER", "bool_val"),
    ValueType.BYTES: ("BLOB", "bytes_val"),
    ValueType.UNIX_TIMESTAMP: ("INTEGER", "unix_timestamp_val"),
}
_LISTS: dict[ValueType, tuple[str, np.dtype[Any], Callable[[pa.DataType], bool]]] = {
    ValueType.INT32_LIST: ("int32_list_val", np.dtype("<i4"), pa.types.is_int32),
    ValueType.INT64_LIST: ("int64_list_val", np.dtype("<i8"), pa.types.is_int64),
    ValueType.FLOAT_LIST: ("float_list_val", np.dtype("<f4"), pa.types.is_float32),
    ValueType.DOUBLE_LIST: ("double_list_val", np.dtype("<f8"), pa.types.is_float64),
}
_ARROW: dict[ValueType, Callable[[pa.DataType], bool]] = {
    ValueType.INT32: pa.types.is_integer,
    ValueType.INT64: pa.types.is_integer,
    ValueType.FLOAT: pa.types.is_floating,
    ValueType.DOUBLE: pa.types.is_floating,
    ValueType.STRING: lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    ValueType.BOOL: pa.types.is_boolean,
}
_NUMBERS = {"int32_val", "int64_val", "float_val", "double_val", "bool_val"}
_NULL = Value()


def column_of(feature: str) -> str:
    """The column of a feature. SQLite's names are the same in both cases of ASCII letters, so a name says its cases.

    ``clicks`` is ``clicks``, ``userId`` is ``userId$20``: the bits of its upper letters.
    """
    upper = sum(1 << at for at, letter in enumerate(feature) if "A" <= letter <= "Z")
    return f"{feature}${upper:x}" if upper or "$" in feature else feature


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // _MICROSECOND


@dataclass(frozen=True)
class OnlineTable:
    """The table of a view.

    Args:
        name: unique in the file.
        kinds: the types of its features, by their names.
    """

    name: str
    kinds: Mapping[str, ValueType]

    @classmethod
    def of(cls, table_id: str, view: FeatureView) -> "OnlineTable":
        """The table of a view whose id in the store is ``table_id``."""
        return cls(f"{table_id}:rows", {field.name: field.dtype.to_value_type() for field in view.features})

    @cached_property
    def _declared(self) -> dict[str, str]:
        """Type of each column, which says the feature's type too, so that a change is noticed."""
        return {
            column_of(name): f"{_KEPT[kind][0] if kind in _KEPT else 'BLOB'} {kind.name}"
            for name, kind in self.kinds.items()
        }

    def make(self, connection: sqlite3.Connection) -> None:
        """Make the table, or let it follow its view: new features are null, a feature of another type is forgotten."""
        there = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({_quoted(self.name)})")}
        if not there:
            columns = [f"{_quoted(name)} {declared}" for name, declared in self._declared.items()]
            own = [f"{_quoted(KEY)} BLOB PRIMARY KEY", f"{_quoted(EVENT)} INTEGER", f"{_quoted(CREATED)} INTEGER"]
            connection.execute(f"CREATE TABLE IF NOT EXISTS {_quoted(self.name)} ({', '.join([*own, *columns])})")
            return
        gone = [name for name in there if name not in {KEY, EVENT, CREATED} and there[name] != self._declared.get(name)]
        for name in gone:
            connection.execute(f"ALTER TABLE {_quoted(self.name)} DROP COLUMN {_quoted(name)}")
        for name, declared in self._declared.items():
            if there.get(name) != declared:
                connection.execute(f"ALTER TABLE {_quoted(self.name)} ADD COLUMN {_quoted(name)} {declared}")

    def drop(self, connection: sqlite3.Connection) -> None:
        """Forget the view."""
        connection.execute(f"DROP TABLE IF EXISTS {_quoted(self.name)}")

    def write(self, connection: sqlite3.Connection, features: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows of key, event, created and values of ``features``; an entity's other features stay as they are."""
        columns = [_quoted(name) for name in (KEY, EVENT, CREATED, *map(column_of, features))]
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
        ordered: list[tuple[Any, ...]] = sorted(rows, key=itemgetter(0))  # neighbours lie on one page
        connection.executemany(
            f"INSERT INTO {_quoted(self.name)} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT ({columns[0]}) DO UPDATE SET {updates}",
            ordered,
        )

    def rows_of_protos(self, data: Iterable[Any], features: Sequence[str], version: int) -> Iterator[tuple[Any, ...]]:
        """Rows of what Feast gives a store: key, values by feature, event and created time."""
        kinds = [(name, self.kinds[name]) for name in features]
        for entity, values, event, created in data:
            key = serialize_entity_key(entity, entity_key_serialization_version=version)
            kept = (_kept(self.name, name, kind, values[name]) for name, kind in kinds)
            yield key, _micros(event), _micros(created), *kept

    def rows_of_batch(self, batch: pa.RecordBatch, view: FeatureView, version: int) -> Iterator[tuple[Any, ...]]:
        """Rows of an Arrow table of the view, a column at a time."""
        source = view.batch_source
        keys = {field.name: field.dtype.to_value_type() for field in view.entity_columns}
        created = source.created_timestamp_column
        nothing = [None] * batch.num_rows
        return zip(
            _keys(batch, keys, version),
            _times(batch.column(source.timestamp_field)),
            _times(batch.column(created)) if created else nothing,
            *(_column(self.name, name, kind, batch.column(name)) for name, kind in self.kinds.items()),
            strict=True,
        )

    def read(
        self, connection: sqlite3.Connection, keys: Sequence[bytes], features: Sequence[str]
    ) -> dict[bytes, tuple[Any, ...]]:
        """Rows by key, as they are kept: event, then the values of ``features``; unknown keys are left out."""
        # SQLite takes a name that is no column for a text, but for one that says of which table it is.
        columns = ", ".join(f"kept.{_quoted(name)}" for name in (KEY, EVENT, *map(column_of, features)))
        found: dict[bytes, tuple[Any, ...]] = {}
        for first in range(0, len(keys), AT_ONCE):
            some = keys[first : first + AT_ONCE]
            where = f"kept.{_quoted(KEY)} IN ({', '.join('?' * len(some))})"
            question = f"SELECT {columns} FROM {_quoted(self.name)} AS kept WHERE {where}"
            found.update({row[0]: row[1:] for row in connection.execute(question, some)})
        return found

    def protos(self, row: Sequence[Any], features: Sequence[str]) -> tuple[datetime | None, dict[str, Value]]:
        """A row as Feast asks for it."""
        event, *values = row
        at = None if event is None else _EPOCH + event * _MICROSECOND
        return at, {name: _proto(self.kinds[name], value) for name, value in zip(features, values, strict=True)}


def _kept(table: str, name: str, kind: ValueType, value: Value) -> Any:
    """A proto's value as it is kept."""
    field = value.WhichOneof("val")
    if field is None:
        return None
    if kind in _LISTS and field == _LISTS[kind][0]:
        return np.asarray(getattr(value, field).val, _LISTS[kind][1]).tobytes()
    if kind not in _KEPT:
        return value.SerializeToString()
    wanted = _KEPT[kind][1]
    if field != wanted and not {field, wanted} <= _NUMBERS:
        raise RetrievalError(f"online store, {table}: feature {name!r} is declared {kind.name}, a value is {field!r}")
    return getattr(value, field)


def _proto(kind: ValueType, kept: Any) -> Value:
    """A value of a row as a proto; a null is one without a value, as Feast has it."""
    if kept is None:
        return _NULL
    value = Value()
    if kind in _KEPT:
        setattr(value, _KEPT[kind][1], bool(kept) if kind is ValueType.BOOL else kept)
        return value
    if kind in _LISTS:
        field, dtype, _ = _LISTS[kind]
        listed = getattr(value, field)
        listed.SetInParent()  # an empty list is not a missing one
        listed.val.extend(np.frombuffer(kept, dtype).tolist())
        return value
    value.ParseFromString(kept)
    return value


def _column(table: str, name: str, kind: ValueType, column: pa.Array) -> Sequence[Any]:
    """A column's values as they are kept."""
    if kind in _ARROW and _ARROW[kind](column.type):
        values: list[Any] = column.to_pylist()  # SQLite keeps a NaN as null, which it is for Feast, too
        return values
    if kind in _LISTS and (raw := _raw_lists(column, kind)) is not None:
        return raw
    protos = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kind)
    return [_kept(table, name, kind, value) for value in protos]


def _raw_lists(column: pa.Array, kind: ValueType) -> list[bytes | None] | None:
    """Lists of numbers as arrays of bytes; ``None`` where they are of another type, or have nulls inside."""
    _, dtype, fits = _LISTS[kind]
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or not fits(column.type.value_type):
        return None
    if column.flatten().null_count:
        return None
    inside = column.values.to_numpy(zero_copy_only=False).astype(dtype, copy=False).tobytes()
    ends = (column.offsets.to_numpy().astype(np.int64) * dtype.itemsize).tolist()
    given = column.is_valid().to_pylist()
    return [inside[start:end] if valid else None for start, end, valid in zip(ends[:-1], ends[1:], given, strict=True)]


def _times(column: pa.Array) -> list[int | None]:
    """Microseconds since 1970; a time without a zone is UTC."""
    zone = column.type.tz
    micros: list[int | None] = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).to_pylist()
    return micros


def _keys(batch: pa.RecordBatch, kinds: Mapping[str, ValueType], version: int) -> list[bytes]:
    """Entity keys, as Feast's ``serialize_entity_key`` has them.

    Of one key that is a whole number or a text the bytes are put together here: all but the value are the same.
    """
    names = list(kinds)
    columns = [batch.column(name) for name in names]
    if len(names) == 1 and version == 3 and not columns[0].null_count:
        kind, values = kinds[names[0]], columns[0].to_pylist()
        start = serialize_entity_key_prefix(names, version)
        if kind is ValueType.INT64 and pa.types.is_integer(columns[0].type):
            pack = struct.Struct("<IIq").pack
            return [start + pack(WireType.INT64, 8, value) for value in values]
        if kind is ValueType.STRING and _ARROW[kind](columns[0].type):
            pack = struct.Struct("<II").pack
            encoded = [value.encode("utf8") for value in values]
            return [start + pack(WireType.STRING, len(value)) + value for value in encoded]
    protos = [
        python_values_to_proto_values(column.to_numpy(zero_copy_only=False), kind)
        for column, kind in zip(columns, kinds.values(), strict=True)
    ]
    return [
        serialize_entity_key(EntityKey(join_keys=names, entity_values=values), entity_key_serialization_version=version)
        for values in zip(*protos, strict=True)
    ]
