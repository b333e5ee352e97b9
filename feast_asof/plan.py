"""What a question needs of each view: keys, columns, files, age. Every mismatch is refused here, in one sentence.

Belongs here: from Feast's objects to a plan, and its checks. Not here: SQL (sql.py), entity rows (rows.py).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from feast import FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.types import Float64, from_feast_to_pyarrow_type

from feast_asof.casting import common_type, is_list
from feast_asof.errors import RetrievalError
from feast_asof.files import SourceFile, list_files
from feast_asof.locations import Location
from feast_asof.types import DECLARED, FLOAT, INT, NULL, STRING, TIMESTAMP, family


@dataclass(frozen=True)
class Source:
    """A source's files and its two clocks: when a row is about, when it was written (``None``: not recorded).

    Columns are named as in the files. ``mapped`` are the names that the source's field mapping gives to some of them.
    """

    location: Location
    files: tuple[SourceFile, ...]
    timestamp: str
    created: str | None
    mapped: Mapping[str, str]
    grows: bool  # its log says which columns there are: any file may lack one

    def column(self, name: str) -> str:
        """The files' name of a column that views know by ``name``."""
        return self.mapped.get(name, name)


@dataclass(frozen=True)
class Key:
    """A column of the entity rows and the column of the files that it must equal."""

    entity: str
    source: str
    family: str


@dataclass(frozen=True)
class Feature:
    """A feature's name in the answer, its column in the files, and the type it is returned as."""

    name: str
    source: str
    dtype: pa.DataType
    sql_type: str | None  # ``None``: what the files have in common


@dataclass(frozen=True)
class Plan:
    """All that one view's join needs. ``ttl`` in microseconds, ``None`` for a value that never expires."""

    view: str
    source: Source
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]
    ttl: int | None

    @property
    def common(self) -> dict[str, pa.DataType]:
        """The types of features that are no plain values, by column."""
        return {feature.source: feature.dtype for feature in self.features if feature.sql_type is None}


def source_of(data_source: DataSource | None, repo_path: Path | None, *, view: str) -> Source:
    """The files behind a Feast source.

    Raises:
        RetrievalError: if it is not made of parquet files, or if there are none.
    """
    if not isinstance(data_source, FileSource):
        raise RetrievalError(
            f"view {view!r}: its source is a {type(data_source).__name__}: use a FileSource of parquet files"
        )
    path = FileSource.get_uri_for_file_path(repo_path, data_source.path)
    location, files = list_files(data_source, path, view=view)
    # What is mapped away from is the files' name; where no file has it, files are written with the new one.
    mapped = {new: old for old, new in data_source.field_mapping.items() if any(file.has(old) for file in files)}
    timestamp, created = (
        mapped.get(name, name) for name in (data_source.timestamp_field, data_source.created_timestamp_column or "")
    )
    for file in files:
        for clock in filter(None, (timestamp, created)):
            stored = file.types.get(clock)
            if stored is not None and family(stored) not in (TIMESTAMP, NULL):
                raise RetrievalError(
                    f"view {view!r}: clock column {clock!r} is {stored} in {file.path!r}: write it as a timestamp"
                )
    grows = isinstance(data_source.file_format, DeltaFormat)
    return Source(location, tuple(files), timestamp, created or None, mapped, grows)


def plan_view(
    view: FeatureView,
    features: Iterable[str],
    *,
    full_names: bool,
    types: Mapping[str, pa.DataType] | None,
    repo_path: Path | None,
) -> Plan:
    """How to answer for one view.

    Args:
        view: with the projection (alias, join-key map) under which it was requested.
        features: names of the requested features.
        full_names: name them ``<view>__<feature>`` in the answer, or ``<view>@v<version>__<feature>`` as Feast does.
        types: of the entity rows' columns, by name; ``None`` where the views' own keys are to be the rows.

    Raises:
        RetrievalError: naming the key, the feature or the source that does not fit.
    """
    source = source_of(view.batch_source, repo_path, view=view.name)
    prefix = f"{view.projection.name_to_use()}__" if full_names else ""
    declared = {field.name: field.dtype for field in view.schema}
    chosen = tuple(
        _feature(view.name, f"{prefix}{name}", source.column(name), declared[name], source) for name in features
    )
    for feature in chosen:
        if types is not None and feature.name in types:
            raise RetrievalError(
                f"entity rows: column {feature.name!r} has the name of a feature of view {view.name!r}: "
                "rename the column, or ask with full_feature_names=True"
            )
    keys = tuple(
        _key(view, field, source.column(field.name), source, types)
        for field in view.entity_columns
        if field.name != DUMMY_ENTITY_ID
    )
    return Plan(view.name, source, keys, chosen, view.ttl // timedelta(microseconds=1) if view.ttl else None)


def _feature(view: str, name: str, column: str, declared: object, source: Source) -> Feature:
    check_features(view, [column], source)
    if declared not in DECLARED:
        return Feature(name, column, _common(view, column, declared, source), None)
    wanted, sql_type, dtype = DECLARED[declared]
    for file in source.files:
        stored = file.types.get(column)
        if stored is not None and family(stored) not in (wanted, NULL):
            raise RetrievalError(
                f"view {view!r}: feature column {column!r} is {stored} in {file.path!r}, but declared {declared}: "
                "write the files with the declared type, or declare the type they have"
            )
    if wanted == FLOAT and any(file.types.get(column) == pa.float64() for file in source.files):
        _, sql_type, dtype = DECLARED[Float64]  # a narrower answer would be rounded
    return Feature(name, column, dtype, sql_type)


def _common(view: str, column: str, declared: object, source: Source) -> pa.DataType:
    """The type of a feature that is no plain value: what its files have in common, or else the declared one."""
    types = [file.types.get(column, pa.string()) for file in source.files if file.has(column)]
    held = common_type(types)
    if held is None:
        raise RetrievalError(
            f"view {view!r}: feature column {column!r} has types that nothing can be made of in its files, "
            f"{sorted(set(map(str, types)))}: write them with one type"
        )
    if not pa.types.is_null(held) and not (is_list(held) and pa.types.is_null(held.value_type)):
        return held
    try:
        return from_feast_to_pyarrow_type(declared)
    except ValueError:
        return held


def check_features(view: str, columns: Collection[str], source: Source) -> None:
    """Refuse files whose newest rows lack a column. Where only older ones do, it was added later: there it is null.

    Raises:
        RetrievalError: naming the first column, and a file without it.
    """
    times = [file.ranges.get(source.timestamp, (0, 0))[1] for file in source.files]
    newest = [file for file, time in zip(source.files, times, strict=True) if time == max(times)]
    for column in columns:
        held = source.files if source.grows else newest
        if not any(file.has(column) for file in held):
            check_columns(view, [column], replace(source, files=tuple(held)))


def check_columns(view: str, columns: Collection[str], source: Source) -> None:
    """Refuse files that lack a column.

    Raises:
        RetrievalError: naming the first column, and the file without it.
    """
    for file in source.files:
        for column in columns:
            if not file.has(column):
                raise RetrievalError(
                    f"view {view!r}: column {column!r} is not in {file.path!r}, which has {sorted(file.types)}: "
                    "write it, or correct the view's definition"
                )


def _key(view: FeatureView, field: Field, column: str, source: Source, types: Mapping[str, pa.DataType] | None) -> Key:
    entity = view.projection.join_key_map.get(field.name, field.name)
    kind = DECLARED[field.dtype][0] if field.dtype in DECLARED else STRING
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    check_columns(view.name, [column, *clocks], source)
    if types is None:
        held = source.files[0].types.get(column)
        return Key(entity, column, kind if held is None else family(held))
    if entity not in types:
        raise RetrievalError(
            f"entity rows: no column {entity!r}, which keys view {view.name!r}: add it (there are {sorted(types)})"
        )
    given = family(types[entity])
    for file in source.files:
        # The name of a folder is text; it may stand for a string or an integer.
        stored = family(file.types[column]) if column in file.types else given if given in (INT, STRING) else STRING
        if NULL not in (given, stored) and given != stored:
            raise RetrievalError(
                f"entity rows: key {entity!r} is {types[entity]}, but {file.types.get(column, 'a folder name')} in the "
                f"files of view {view.name!r}: cast it to {stored}"
            )
    return Key(entity, column, given)
