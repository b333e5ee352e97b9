"""Rows that are written into a view's source: which columns, under which names, of which types.

Belongs here: fitting rows to what a source holds. Not here: putting files in place (write.py, delta.py).
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from feast import FeatureStore, FeatureView, FileSource, RepoConfig
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.types import from_feast_to_pyarrow_type

from feast_asof.casting import common_type, fit
from feast_asof.errors import NoFilesError, RetrievalError
from feast_asof.files import SourceFile, list_files
from feast_asof.types import DECLARED, MOMENT, NULL, family
from feast_asof.write import add_rows

_ORDER = 1 << 40


def push(view: FeatureView, table: pa.Table, repo_path: Path | None) -> None:
    """Add rows to a view's source as a new file of its own (one file is rewritten, Delta gets a version).

    All columns are kept that the view declares or the source holds, so views may share a source. The first rows of a
    source bring all their columns.

    Raises:
        RetrievalError: if the source is not files, a column of the view is missing, or a value would be lost.
    """
    source = view.batch_source
    if not isinstance(source, FileSource):
        raise RetrievalError(f"view {view.name!r}: its source is not files: use a FileSource")
    path = FileSource.get_uri_for_file_path(repo_path, source.path)
    endpoint = source.s3_endpoint_override or None
    files: list[SourceFile] = []
    with suppress(NoFilesError):
        _, files = list_files(source, path, view=view.name)
    rows = _fitted(view, _named(view, table, files), files)
    if isinstance(source.file_format, DeltaFormat):
        from feast_asof.delta import append

        append(path, rows, endpoint)
    else:
        add_rows(rows, path, endpoint=endpoint)


def declared_columns(config: RepoConfig, source: DataSource) -> list[tuple[str, str]]:
    """The columns that applied views declare of a source, as its files will name them, with their Arrow types."""
    mapped = {new: old for old, new in source.field_mapping.items()}
    columns: dict[str, str] = {}
    for view in FeatureStore(config=config).registry.list_all_feature_views(config.project):
        if getattr(view, "batch_source", None) is None or view.batch_source.name != source.name:
            continue
        fields = {field.name: field.dtype for field in view.schema if field.name != DUMMY_ENTITY_ID}
        columns |= {mapped.get(name, name): str(from_feast_to_pyarrow_type(dtype)) for name, dtype in fields.items()}
        clocks = filter(None, (source.timestamp_field, source.created_timestamp_column))
        columns |= {mapped.get(name, name): str(MOMENT) for name in clocks}
    return list(columns.items())


def _named(view: FeatureView, table: pa.Table, files: Sequence[SourceFile]) -> pa.Table:
    """The columns that belong to the source, with the names that its files have, in their order."""
    source = view.batch_source
    held = {
        name: position for position, name in enumerate(dict.fromkeys(name for file in files for name in _columns(file)))
    }
    # Without files, the names are those from which the source is mapped.
    mapped = {new: old for old, new in source.field_mapping.items() if old in held or not held}
    given = [mapped.get(name, name) for name in table.column_names]
    if len(set(given)) < len(given):
        raise RetrievalError(
            f"view {view.name!r}: the rows to write have a column under both its names {sorted(source.field_mapping)} "
            f"and {sorted(source.field_mapping.values())}: leave one of them"
        )
    declared = [field.name for field in view.schema if field.name != DUMMY_ENTITY_ID]
    clocks = [name for name in (source.timestamp_field, source.created_timestamp_column) if name]
    needed = [mapped.get(name, name) for name in [*declared, *clocks]]
    missing = sorted(set(needed) - set(given))
    if missing:
        raise RetrievalError(f"view {view.name!r}: the rows to write lack columns {missing}: add them")
    mine = {*(held or given), *needed} - {DUMMY_ENTITY_ID}
    kept = sorted((name for name in given if name in mine), key=lambda name: held.get(name, _ORDER))
    return table.rename_columns(given).select(kept)


def _columns(file: SourceFile) -> list[str]:
    return [*file.types, *file.partitions]


def _fitted(view: FeatureView, table: pa.Table, files: Sequence[SourceFile]) -> pa.Table:
    """The rows with the types that the files have, or else with those that the view declares."""
    source = view.batch_source
    mapped = {new: old for old, new in source.field_mapping.items()}
    clocks = {mapped.get(name, name) for name in (source.timestamp_field, source.created_timestamp_column) if name}
    clocks |= {source.timestamp_field, source.created_timestamp_column}
    declared = {field.name: DECLARED.get(field.dtype) for field in view.schema}
    declared |= {mapped[name]: known for name, known in declared.items() if name in mapped}
    columns = {}
    for name in table.column_names:
        held = common_type([file.types[name] for file in files if name in file.types])
        known = declared.get(name)
        wanted = [held] if held is not None and family(held) != NULL else []
        wanted += [MOMENT] if name in clocks else [known[2]] if known else []
        if held is not None and pa.types.is_nested(held):  # a field that is new, wider elements
            wanted += filter(None, [common_type([held, table[name].type])])
        columns[name] = _first_that_fits(view, name, table[name], wanted)
    return pa.table(columns)


def _first_that_fits(
    view: FeatureView, name: str, column: pa.ChunkedArray, wanted: Sequence[pa.DataType]
) -> pa.ChunkedArray:
    problems = []
    for dtype in wanted:
        try:
            return fit(column, dtype)
        except pa.ArrowException as error:
            problems.append(f"{dtype} ({str(error).strip().splitlines()[0]})")
    if problems:
        raise RetrievalError(
            f"view {view.name!r}: column {name!r} of the rows to write is {column.type} and can't be kept as "
            f"{' or '.join(problems)}: give it the type that the source has"
        )
    return column
