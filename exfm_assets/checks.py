"""Checks on what is stored: contracts, no lost rows, no leaks, coverage, finite losses, drift.

Belongs here: what must hold of each asset, read back from what was written. Not here: making it hold.
Blocking checks stop the run below the asset that broke; those that only warn are for people.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import dagster as dg

from exfm.project import Project
from exfm.stream import Slice
from exfm_assets.assets.features import LOGGED_INPUTS, view_key
from exfm_assets.assets.predicted import LOGGED_TEACHER_FEATURES, predicted_key
from exfm_assets.assets.reports import REPORT
from exfm_assets.assets.stream import IMPRESSIONS, INTERACTIONS, LABELS, OUTCOMES
from exfm_assets.assets.students import DRIFT_REPORT, PROGRESS, student_key
from exfm_assets.assets.teachers import PREDICTIONS, teacher_key
from exfm_assets.partitions import slices_of
from pipeline.drift.check import no_drift
from pipeline.verify import checkpoints_sound, predictions_sound, tables_current, tables_sound
from pipeline.verify.findings import CheckFn
from pipeline.verify.served_skew import served_skew
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Check:
    """A look at an asset's stored slices.

    Args:
        look: gives back what it found, for the slices of the run.
        blocking: whether a failure stops what depends on the asset.
        fails_run: whether a failure, though it stops nothing below, is one of the whole run.
    """

    asset: dg.AssetKey
    name: str
    look: CheckFn
    description: str
    blocking: bool = True
    fails_run: bool = False

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """Of a failure; one that only warns is for people, or mended by the automation."""
        return dg.AssetCheckSeverity.ERROR if self.blocking or self.fails_run else dg.AssetCheckSeverity.WARN


def checks(project: Project) -> list[dg.AssetChecksDefinition]:
    """All checks of a project, one step an asset."""
    by_asset: dict[dg.AssetKey, list[Check]] = {}
    for check in declared(project):
        by_asset.setdefault(check.asset, []).append(check)
    return [_definition(key, listed) for key, listed in by_asset.items()]


def declared(project: Project) -> Iterator[Check]:
    """Each check of each asset, as the declaration asks for it."""
    for key in (IMPRESSIONS, OUTCOMES, INTERACTIONS):
        name = key.to_user_string()
        yield Check(key, "contract", tables_sound.contract(name), "schema, keys and times are as the contract says")
        yield Check(key, "rows_kept", tables_sound.rows_kept(name), "rows in the log = rows stored + rows quarantined")
    yield Check(IMPRESSIONS, "not_empty", tables_sound.not_empty, "every slice has impressions", blocking=False)
    yield Check(LABELS, "contract", tables_sound.contract("labels"), "schema, keys and times are as the contract says")
    yield Check(LABELS, "one_per_impression", tables_sound.same_rows("labels"), "as many rows as impressions")
    for view in project.feature_views:
        yield Check(
            view_key(view), "contract", tables_sound.feature_contract(view), "schema, keys and stamps are as declared"
        )
    for prediction_view in project.prediction_views:
        look = tables_sound.feature_contract(prediction_view)
        yield Check(predicted_key(prediction_view), "contract", look, "schema, keys and stamps are as declared")
    if project.teacher_feature_columns.features:
        same = tables_sound.same_rows("logged_teacher_features")
        yield Check(LOGGED_TEACHER_FEATURES, "one_per_impression", same, "as many rows as impressions")
    yield Check(
        LOGGED_INPUTS, "one_per_impression", tables_sound.same_rows("logged_inputs"), "as many rows as impressions"
    )
    yield from _of_served(project)
    for teacher in project.teachers:
        key = teacher_key(teacher, PREDICTIONS)
        yield Check(
            key, "no_leaks", predictions_sound.no_leaks(teacher), "no stored prediction had seen its impression"
        )
        yield Check(key, "coverage", predictions_sound.coverage(teacher), "every impression has a prediction")
        yield Check(
            teacher_key(teacher, "checkpoint"),
            "finite",
            checkpoints_sound.finite(f"teacher/{teacher.name}"),
            "losses are finite",
        )
    for student in project.students:
        for part in ("student", "control"):
            yield Check(
                student_key(student, part),
                "finite",
                checkpoints_sound.finite(f"{part}/{student.name}"),
                "losses are finite",
            )
    if project.students:
        description = "every student was trained and judged as asked"
        yield Check(
            PROGRESS,
            "no_student_failed",
            checkpoints_sound.no_student_failed,
            description,
            blocking=False,
            fails_run=True,
        )
    for asset in tables_current.assets_of(project):
        yield Check(
            dg.AssetKey(asset.split("/")),
            "up_to_date",
            tables_current.up_to_date(asset),
            "every stored slice is made of what is stored now",
            blocking=False,
        )
    if project.students:
        description = "nothing that is stored is damaged, or made of what has changed since"
        yield Check(REPORT, "nothing_stale", tables_current.nothing_stale, description, blocking=False)
    for model in drifting(project):
        description = f"nothing of {model} has drifted since what serves was trained; what is found retrains it"
        yield Check(DRIFT_REPORT, f"drift_{model.replace('/', '_')}", no_drift(model), description, blocking=False)


def _of_served(project: Project) -> Iterator[Check]:
    tables = [LOGGED_INPUTS, *([LOGGED_TEACHER_FEATURES] if project.teacher_feature_columns.features else [])]
    for key in () if project.served is None else tables:
        look = served_skew(key.to_user_string())
        description = "features were served as they are joined afterwards"
        yield Check(key, "served_skew", look, description, blocking=False)


def drifting(project: Project) -> list[str]:
    """What drifts: each student and each teacher."""
    teachers = [f"teacher/{teacher.name}" for teacher in project.teachers]
    return teachers + [f"student/{student.name}" for student in project.students]


def _definition(key: dg.AssetKey, listed: list[Check]) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(check.name, asset=key, blocking=check.blocking, description=check.description)
        for check in listed
    ]

    @dg.multi_asset_check(name=f"check_{'_'.join(key.path)}", specs=specs, can_subset=True)
    def look(
        context: dg.AssetCheckExecutionContext, work: dg.ResourceParam[Workspace]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        for check in listed:
            if check.name not in selected:
                continue
            finding = check.look(work, _slices(context, work, key))
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=check.name,
                passed=finding.passed,
                severity=check.severity,
                description=finding.message,
                metadata=dict(finding.numbers),
            )
            if check.fails_run and not finding.passed:
                raise dg.Failure(finding.message, allow_retries=False)

    return look


def _slices(context: dg.AssetCheckExecutionContext, work: Workspace, key: dg.AssetKey) -> list[Slice]:
    """The slices of the run; a check that is run alone, or looks at what has no slices, looks at all that is stored."""
    stream = work.project.stream
    partitioned = context.job_def.asset_layer.asset_graph.get(key).is_partitioned
    if partitioned and (context.has_partition_key or context.has_partition_key_range):
        with suppress(dg.DagsterInvariantViolationError):  # a range for a run of checks alone, which has no partitions
            return slices_of(stream, context.partition_keys)
    return work.table("impressions").stored(stream)
