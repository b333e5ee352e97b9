"""Assets of the second channel: a teacher's earlier predictions by entity, and their join to each impression.

Belongs here: which slices a view needs, calling the aggregation and Feast, writing, reporting.
Not here: the aggregation (transforms/predicted.py), the teacher (teachers.py).
"""

from datetime import timedelta

import dagster as dg
import polars as pl

from exfm.columns import FeatureColumn, ScoreColumns, views_of
from exfm.declaration import digest
from exfm.prediction_views import PredictionView, known_after
from exfm.project import Project
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import Lineage, SliceWriter
from exfm_assets.assets.features import LOGGED_INPUTS, REGISTRY
from exfm_assets.assets.stream import IMPRESSIONS
from exfm_assets.assets.teachers import PREDICTIONS, teacher_key
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of, slices_within
from pipeline.slices.joined_inputs import joined_inputs, served_features
from pipeline.slices.predictions import sound_files
from pipeline.slices.provenance import of_logged_teacher_features, of_prediction_view
from pipeline.transforms.predicted import bucket, needed, predicted, together
from pipeline.workspace import Workspace

LOGGED_TEACHER_FEATURES = dg.AssetKey("logged_teacher_features")


def predicted_key(view: PredictionView) -> dg.AssetKey:
    return dg.AssetKey(["features", view.name])


def predicted_assets(project: Project) -> list[dg.AssetsDefinition]:
    """One asset a prediction view, and the logged join if a student reads any."""
    views = [_view(project, view) for view in project.prediction_views]
    return [*views, *([_logged(project)] if project.teacher_feature_columns.features else [])]


def _lookback_slices(project: Project, view: PredictionView) -> int:
    """Slices that a row looks back: its longest window, one more that just left, and how late predictions are known."""
    after = known_after(project.teacher(view.teacher), project.stream)
    return slices_within(project.stream, max(view.windows) + after) + 1


def _lineage(project: Project, view: PredictionView) -> Lineage:
    predictions = teacher_key(project.teacher(view.teacher), PREDICTIONS)
    logits = [(predictions, ScoreColumns(task).logit) for task in view.tasks]
    return {**{e: [(IMPRESSIONS, e)] for e in view.entities}, **dict.fromkeys(view.features, logits)}


def _view(project: Project, view: PredictionView) -> dg.AssetsDefinition:
    stream, teacher = project.stream, project.teacher(view.teacher)
    past = earlier(_lookback_slices(project, view), to=0)

    @dg.asset(
        key=predicted_key(view),
        deps=[
            dg.AssetDep(IMPRESSIONS, partition_mapping=past),
            dg.AssetDep(teacher_key(teacher, PREDICTIONS), partition_mapping=past),
        ],
        partitions_def=slice_partitions(stream),
        backfill_policy=SINGLE_RUN,
        group_name="features",
        kinds={"polars", "parquet"},
        code_version=digest(view, teacher.lag),
        description=(
            f"What teacher {teacher.name} said of each {', '.join(view.entities)}'s earlier impressions, of "
            "predictions known at the stamp; students read it as input features."
        ),
    )
    def teacher_features(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        slices = slices_of(stream, context.partition_keys)
        after = known_after(teacher, stream)
        buckets: dict[str, pl.DataFrame] = {}
        writer = SliceWriter(context, predicted_key(view), work.features(view.name))
        for slice_ in slices:
            leaks, made = 0, of_prediction_view(work, view, slice_)
            if writer.keep(slice_, made):
                continue
            wanted = needed(view, stream, after, slice_.end)
            for earlier_piece in wanted:
                if earlier_piece.key not in buckets:
                    buckets[earlier_piece.key], leaked = _bucket(work, view, earlier_piece)
                    leaks += leaked
            buckets = {needed_slice.key: buckets[needed_slice.key] for needed_slice in wanted}
            frame = predicted(view, stream, after, buckets, slice_.end)
            writer.write(slice_, frame, made, {keys.LEAKS: leaks, "slices known": len(wanted)})
        return writer.result(_lineage(project, view))

    return teacher_features


def _bucket(work: Workspace, view: PredictionView, slice_: Slice) -> tuple[pl.DataFrame, int]:
    """A slice's newest predictions by entity; a slice without predictions adds none."""
    files = sound_files(work, work.project.teacher(view.teacher), slice_)
    columns = ["impression_id", "trained_until", *(ScoreColumns(task).logit for task in view.tasks)]
    logits = {ScoreColumns(task).logit: pl.Float32() for task in view.tasks}
    types = {"impression_id": pl.Int64(), "trained_until": pl.Datetime("us", "UTC"), **logits}
    buckets, leaks, shown = [], 0, pl.col("event_timestamp")
    names = ["impression_id", "event_timestamp", *view.entities]
    for impressions in work.table("impressions").parts(slice_, names):
        said = pl.DataFrame(schema=types)
        if files:
            between = shown.is_between(impressions["event_timestamp"].min(), impressions["event_timestamp"].max())
            stored = pl.scan_parquet(files[-1], hive_partitioning=False, glob=False)
            said = stored.filter(between).select(columns).collect()
        made, leaked = bucket(view, impressions, said)
        buckets.append(made)
        leaks += leaked
    return together(view, buckets), leaks


def _logged(project: Project) -> dg.AssetsDefinition:
    stream, columns = project.stream, project.teacher_feature_columns
    used = views_of(columns.features)
    joined = [view for view in project.prediction_views if view.name in used]
    lineage = {
        name: [(dg.AssetKey(["features", FeatureColumn.of(name).view]), FeatureColumn.of(name).feature)]
        for name in columns.features
    }

    def past(ttl: timedelta) -> dg.TimeWindowPartitionMapping:
        return earlier(slices_within(stream, ttl), to=0)

    @dg.asset(
        key=LOGGED_TEACHER_FEATURES,
        deps=[
            IMPRESSIONS,
            LOGGED_INPUTS,
            REGISTRY,
            *(dg.AssetDep(predicted_key(view), partition_mapping=past(view.ttl)) for view in joined),
        ],
        partitions_def=slice_partitions(stream),
        backfill_policy=SINGLE_RUN,
        group_name="features",
        kinds={"feast", "duckdb", "parquet"},
        code_version=digest(list(columns.features)),
    )
    def logged_teacher_features(
        context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]
    ) -> dg.MaterializeResult:
        """Teacher features as of each impression, by Feast; apart from ``logged_inputs``, which teachers read."""
        writer = SliceWriter(context, LOGGED_TEACHER_FEATURES, work.table("logged_teacher_features"))
        for slice_ in slices_of(stream, context.partition_keys):
            before = writer.table.sidecar(slice_)
            made = of_logged_teacher_features(work, slice_, before)
            if writer.keep(slice_, made):
                continue
            made = made if before is None else of_logged_teacher_features(work, slice_)
            served = served_features(work, columns.features)
            names = ("impression_id", "event_timestamp", *columns.features)
            read = joined_inputs(work, slice_, "logged_teacher_features", joined)
            parts = ((part if served is None else served.into(part)).select(names) for part in read)
            told = None if served is None else served.told
            writer.write(slice_, parts, made, told=told, of=work.table("impressions").rows(slice_))
            for sentence in () if served is None else served.sentences():
                context.log.warning(sentence)
        return writer.result(lineage)

    return logged_teacher_features
