"""What every asset reports: row counts, schema, lineage, versions.

Belongs here: turning frames and digests into Dagster metadata. Not here: computing or writing them.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from pipeline.slices.provenance import Made
from pipeline.tables import SliceTable

if TYPE_CHECKING:
    from pipeline.registry.checkpoint_store import CheckpointStore

Lineage = Mapping[str, Iterable[tuple[dg.AssetKey, str]]]


def table_schema(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Columns and types as the catalogue shows them."""
    return dg.TableSchema(columns=[dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])


def column_lineage(columns: Lineage) -> dg.TableColumnLineage:
    """Which upstream columns each column comes from."""
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(asset_key, column) for asset_key, column in deps] for name, deps in columns.items()}
    )


def combined(digests: Iterable[str]) -> dg.DataVersion:
    """One data version for all slices of a run; each slice's own digest stands in its metadata.

    Dagster 1.13 stamps one version on every partition of a run, so a range and its slices one by one differ here.
    """
    listed = list(digests)
    return dg.DataVersion(listed[0] if len(listed) == 1 else hashlib.sha256("".join(listed).encode()).hexdigest()[:12])


def report_slice(
    context: dg.AssetExecutionContext,
    asset_key: dg.AssetKey,
    slice_: Slice,
    rows: int,
    digest: str,
    **more: object,
) -> None:
    """Metadata of one slice's materialisation; ``more`` keys may use ``_`` for the ``/`` of no namespace."""
    metadata = {keys.PARTITION_ROW_COUNT: rows, keys.DATA_VERSION: digest, **more}
    context.add_asset_metadata(metadata, asset_key=asset_key, partition_key=slice_.key)


def write_slice(
    context: dg.AssetExecutionContext,
    asset_key: dg.AssetKey,
    table: SliceTable,
    slice_: Slice,
    frame: pl.DataFrame,
    made: Made,
    **more: object,
) -> str:
    """Write one slice and what it was made of, report it, and give its digest back."""
    table.write(slice_, frame, made.of, made.log)
    digest = table.digest(slice_)
    report_slice(context, asset_key, slice_, frame.height, digest, **more)
    context.log.info(f"{asset_key.to_user_string()} {slice_.key}: {frame.height:,} rows")
    return digest


def result(
    asset_key: dg.AssetKey,
    digests: Iterable[str],
    schema: Mapping[str, pl.DataType],
    lineage: Lineage | None = None,
    more: Mapping[str, object] | None = None,
) -> dg.MaterializeResult:
    """The materialisation of all slices of a run, with what they share."""
    metadata: dict[str, Any] = {keys.COLUMN_SCHEMA: table_schema(schema), **(more or {})}
    if lineage is not None:
        metadata[keys.COLUMN_LINEAGE] = column_lineage(lineage)
    return dg.MaterializeResult(asset_key=asset_key, metadata=metadata, data_version=combined(digests))


def warn_of_outdated(context: dg.AssetExecutionContext, store: "CheckpointStore", slices: Sequence[Slice]) -> None:
    """Say that stored checkpoints are trained again because their declaration, or what exfm makes of it, changed."""
    if (message := store.outdated(slices)) is not None:
        context.log.warning(message)
