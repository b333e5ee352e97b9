"""Assets of the feature room: activity features, the Feast registry, the online store, the logged inputs.

Belongs here: which slices a view needs, calling the aggregation and Feast, writing, reporting.
Not here: the aggregation (transforms/aggregates.py), Feast's objects and store (feature_repo/).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from exfm.columns import FeatureColumn, views_of
from exfm.declaration import digest
from exfm.online import graph_loads, late_sentence, later_than_declared
from exfm.project import Project
from exfm.source_views import SourceView
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import SliceWriter
from exfm_assets.assets.stream import IMPRESSIONS, INTERACTIONS, OUTCOMES
from exfm_assets.assets.view_lineage import view_lineage
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of, slices_within
from feature_repo.stamp import applied, registry_version, stamp
from pipeline.imports.sources import source_rows
from pipeline.releases.items import refreshed, retrieving
from pipeline.slices.joined_inputs import LoggedInputs
from pipeline.slices.made_views import Rows, made_rows
from pipeline.slices.provenance import of_logged_inputs, of_online, of_view
from pipeline.tables import naming_damage
from pipeline.transforms.view_rows import KeptView, reads_interactions, since
from pipeline.verify.online_current import loaded_online, note_online, window_to_load
from pipeline.workspace import Workspace

REGISTRY, ONLINE, LOGGED_INPUTS = (
    dg.AssetKey("feature_registry"),
    dg.AssetKey("online_store"),
    dg.AssetKey("logged_inputs"),
)
SLICES_AT_ONCE = 32  # aggregated together: bounds memory on long backfills


def view_key(view: KeptView) -> dg.AssetKey:
    return dg.AssetKey(["features", view.name])


def feature_assets(project: Project) -> list[dg.AssetsDefinition]:
    """The assets between the stream and the inputs of every model."""
    return [_views(project), _registry(project), _online_store(project), _logged_inputs(project)]


def _lookback_slices(project: Project) -> int:
    """Slices that any view looks back; Dagster takes one mapping a source and step, so all use the longest."""
    start = project.stream.first_slice
    of_log = [view for view in project.feature_views if not isinstance(view, SourceView)]
    oldest = min((since(view, project.stream, start) for view in of_log), default=start)
    return slices_within(project.stream, start - oldest)


def _view_spec(project: Project, view: KeptView) -> dg.AssetSpec:
    past = earlier(_lookback_slices(project), to=0)
    sources = [IMPRESSIONS, OUTCOMES, *([INTERACTIONS] if reads_interactions(view) else [])]
    sources = [] if isinstance(view, SourceView) else sources
    return dg.AssetSpec(
        view_key(view),
        deps=[dg.AssetDep(source, partition_mapping=past) for source in sources],
        partitions_def=slice_partitions(project.stream),
        group_name="features",
        kinds={"polars", "parquet"},
        skippable=True,
        code_version=digest(view),
        description=view.description,
    )


def _views(project: Project) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="feature_views",
        specs=[_view_spec(project, view) for view in project.feature_views],
        can_subset=True,
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
    )
    def feature_views(
        context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]
    ) -> Iterator[dg.MaterializeResult]:
        slices = slices_of(work.project.stream, context.partition_keys)
        for view in work.project.feature_views:
            if view_key(view) not in context.selected_asset_keys:
                continue
            writer = SliceWriter(context, view_key(view), work.features(view.name))
            made = {slice_.key: of_view(work, view, slice_) for slice_ in slices}
            wanted = [slice_ for slice_ in slices if not writer.keep(slice_, made[slice_.key])]
            for adjacent in _adjacent(wanted, SLICES_AT_ONCE):
                for slice_, rows in _rows(work, view, adjacent, context.log.info):
                    writer.write(slice_, rows, made[slice_.key])
            yield writer.result(view_lineage(view), view=view)

    return feature_views


def _adjacent(slices: list[Slice], most: int) -> Iterator[list[Slice]]:
    """Runs of slices that follow each other, of at most so many."""
    run: list[Slice] = []
    for slice_ in slices:
        if run and (slice_.index != run[-1].index + 1 or len(run) == most):
            yield run
            run = []
        run.append(slice_)
    if run:
        yield run


def _rows(
    work: Workspace, view: KeptView, slices: list[Slice], say: Callable[[str], object]
) -> Iterator[tuple[Slice, Rows]]:
    """The view's rows of adjacent slices, read or made together."""
    return _read(work, view, slices) if isinstance(view, SourceView) else made_rows(work, view, slices, say)


def _read(work: Workspace, view: SourceView, slices: list[Slice]) -> Iterator[tuple[Slice, pl.DataFrame]]:
    """The rows of a table that somebody else keeps; the first slice has all that held before it, too."""
    stream = work.project.stream
    read = source_rows(view, stream, work.state.data, slices[0].start, slices[-1].end)
    if left_out := read.sentence(view):
        dg.get_dagster_logger().warning(left_out)
    rows = read.frame
    for slice_ in slices:
        until = pl.col("event_timestamp") <= slice_.end
        after = pl.lit(True) if slice_.index == 0 else pl.col("event_timestamp") > slice_.start
        yield slice_, rows.filter(after & until)


def _registry(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=REGISTRY,
        backfill_policy=SINGLE_RUN,
        group_name="features",
        kinds={"feast", "sqlite"},
        pool="feast",
        code_version=registry_version(project),
    )
    def feature_registry(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Feast's views and services as the project declares them, applied; what is no longer declared goes."""
        version = registry_version(work.project)
        lists = applied(work.state.feast, version)
        reused = {keys.REUSED: True} if lists is not None else {}
        if lists is None:
            from feature_repo.store import apply

            report = apply(work.project, work.state)
            lists = {"views": report.views, "services": report.services, "removed": report.removed}
            stamp(work.state.feast, version, lists)
        metadata: dict[str, Any] = {name: dg.MetadataValue.json(list(names)) for name, names in lists.items()}
        return dg.MaterializeResult(metadata={**metadata, **reused}, data_version=dg.DataVersion(version))

    return feature_registry


def _online_store(project: Project) -> dg.AssetsDefinition:
    served = [view for view in project.all_views if graph_loads(view)]

    @dg.asset(
        key=ONLINE,
        deps=[
            REGISTRY,
            *(dg.AssetKey(["features", view.name]) for view in served),  # all slices: a late one is loaded too
        ],
        backfill_policy=SINGLE_RUN,
        group_name="features",
        kinds={"feast", "sqlite"},
        pool="feast",
    )
    def online_store(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """The newest values of every online view, loaded for serving: what changed since it was loaded last.

        Views whose values another job pushes are not loaded: that would put older values over newer ones.
        """
        stream = work.project.stream
        metadata: dict[str, str | float | bool] = {}
        before, made = loaded_online(work), of_online(work)
        windows = {view.name: window_to_load(work, view, before, made) for view in served}
        for view in served:
            newest = work.features(view.name).newest(stream)
            if newest is None:
                continue
            if (window := windows[view.name]) is not None:
                from feature_repo.store import load_online

                with naming_damage(partial(work.features(view.name).check_all, stream)):
                    load_online(work.store, [view.name], *window)
                metadata[f"loaded_from/{view.name}"] = window[0].isoformat()
                late = later_than_declared(view, stream, newest, work.now())
                if late:
                    metadata[f"{keys.LATE_SECONDS}/{view.name}"] = late.total_seconds()
                    context.log.warning(late_sentence(view, stream, late))
            metadata[f"loaded_until/{view.name}"] = newest.end.isoformat()
        for student in retrieving(work):
            metadata[f"items/{student.name}"] = refreshed(work, student)
        if any(windows.values()) or before is None:
            note_online(work, made)
        else:
            metadata[keys.REUSED] = True
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(digest(made)))

    return online_store


def _logged_inputs(project: Project) -> dg.AssetsDefinition:
    stream = project.stream
    views = views_of(project.logged_columns.of_views)
    joined = [view for view in project.feature_views if view.name in views]
    lineage = {
        **{name: [(IMPRESSIONS, name)] for name in project.logged_columns.of_log if name not in stream.calendar},
        **{
            name: [(dg.AssetKey(["features", FeatureColumn.of(name).view]), FeatureColumn.of(name).feature)]
            for name in project.logged_columns.of_views
        },
    }

    def past(view: KeptView) -> dg.TimeWindowPartitionMapping:
        """A value lives for the view's ttl, and the slice's own rows are stamped before its later impressions.

        Of a table whose rows hold for ever Dagster is told of no more slices than corrections are made good of.
        """
        lives = slices_within(stream, view.ttl)
        return earlier(min(lives, project.upkeep.look_back) if isinstance(view, SourceView) else lives, to=0)

    @dg.asset(
        key=LOGGED_INPUTS,
        deps=[IMPRESSIONS, REGISTRY, *(dg.AssetDep(view_key(v), partition_mapping=past(v)) for v in joined)],
        partitions_def=slice_partitions(stream),
        backfill_policy=SINGLE_RUN,
        group_name="features",
        kinds={"feast", "duckdb", "parquet"},
        code_version=digest(list(project.logged_columns.of_log), list(project.logged_columns.of_views)),
    )
    def logged_inputs(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Every input of every student and teacher, joined by Feast as of the impression; written once a slice.

        With ``Project(served=...)``, impressions that a server answered have the features that it used, from its log.
        """
        writer = SliceWriter(context, LOGGED_INPUTS, work.table("logged_inputs"))
        for slice_ in slices_of(stream, context.partition_keys):
            before = writer.table.sidecar(slice_)
            made = of_logged_inputs(work, slice_, before)
            if writer.keep(slice_, made):
                continue
            made = made if before is None else of_logged_inputs(work, slice_)
            inputs = LoggedInputs(work, slice_, joined)
            writer.write(slice_, inputs.parts(), made, told=inputs.told, of=work.table("impressions").rows(slice_))
            for sentence in inputs.unmatched():
                context.log.warning(sentence)
        return writer.result(lineage)

    return logged_inputs
