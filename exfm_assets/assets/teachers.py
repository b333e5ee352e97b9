"""Assets of the teachers: one step a teacher that scores each slice, then trains on it.

Belongs here: specs, the call of the walk, what is reported. Not here: the walk (pipeline/training/teacher_walk.py).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from exfm.columns import ScoreColumns
from exfm.learning import Student, Teacher
from exfm.names import teacher_group
from exfm.project import Project
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import Lineage, combined, report_slice, result, warn_of_outdated
from exfm_assets.assets.features import LOGGED_INPUTS, REGISTRY
from exfm_assets.assets.stream import LABELS
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of
from pipeline.registry.lineage import declaration_digest
from pipeline.slices.predictions import PredictionFile, Stored, prediction_schema
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.training.joint_training import TrainResult

PREDICTIONS, TAKEOVER = "predictions", "takeover"


def teacher_key(teacher: Teacher, part: str) -> dg.AssetKey:
    """``teacher/<name>/checkpoint``, ``.../predictions``, or ``.../takeover`` of one that succeeds another."""
    return dg.AssetKey(["teacher", teacher.name, part])


def teacher_assets(project: Project) -> list[dg.AssetsDefinition]:
    heirs = [teacher for teacher in project.teachers if teacher.succeeds is not None]
    return [_teacher(project, teacher) for teacher in project.teachers] + [_takeover(project, heir) for heir in heirs]


def supervising(project: Project, student: Student) -> list[dg.AssetKey]:
    """What a student reads of its teachers, and of those that may take over from them."""
    lines = [project.line_of(name) for name in student.teachers]
    predictions = [teacher_key(teacher, PREDICTIONS) for line in lines for teacher in line]
    return predictions + [teacher_key(heir, TAKEOVER) for line in lines for heir in line[1:]]


def _lineage(project: Project, teacher: Teacher) -> Lineage:
    """Every score comes from every input."""
    columns = project.columns_of(teacher.inputs, where=teacher.name)
    inputs = [(LOGGED_INPUTS, name) for name in columns.stored]
    scores = [name for task in map(ScoreColumns, teacher.tasks) for name in (task.logit, task.probability)]
    keyed = {name: [(LOGGED_INPUTS, name)] for name in ("impression_id", "event_timestamp")}
    return {**keyed, **dict.fromkeys(scores, inputs)}


def _specs(project: Project, teacher: Teacher) -> list[dg.AssetSpec]:
    checkpoint, predictions = teacher_key(teacher, "checkpoint"), teacher_key(teacher, PREDICTIONS)
    common: dict[str, Any] = {
        "partitions_def": slice_partitions(project.stream),
        "group_name": teacher_group(teacher.name),
        "skippable": True,
        "code_version": declaration_digest(project, teacher),
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
    checkpoint, predictions = teacher_key(teacher, "checkpoint"), teacher_key(teacher, PREDICTIONS)

    @dg.multi_asset(
        name=f"teacher_{teacher.name}",
        specs=_specs(project, teacher),
        can_subset=True,
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
        pool="gpu",
    )
    def walk(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        from pipeline.registry.checkpoint_store import CheckpointStore
        from pipeline.training.teacher_walk import walk_teacher

        selected = context.selected_asset_keys
        slices = slices_of(project.stream, context.partition_keys)
        if checkpoint in selected:
            warn_of_outdated(context, CheckpointStore.of(work, teacher), slices)
        versions: dict[dg.AssetKey, list[str]] = {checkpoint: [], predictions: []}
        visits = walk_teacher(
            work,
            teacher,
            slices,
            score=predictions in selected,
            train=checkpoint in selected,
            run_id=context.run.run_id,
            device=work.device,
            say=context.log.info,
        )
        for visit in visits:
            done = []
            if visit.stored is not None:
                versions[predictions].append(_report_scores(context, teacher, visit.slice, visit.stored))
                reused = " (stored already)" if visit.stored.reused else ""
                done.append(f"{visit.stored.rows:,} scored by {visit.stored.checkpoint}{reused},")
            elif predictions in selected:  # before the stream's first slices nobody has learnt
                report_slice(context, predictions, visit.slice, 0, "none", **{keys.REUSED: True})
            if visit.trained is not None:
                versions[checkpoint].append(_report_checkpoint(context, checkpoint, visit.slice, visit.trained))
                reused = "" if visit.trained.fit else " (stored already)"
                done.append(f"checkpoint {visit.trained.manifest.version}{reused}")
            message = f"teacher/{teacher.name} {visit.slice.key}: {' '.join(done)} in {visit.seconds:.1f} s"
            context.log.info(message)
        # Topological order: predictions of later slices need the checkpoint of earlier ones.
        if checkpoint in selected:
            yield dg.MaterializeResult(asset_key=checkpoint, data_version=combined(versions[checkpoint]))
        if predictions in selected:
            schema = prediction_schema(teacher)
            yield result(predictions, versions[predictions] or ["none"], schema, _lineage(project, teacher))

    return walk


def _report_scores(context: dg.AssetExecutionContext, teacher: Teacher, slice_: Slice, stored: Stored) -> str:
    """Say what was stored of a slice's predictions; their version is given back."""
    version = PredictionFile.of(stored.path).scored if stored.path else "none"
    metadata: dict[str, object] = {
        keys.LEAKS: stored.leaks, keys.CHECKPOINT: stored.checkpoint, keys.REUSED: stored.reused
    }  # fmt: skip
    report_slice(context, teacher_key(teacher, PREDICTIONS), slice_, stored.rows, version, **metadata)
    for name in stored.damaged:
        context.log.warning(
            f"teacher/{teacher.name}/predictions {slice_.key}: {name} was not what had been written: "
            "set aside, and the slice scored again"
        )
    return version


def _report_checkpoint(
    context: dg.AssetExecutionContext, key: dg.AssetKey, slice_: Slice, trained: "TrainResult"
) -> str:
    """Say what was learnt from a slice; the checkpoint's version is given back."""
    manifest, fit = trained.manifest, trained.fit
    metadata: dict[str, object] = {
        keys.CHECKPOINT: manifest.version, keys.TRAINED_UNTIL: manifest.trained_until or "never"
    }  # fmt: skip
    if fit is None:
        metadata[keys.REUSED] = True
    else:
        metadata |= {keys.EXAMPLES_PER_SECOND: fit.examples_per_second, "loss": fit.loss}
    report_slice(context, key, slice_, manifest.rows, manifest.version, **metadata)
    return manifest.version


def _takeover(project: Project, teacher: Teacher) -> dg.AssetsDefinition:
    assert teacher.succeeds is not None
    old = project.teacher(teacher.succeeds.teacher)

    @dg.asset(
        key=teacher_key(teacher, TAKEOVER),
        deps=[teacher_key(old, PREDICTIONS), teacher_key(teacher, PREDICTIONS), LABELS],
        group_name=teacher_group(teacher.name),
        backfill_policy=SINGLE_RUN,
        kinds={"polars"},
        description=(
            f"Whether {teacher.name}'s lead over {old.name} is proven, on the newest labelled slices that both have "
            f"scored; from then on it teaches the students of {old.name}."
        ),
    )
    def takeover(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from pipeline.gate.succession import judge_succession

        judged = judge_succession(work, teacher)
        context.log.info(f"{context.asset_key.to_user_string()}: {judged.outcome}: {judged.reason}")
        metadata: dict[str, Any] = {"outcome": judged.outcome, "reason": judged.reason, "since": judged.since or "-"}
        metadata |= {f"difference/{each.task}": each.difference for each in judged.compared}
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(judged.since or judged.made_of))

    return takeover
