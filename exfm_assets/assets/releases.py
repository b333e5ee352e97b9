"""Assets of upkeep: a student's release behind its gate, and the drift report, by which students are retrained.

Belongs here: specs, calling gate, release and drift, reporting.
Not here: what they compute (pipeline/gate/, pipeline/releases/, pipeline/evaluation/), policies (policies.py).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from exfm.learning import Student
from exfm.names import student_group
from exfm.project import Project
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.features import LOGGED_INPUTS
from exfm_assets.assets.predicted import LOGGED_TEACHER_FEATURES
from exfm_assets.assets.stream import IMPRESSIONS, LABELS
from exfm_assets.assets.students import DRIFT_REPORT, PROGRESS, student_key
from exfm_assets.partitions import SINGLE_RUN
from pipeline.drift.arms import FILE as ARMS
from pipeline.drift.arms import arms_of, arms_table
from pipeline.drift.report import FILE, drift_rows, drift_table, news, stored_drift
from pipeline.releases.history import history_of
from pipeline.releases.items import refreshed
from pipeline.releases.release import Released, current_release
from pipeline.releases.verdict import NOT_JUDGED, Verdict
from pipeline.report.gates import changes_table, comparisons_table, gates_table
from pipeline.report.plots import drift_plots
from pipeline.sidecar import write_stored
from pipeline.tables import UnsettledError
from pipeline.workspace import Workspace

GATES = dg.AssetKey("release_gates")


def release_assets(project: Project) -> list[dg.AssetsDefinition]:
    """One step a student, so that what happens to one student's checkpoints stops no other release."""
    if not project.students:
        return []
    return [*(_release(project, student) for student in project.students), _gates(project), _drift_report(project)]


def _release(project: Project, student: Student) -> dg.AssetsDefinition:
    key = student_key(student, "release")

    # A multi-asset of one: only those may record nothing, as where the gate refuses.
    @dg.multi_asset(
        name=f"release_{student.name}",
        specs=[_release_spec(project, student)],
        backfill_policy=SINGLE_RUN,
    )
    def release(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        from pipeline.gate.releasing import held_back, release_candidate
        from pipeline.releases.publishing import mend_release

        if (repair := mend_release(work, student, work.device)) is not None:
            context.log.warning(repair)
        if student.network.two_sided:
            context.log.info(f"{key.to_user_string()}: {refreshed(work, student)}")
        before = current_release(work, student)
        seen = 0 if before is None else before.change
        # The gate is evaluated here, not in a check: a check blocks only inside its own run, and a release that was
        # recorded and then failed its check would look like a new one.
        try:
            verdict, released = release_candidate(work, student, work.device)
        except UnsettledError as error:
            # Another run makes a slice again: what serves stays, and its evaluation will ask for the release again.
            context.log.warning(f"{key.to_user_string()}: not judged now: {error}")
            return
        log = context.log.info if verdict.passed else context.log.warning
        log(f"{key.to_user_string()}: {verdict.outcome}: {verdict.reason}")
        changes = [] if before is None else [entry for entry in history_of(work, student) if entry.change > seen]
        for entry in changes:  # more than one, as where a canary serves and the next candidate is the canary
            said = context.log.warning if entry.dropped else context.log.info
            said(f"{key.to_user_string()}: {entry.action}: {entry.why}")
        if released is not None and released.hold:
            context.log.warning(f"{key.to_user_string()}: {released.hold}")
            return
        if (why := held_back(work, student, verdict, released)) is not None:
            context.log.warning(f"{key.to_user_string()}: {why}")
        if released is None or not (verdict.passed or changes):
            return
        if released == before and context.instance.get_latest_materialization_event(key) is not None:
            # Recorded again it would look like a new one.
            context.log.info(f"{key.to_user_string()}: {released.version} is served already")
            return
        metadata = _told(released, verdict)
        if changes:
            metadata["changes"] = dg.MetadataValue.md(changes_table(changes))
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=dg.DataVersion(released.version))

    return release


def _told(released: Released, verdict: Verdict) -> dict[str, Any]:
    """Metadata: what serves now, and what its gate said."""
    canary = released.canary
    return {
        keys.CHECKPOINT: released.checkpoint,
        keys.TRAINED_UNTIL: released.trained_until or "never",
        "gate": verdict.reason,
        "release": released.number,
        "slice": released.slice,
        "comparisons": dg.MetadataValue.md(comparisons_table(verdict)),
        **({} if canary is None else {"canary": canary.number, "canary_slice": canary.slice}),
    }


def _release_spec(project: Project, student: Student) -> dg.AssetSpec:
    mine = [student_key(student, part) for part in ("student", "control", "evaluation")]
    return dg.AssetSpec(
        student_key(student, "release"),
        deps=[dg.AssetDep(key) for key in (*mine, *judged_on(project, student))],
        group_name=student_group(student.name),
        kinds={"torch"},
        skippable=True,
        description=(
            "The served checkpoint: backbone and serving head. Renewed only if it is not shown to be worse than its "
            "control and than what serves, on slices that it has not seen; a refused one leaves what serves as it is."
        ),
    )


def judged_on(project: Project, *students: Student) -> list[dg.AssetKey]:
    """Tables whose rows candidates are judged on."""
    second = [project.columns_of(student.inputs, where=student.name).of_teachers for student in students]
    return [IMPRESSIONS, LABELS, LOGGED_INPUTS, *([LOGGED_TEACHER_FEATURES] if any(second) else [])]


def _gates(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=GATES,
        deps=[PROGRESS, *judged_on(project, *project.students)],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"torch"},
    )
    def release_gates(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Whether each student's candidate may be released, and why: it is there also where one was refused."""
        from pipeline.gate.judged_rows import JudgedRows
        from pipeline.gate.judging import judge

        verdicts, rows = {}, JudgedRows(work, work.device)
        for student in work.project.students:
            try:
                verdicts[student.name] = judge(work, student, work.device, rows)
            except ValueError as error:  # DataError, CheckpointError: of this student alone
                verdicts[student.name] = Verdict(NOT_JUDGED, str(error))
        return dg.MaterializeResult(metadata={"gates": dg.MetadataValue.md(gates_table(verdicts))})

    return release_gates


def _drift_report(project: Project) -> dg.AssetsDefinition:
    has_arms = any(student.serving.canary or student.serving.shadow for student in project.students)

    @dg.asset(
        key=DRIFT_REPORT,
        # All slices, not the last one: on a live stream the slice that was just judged is never the last.
        deps=[PROGRESS, *(key for key in judged_on(project, *project.students) if key != LABELS or has_arms)],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"polars", "river"},
    )
    def drift_report(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """What has changed since each student and teacher was trained; a change that is new to them retrains."""
        rows, before = drift_rows(work), stored_drift(work)
        write_stored(rows, work.state.reports / FILE)
        for row in news(rows, before).iter_rows(named=True):
            context.log.warning(f"{row['model']} drifted: {row['slice']}: {row['reason']}")
        told = {}
        if has_arms:
            arms = arms_of(work)
            write_stored(arms.rows, work.state.reports / ARMS)
            told["arms"] = dg.MetadataValue.md(arms_table(arms.rows))
            for said in arms.left_out:
                context.log.warning(f"arms are without {said}")
        plots = {f"plot/{name}": dg.MetadataValue.md(plot) for name, plot in drift_plots(work)}
        return dg.MaterializeResult(
            metadata={keys.ROW_COUNT: rows.height, "drift": dg.MetadataValue.md(drift_table(rows)), **told, **plots}
        )

    return drift_report
