"""Feast repositories of others: rows of their views, read by whatever offline store they have.

Belongs here: asking them. Not here: our own registry (opening.py, store.py). Nothing of theirs is written.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from feast import FeatureStore
from feast.errors import FeatureViewNotFoundException

from exfm.errors import DeclarationError

OLDEST = datetime(1970, 1, 2, tzinfo=UTC)


def rows_of_view(
    repository: Path, view: str, features: Sequence[str], since: datetime | None, until: datetime
) -> pa.Table:
    """Rows of a view with a timestamp in (since, until].

    Args:
        repository: the folder of its ``feature_store.yaml``.
        since: ``None`` for all from the beginning.

    Returns:
        join keys, features, and the timestamp as ``event_timestamp``, under the names that the view gives them.

    Raises:
        DeclarationError: if there is no such repository or view, or the view lacks a feature.
    """
    if not (repository / "feature_store.yaml").is_file():
        raise DeclarationError(f"SourceView.feast: {repository} has no feature_store.yaml: name a Feast repository")
    store = FeatureStore(repo_path=str(repository))
    try:
        found = store.get_feature_view(view)
    except FeatureViewNotFoundException as error:
        known = ", ".join(sorted(each.name for each in store.list_feature_views())) or "none"
        raise DeclarationError(f"SourceView.view: {repository} has no view {view!r}: use one of {known}") from error
    held = [field.name for field in found.features]
    for name in features:
        if name not in held:
            raise DeclarationError(
                f"SourceView.inputs: view {view!r} of {repository} has no feature {name!r}: "
                f"use one of {', '.join(held)}"
            )
    source = found.batch_source
    mapped: dict[str, str] = dict(source.field_mapping or {})  # column of the source -> name in the view
    theirs = {ours: column for column, ours in mapped.items()}
    keys = [column.name for column in found.entity_columns]
    clock = theirs.get(source.timestamp_field, source.timestamp_field)
    created = source.created_timestamp_column or None
    job = store._get_provider().offline_store.pull_all_from_table_or_query(
        config=store.config,
        data_source=source,
        join_key_columns=[theirs.get(name, name) for name in keys],
        feature_name_columns=[theirs.get(name, name) for name in features],
        timestamp_field=clock,
        created_timestamp_column=None if created is None else theirs.get(created, created),
        start_date=OLDEST if since is None else since,
        end_date=until,
    )
    table: pa.Table = job.to_arrow()
    names = ["event_timestamp" if name == clock else mapped.get(name, name) for name in table.column_names]
    named = table.rename_columns(names)
    if created in names:
        named = named.sort_by(created)  # of equal rows the newest counts
    return _in_utc(named.select([*keys, *features, "event_timestamp"]))


def _in_utc(table: pa.Table) -> pa.Table:
    """Feast's stores give naive timestamps, which are UTC."""
    at = table.schema.get_field_index("event_timestamp")
    column = table.column(at)
    if column.type.tz is None:
        column = column.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    return table.set_column(at, "event_timestamp", column)
