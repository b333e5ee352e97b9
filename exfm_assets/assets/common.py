"""What every asset reports: row counts, schema, lineage, versions.

Belongs here: turning frames and digests into Dagster metadata. Not here: computing or writing them.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from exfm.described import described, words_of
from exfm.stream import Slice, Stream
from exfm_assets import metadata_keys as keys
from pipeline.parts import with_progress
from pipeline.sidecar import SECONDS, Sidecar
from pipeline.slices.provenance import DECLARED, Made
from pipeline.tables import SliceTable

if TYPE_CHECKING:
    from pipeline.registry.checkpoint_store import CheckpointStore

Lineage = Mapping[str, Iterable[tuple[dg.AssetKey, str]]]


def table_schema(schema: Mapping[str, pl.DataType], view: object = None) -> dg.TableSchema:
    """Columns and types as the catalogue shows them; in words, too, as the view whose table it is has them."""
    words = words_of(view)
    columns = [dg.TableColumn(name, str(dtype), described(name, words)) for name, dtype in schema.items()]
    return dg.TableSchema(columns=columns)


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
    # Six digits: what is stored has all of them, and people read these.
    said = {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in more.items()}
    metadata = {keys.PARTITION_ROW_COUNT: rows, keys.DATA_VERSION: digest, **said}
    context.add_asset_metadata(metadata, asset_key=asset_key, partition_key=slice_.key)


@dataclass
class SliceWriter:
    """Writes the slices of an asset in a run, but for those that stand: whole, and made of what would be read now.

    Both kinds are reported alike, since Dagster skips what is below an asset that reports nothing.
    """

    context: dg.AssetExecutionContext
    asset_key: dg.AssetKey
    table: SliceTable
    schema: dict[str, pl.DataType] = field(default_factory=dict)
    made: int = 0
    _digests: dict[str, str] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def keep(self, slice_: Slice, made: Made) -> Sidecar | None:
        """Report a slice that stands and give its sidecar; ``None`` if it must be made."""
        sidecar = self.table.standing(slice_, made.of)
        if sidecar is not None:
            if sidecar.log != made.log:  # the same bytes in files of another time: noted, to tell sooner next time
                self.table.note(slice_, sidecar, made.log)
            self.schema = self.schema or dict(self.table.schema(slice_))
            notes = {name: value for name, value in sidecar.notes.items() if name not in (SECONDS, DECLARED)}
            self._report(slice_, sidecar.rows, sidecar.digest, {**notes, keys.REUSED: True})
            self._since = time.perf_counter()
        return sidecar

    def write(
        self,
        slice_: Slice,
        rows: pl.DataFrame | Iterable[pl.DataFrame],
        made: Made,
        notes: Mapping[str, object] | None = None,
        told: Callable[[], Mapping[str, object]] | None = None,
        of: int | None = None,
    ) -> None:
        """Write a slice and what it was made of, and report it.

        Args:
            rows: whole, or in parts.
            notes: reported with it, and kept to be reported again.
            told: further notes, that are known once all rows are written.
            of: how many rows there will be, if that is known.
        """
        reported: dict[str, object] = dict(notes or {})

        def kept() -> Mapping[str, object]:
            reported.update(told() if told is not None else {})
            return {**reported, DECLARED: made.declared, SECONDS: round(time.perf_counter() - self._since, 3)}

        name = f"{self.asset_key.to_user_string()} {slice_.key}"
        parts = [rows] if isinstance(rows, pl.DataFrame) else with_progress(rows, name, of, self.context.log.info)
        written = self.table.write(slice_, parts, made.of, made.log, kept)
        self.schema, self.made = dict(written.schema), self.made + 1
        self._report(slice_, written.rows, self.table.digest(slice_), reported)
        self.context.log.info(f"{name}: {written.rows:,} rows")
        self._since = time.perf_counter()

    def of_slices(self, stream: Stream) -> str:
        """Which slices the run was of, where more are stored."""
        keys = sorted(self._digests)
        if not keys or len(keys) == len(self.table.stored(stream)):
            return ""
        return f"; of slices {keys[0]}...{keys[-1]}" if len(keys) > 1 else f"; of slice {keys[0]}"

    def _report(self, slice_: Slice, rows: int, digest: str, notes: Mapping[str, object]) -> None:
        self._digests[slice_.key] = digest
        report_slice(self.context, self.asset_key, slice_, rows, digest, **notes)

    def result(
        self, lineage: Lineage | None = None, more: Mapping[str, object] | None = None, view: object = None
    ) -> dg.MaterializeResult:
        """The materialisation of all slices of the run; ``view``: whose table it is, if that of a view."""
        if standing := len(self._digests) - self.made:
            name = self.asset_key.to_user_string()
            self.context.log.info(f"{name}: {standing} of {len(self._digests)} slices stand as they are")
        digests = (self._digests[key] for key in sorted(self._digests))
        return result(self.asset_key, digests, self.schema, lineage, more, view)


def result(
    asset_key: dg.AssetKey,
    digests: Iterable[str],
    schema: Mapping[str, pl.DataType],
    lineage: Lineage | None = None,
    more: Mapping[str, object] | None = None,
    view: object = None,
) -> dg.MaterializeResult:
    """The materialisation of all slices of a run, with what they share."""
    metadata: dict[str, Any] = {keys.COLUMN_SCHEMA: table_schema(schema, view), **(more or {})}
    if lineage is not None:
        metadata[keys.COLUMN_LINEAGE] = column_lineage(lineage)
    return dg.MaterializeResult(asset_key=asset_key, metadata=metadata, data_version=combined(digests))


def warn_of_outdated(context: dg.AssetExecutionContext, store: "CheckpointStore", slices: Sequence[Slice]) -> None:
    """Say that stored checkpoints are trained again because their declaration, or what exfm makes of it, changed."""
    if (message := store.outdated(slices)) is not None:
        context.log.warning(message)
