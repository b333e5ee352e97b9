"""What a question asks of each view: keys, columns, files, age. Every mismatch is refused here, in one sentence.

Belongs here: from Feast's objects to a plan, and its checks. Not here: SQL (sql.py), entity rows (rows.py).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from feast import FeatureView, Field, FileSource
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID

from feast_asof.errors import RetrievalError
from feast_asof.files import SourceFile, list_files
from feast_asof.places import Place
from feast_asof.types import DECLARED, INT, NULL, STRING, TIMESTAMP, family


@dataclass(frozen=True)
class Source:
    """A source's files and its two clocks: when a row is about, when it was written (``None``: not recorded)."""

    place: Place
    files: tuple[SourceFile, ...]
    timestamp: str
    created: str | None


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
    sql_type: str | None  # ``None``: as it is in the files


@dataclass(frozen=True)
class Plan:
    """All that one view's join needs. ``ttl`` in microseconds, ``None`` for a value that never expires."""

    view: str
    source: Source
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]
    ttl: int | None


def source_of(data_source: DataSource | None, repo_path: Path | None, *, view: str) -> Source:
    """The files behind a Feast source.

    Raises:
        RetrievalError: if it is not made of parquet files, or if there are none.
    """
    if not isinstance(data_source, FileSource):
        raise RetrievalError(
            f"view {view!r}: its source is a {type(data_source).__name__}: use a FileSource of parquet files"
        )
    clocks = [data_source.timestamp_field, data_source.created_timestamp_column]
    path = FileSource.get_uri_for_file_path(repo_path, data_source.path)
    place, files = list_files(data_source, path, view=view)
    for file in files:
        for clock in filter(None, clocks):
            found = file.types.get(clock)
            if found is not None and family(found) not in (TIMESTAMP, NULL):
                raise RetrievalError(
                    f"view {view!r}: clock column {clock!r} is {found} in {file.path!r}: write it as a timestamp"
                )
    return Source(place, tuple(files), data_source.timestamp_field, data_source.created_timestamp_column or None)


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
        view: with the projection (alias, join-key map) under which it was asked for.
        features: names of the asked features.
        full_names: name them ``<view>__<feature>`` in the answer.
        types: of the entity rows' columns, by name; ``None`` where the views' own keys are to be the rows.

    Raises:
        RetrievalError: naming the key, the feature or the source that does not fit.
    """
    source = source_of(view.batch_source, repo_path, view=view.name)
    in_files = {new: old for old, new in view.batch_source.field_mapping.items()}
    prefix = f"{view.projection.name_alias or view.name}__" if full_names else ""
    declared = {field.name: field.dtype for field in view.schema}
    chosen = tuple(
        _feature(view.name, f"{prefix}{name}", in_files.get(name, name), declared[name], source) for name in features
    )
    for feature in chosen:
        if types is not None and feature.name in types:
            raise RetrievalError(
                f"entity rows: column {feature.name!r} has the name of a feature of view {view.name!r}: "
                "rename the column, or ask with full_feature_names=True"
            )
    keys = tuple(
        _key(view, field, in_files.get(field.name, field.name), source, types)
        for field in view.entity_columns
        if field.name != DUMMY_ENTITY_ID
    )
    return Plan(view.name, source, keys, chosen, view.ttl // timedelta(microseconds=1) if view.ttl else None)


def _feature(view: str, name: str, column: str, declared: object, source: Source) -> Feature:
    check_columns(view, [column], source)
    if declared not in DECLARED:
        return Feature(name, column, source.files[0].types.get(column, pa.string()), None)
    wanted, sql_type, dtype = DECLARED[declared]
    for file in source.files:
        found = file.types.get(column)
        if found is not None and family(found) not in (wanted, NULL):
            raise RetrievalError(
                f"view {view!r}: feature column {column!r} is {found} in {file.path!r}, but declared {declared}: "
                "write the files with the declared type, or declare the type they have"
            )
    return Feature(name, column, dtype, sql_type)


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
        return Key(
            entity, column, kind if column not in source.files[0].types else family(source.files[0].types[column])
        )
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
