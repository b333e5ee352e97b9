"""Assets of the teachers: one step a teacher that scores each slice, then trains on it.

Belongs here: specs, the call of the walk, what is reported. Not here: the walk (pipeline/training/teacher_walk.py).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from exfm.learning import Teacher
from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import Lineage, combined, report_slice, result
from exfm_assets.assets.features import LOGGED_INPUTS, REGISTRY
from exfm_assets.assets.stream import LABELS
from exfm_assets.automation import catch_up
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of
from pipeline.registry.lineage import declaration_digest
from pipeline.slices.predictions import prediction_schema
from pipeline.workspace import Workspace

PREDICTIONS = "predictions"


def teacher_key(teacher: Teacher, part: str) -> dg.AssetKey:
    """``teacher/<name>/checkpoint`` or ``teacher/<name>/predictions``."""
    return dg.AssetKey(["teacher", teacher.name, part])


def teacher_assets(project: Project) -> list[dg.AssetsDefinition]:
    return [_teacher(project, teacher) for teacher in project.teachers]


def _lineage(project: Project, teacher: Teacher) -> Lineage:
    """Every score comes from every input."""
    columns = project.columns_of(teacher.inputs, where=teacher.name)
    inputs = [(LOGGED_INPUTS, name) for name in (*columns.ids, *columns.of_views)]
    scores = [f"{task}_{kind}" for task in teacher.tasks for kind in ("logit", "probability")]
    keyed = {name: [(LOGGED_INPUTS, name)] for name in ("impression_id", "event_timestamp")}
    return {**keyed, **dict.fromkeys(scores, inputs)}


def _specs(project: Project, teacher: Teacher) -> list[dg.AssetSpec]:
    checkpoint, predictions = teacher_key(teacher, "checkpoint"), teacher_key(teacher, PREDICTIONS)
    common: dict[str, Any] = {
        "partitions_def": slice_partitions(project.stream),
        "group_name": teacher.view,
        "skippable": True,
        "code_version": declaration_digest(project, teacher),
        "automation_condition": catch_up(project.stream),
    }
    # Dagster 1.13 takes one mapping a key and step: what continues t - 1 and what scores with an older one share this.
    past = earlier(teacher.lag + teacher.publish_every - 1)
    return [
        dg.AssetSpec(
            checkpoint,
            deps=[LOGGED_INPUTS, LABELS, dg.AssetDep(checkpoint, partition_mapping=past)],
            kinds={"torch"},
            description=f"Teacher {teacher.name} after one more slice: all surfaces, tasks {', '.join(teacher.tasks)}.",
            **common,
        ),
        dg.AssetSpec(
            predictions,
            deps=[LOGGED_INPUTS, REGISTRY, dg.AssetDep(checkpoint, partition_mapping=past)],
            kinds={"torch", "feast", "parquet"},
            description=(
                f"Teacher {teacher.name}'s score of every impression, by a checkpoint that never saw the slice "
                f"(lag {teacher.lag}); append-only, read as Feast view {teacher.view}."
            ),
            **common,
        ),
    ]


def _teacher(project: Project, teacher: Teacher) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"teacher_{teacher.name}",
        specs=_specs(project, teacher),
        can_subset=True,
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
        pool="gpu",
    )
    def walk(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        from pipeline.training.teacher_walk import walk_teacher

        checkpoint, predictions = teacher_key(teacher, "checkpoint"), teacher_key(teacher, PREDICTIONS)
        selected = context.selected_asset_keys
        versions: dict[dg.AssetKey, list[str]] = {checkpoint: [], predictions: []}
        visits = walk_teacher(
            work,
            teacher,
            slices_of(project.stream, context.partition_keys),
            score=predictions in selected,
            train=checkpoint in selected,
            run_id=context.run.run_id,
            device=work.device,
        )
        for visit in visits:
            parts = [f"teacher/{teacher.name} {visit.slice.key}:"]
            if visit.stored is not None:
                stored = visit.stored
                metadata: dict[str, object] = {
                    keys.LEAKS: stored.leaks,
                    keys.CHECKPOINT: stored.checkpoint,
                    keys.REUSED: stored.reused,
                }
                digest = stored.path.stem.partition("-")[2] if stored.path else "none"
                report_slice(context, predictions, visit.slice, stored.rows, digest, **metadata)
                versions[predictions].append(digest)
                for name in stored.damaged:
                    context.log.warning(
                        f"teacher/{teacher.name}/predictions {visit.slice.key}: {name} was not what had been written: "
                        "set aside, and the slice scored again"
                    )
                parts.append(
                    f"{stored.rows:,} scored by {stored.checkpoint}{' (stored already)' if stored.reused else ''},"
                )
            if visit.trained is not None:
                manifest, fit = visit.trained.manifest, visit.trained.fit
                metadata = {keys.CHECKPOINT: manifest.version, keys.TRAINED_UNTIL: manifest.trained_until or "never"}
                if fit is not None:
                    metadata |= {keys.EXAMPLES_PER_SECOND: fit.examples_per_second, "loss": fit.loss}
                report_slice(context, checkpoint, visit.slice, manifest.rows, manifest.version, **metadata)
                versions[checkpoint].append(manifest.version)
                parts.append(
                    f"checkpoint {manifest.version}" if fit else f"checkpoint {manifest.version} (stored already)"
                )
            context.log.info(f"{' '.join(parts)} in {visit.seconds:.1f} s")
        # Topological order: predictions of later slices need the checkpoint of earlier ones.
        if checkpoint in selected:
            yield dg.MaterializeResult(asset_key=checkpoint, data_version=combined(versions[checkpoint]))
        if predictions in selected:
            schema = prediction_schema(teacher)
            yield result(predictions, versions[predictions] or ["none"], schema, _lineage(project, teacher))

    return walk
