"""Assets of the students: one step for all of them, so that a slice is loaded and its predictions read once.

Belongs here: specs, the call of the walk, what is reported. Not here: the walk (pipeline/training/), releases.

A student that can't go on has its own slices missing, and its sentence in ``student_progress``, whose check fails the
run at its end. The others, and what depends on them, are made as if it were not there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from exfm.declaration import digest
from exfm.learning import Student
from exfm.names import student_group
from exfm.project import Project
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import SliceWriter, combined, report_slice, table_schema, warn_of_outdated
from exfm_assets.assets.features import LOGGED_INPUTS, REGISTRY
from exfm_assets.assets.predicted import LOGGED_TEACHER_FEATURES
from exfm_assets.assets.stream import LABELS
from exfm_assets.assets.teachers import supervising
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of
from pipeline.evaluation.schema import METRICS
from pipeline.registry.lineage import declaration_digest
from pipeline.report.plots import ne_plot
from pipeline.slices.provenance import Made
from pipeline.tables import DataError
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.training.student_walk import StudentVisit

DRIFT_REPORT, PROGRESS = dg.AssetKey("drift_report"), dg.AssetKey("student_progress")
PARTS = ("student", "control", "evaluation")
CONTROL_DESCRIPTION = (
    "The same student under the same seed, learning from labels alone: what distillation is measured against."
)
EVALUATION_DESCRIPTION = (
    "NE, AUC, log loss, calibration on the slice, by the checkpoint that would have served it ({lag} back)."
)


def student_key(student: Student, part: str) -> dg.AssetKey:
    """``student/<name>/checkpoint``, ``.../control``, ``.../evaluation`` or ``.../release``."""
    return dg.AssetKey(["student", student.name, "checkpoint" if part == "student" else part])


def student_assets(project: Project) -> list[dg.AssetsDefinition]:
    return [_students(project)] if project.students else []


def _specs(project: Project, student: Student) -> list[dg.AssetSpec]:
    stream = project.stream
    checkpoint, control, evaluation = (student_key(student, part) for part in PARTS)
    lag = stream.serving_lag(student.task)
    # Dagster 1.13 takes one mapping a key and step: what continues t - 1 and what judges t - lag share this one.
    past = {key: dg.AssetDep(key, partition_mapping=earlier(lag)) for key in (checkpoint, control)}
    where = f"surface {student.surface!r}" if student.surface is not None else "all surfaces"
    how = type(student.distillation).__name__ if student.distillation else "labels alone"
    second = project.columns_of(student.inputs, where=student.name).of_teachers
    inputs = [LOGGED_INPUTS, LABELS, *([LOGGED_TEACHER_FEATURES] if second else [])]
    supervision = [REGISTRY, *supervising(project, student)]
    for_lead = [past[control]] if student.lead is not None else []  # the teacher's lead is over the control
    common: dict[str, Any] = {
        "partitions_def": slice_partitions(stream),
        "group_name": student_group(student.name),
        "skippable": True,
        "kinds": {"torch"},
    }
    return [
        dg.AssetSpec(
            checkpoint,
            deps=[*inputs, *supervision, past[checkpoint], *for_lead],
            description=f"Student for {student.task} on {where} after one more slice, learning by {how}.",
            code_version=declaration_digest(project, student),
            **common,
        ),
        dg.AssetSpec(
            control,
            deps=[*inputs, past[control]],
            description=CONTROL_DESCRIPTION,
            code_version=declaration_digest(project, student, control=True),
            **common,
        ),
        dg.AssetSpec(
            evaluation,
            deps=[*inputs, *supervision, past[checkpoint], past[control]],
            description=EVALUATION_DESCRIPTION.format(lag=lag),
            code_version="1",
            **common,
        ),
    ]


def _progress_spec(project: Project) -> dg.AssetSpec:
    """What depends on all students depends on this asset; else one that failed would block it."""
    return dg.AssetSpec(
        PROGRESS,
        deps=[student_key(student, part) for student in project.students for part in PARTS],
        partitions_def=slice_partitions(project.stream),
        group_name="upkeep",
        kinds={"polars", "parquet"},
        skippable=True,
        description="Of each student and slice: what is stored, under which version, or why it failed.",
    )


def _students(project: Project) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="students",
        specs=[*(spec for student in project.students for spec in _specs(project, student)), _progress_spec(project)],
        can_subset=True,
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
        pool="gpu",
    )
    def walk(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        from pipeline.evaluation.schema import SCHEMA
        from pipeline.registry.checkpoint_store import CheckpointStore
        from pipeline.training.student_run import StudentRequest
        from pipeline.training.student_walk import walk_students

        selected = context.selected_asset_keys
        slices = slices_of(project.stream, context.partition_keys)
        parts = {
            student.name: frozenset(part for part in PARTS if student_key(student, part) in selected)
            for student in project.students
        }
        requests = [StudentRequest(student, parts[student.name]) for student in project.students if parts[student.name]]
        for request in requests:
            for part in ("control", "student"):
                if part in request.parts:
                    store = CheckpointStore.of(work, request.student, control=part == "control")
                    warn_of_outdated(context, store, slices)
        versions: dict[dg.AssetKey, list[str]] = {key: [] for key in selected}
        failed: dict[str, tuple[str, str]] = {}
        walked = walk_students(work, requests, slices, device=work.device, say=context.log.info) if requests else ()
        for visit in walked:
            _report_visit(context, work, visit, versions)
            if visit.failed is not None:
                failed[visit.student.name] = (visit.slice.key, visit.failed)
                context.log.error(f"student/{visit.student.name} {visit.slice.key}: {visit.failed}")
            else:
                context.log.info(f"student/{visit.student.name} {visit.slice.key}: {visit.seconds:.1f} s")
        for key in sorted(selected - {PROGRESS}, key=_order):
            if key.path[1] not in failed:
                metadata = {keys.COLUMN_SCHEMA: table_schema(SCHEMA)} if key.path[-1] == "evaluation" else {}
                version = combined(versions[key] or ["none"])
                yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=version)
        if PROGRESS in selected:
            yield _write_progress(context, work, slices, failed)
        elif failed:
            raise DataError("; ".join(f"student/{name} {at}: {why}" for name, (at, why) in failed.items()))

    return walk


def _report_visit(
    context: dg.AssetExecutionContext, work: Workspace, visit: "StudentVisit", versions: dict[dg.AssetKey, list[str]]
) -> None:
    for part, trained in (("student", visit.trained), ("control", visit.control)):
        if trained is None:
            continue
        manifest, fit = trained.manifest, trained.fit
        metadata: dict[str, object] = {
            keys.CHECKPOINT: manifest.version,
            keys.TRAINED_UNTIL: manifest.trained_until or "never",
            keys.TEACHER_CHECKPOINTS: list(manifest.teacher_checkpoints),
        }
        if fit is None:
            metadata[keys.REUSED] = True
        else:
            metadata |= {keys.EXAMPLES_PER_SECOND: fit.examples_per_second, "loss": fit.loss}
        metadata |= {name: value for name, value in manifest.metrics.items() if name != "loss"}
        if part == "student" and visit.supervision is not None:
            metadata |= {keys.COVERAGE: visit.supervision.coverage, keys.LEAKS: visit.supervision.leaks}
        key = student_key(visit.student, part)
        report_slice(context, key, visit.slice, manifest.rows, manifest.version, **metadata)
        versions[key].append(manifest.version)
    if visit.evaluation is not None:
        _report_evaluation(context, work, visit, versions)


def _write_progress(
    context: dg.AssetExecutionContext, work: Workspace, slices: Sequence[Slice], failed: Mapping[str, tuple[str, str]]
) -> dg.MaterializeResult:
    from pipeline.training.student_progress import progress_rows

    writer = SliceWriter(context, PROGRESS, work.table("student_progress"))
    for slice_ in slices:
        rows = progress_rows(work, slice_, {name: why for name, (at, why) in failed.items() if at <= slice_.key})
        failures = rows.filter(rows["reason"] != "").height
        made = Made({"rows": digest(rows.rows())})
        if not writer.keep(slice_, made):
            writer.write(slice_, rows, made, {"failed": failures})
    return writer.result()


def _order(key: dg.AssetKey) -> int:
    """Topological: what is judged comes after what is trained, a student after the control that a lead is over."""
    return ("control", "checkpoint", "evaluation").index(key.path[-1])


def _report_evaluation(
    context: dg.AssetExecutionContext, work: Workspace, visit: "StudentVisit", versions: dict[dg.AssetKey, list[str]]
) -> None:
    from pipeline.evaluation.slice_metrics import Measured

    rows = visit.evaluation_rows()
    key, table = student_key(visit.student, "evaluation"), work.evaluations(visit.student.name)
    if isinstance(visit.evaluation, pl.DataFrame):
        metadata: dict[str, object] = {keys.REUSED: True}  # stored already, made of the same
    else:
        assert isinstance(visit.evaluation, Measured)
        table.write(visit.slice, rows, {"evaluation": visit.evaluation.made_of}, notes=visit.evaluation.notes)
        metadata = {}
    metadata |= {
        f"{metric}/{row['model']}": row[metric]
        for row in rows.iter_rows(named=True)
        for metric in METRICS
        if row[metric] is not None and row[metric] == row[metric]
    }
    if visit.slice.key == context.partition_keys[-1]:
        metadata[keys.NE_PLOT] = dg.MetadataValue.md(ne_plot(work, visit.student))
    version = table.digest(visit.slice)
    report_slice(context, key, visit.slice, rows.height, version, **metadata)
    versions[key].append(version)
