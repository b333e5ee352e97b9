"""Assets of upkeep: a student's release behind its gate, and the drift report whose failed check retrains.

Belongs here: specs, policies, calling gate, release and drift, reporting.
Not here: what they compute (learning/releasing.py, learning/drift.py).
"""

from collections.abc import Iterator

import dagster as dg

from exfm_assets import metadata_keys as keys
from exfm_assets.assets.students import DRIFT_REPORT, student_key
from exfm_assets.automation import follow
from exfm_assets.learning.drift import drift_rows, drift_table
from exfm_assets.learning.releasing import current_release, evaluations_of, judge_gate
from exfm_assets.partitions import SINGLE_RUN
from exfm_assets.resources import Workspace
from exfm_assets.sidecar import write_stored
from projects.learning import Student
from projects.project import Project

GATES = dg.AssetKey("release_gates")


def release_assets(project: Project) -> list[dg.AssetsDefinition]:
    return [_releases(project), _drift_report(project)] if project.students else []


def _release_spec(student: Student) -> dg.AssetSpec:
    # All slices, not the last one: `just_stale` looks from each slice of the checkpoint down to the release, and
    # Dagster would take that way through this very mapping.
    deps = [dg.AssetDep(student_key(student, part)) for part in ("student", "evaluation")]
    return dg.AssetSpec(
        student_key(student, "release"),
        deps=deps,
        group_name=f"student_{student.name}",
        kinds={"torch"},
        skippable=True,
        freshness_policy=dg.FreshnessPolicy.time_window(
            warn_window=student.freshness.warn, fail_window=student.freshness.fail
        ),
        automation_condition=follow(),
        description=(
            "The served checkpoint: backbone and serving head. Renewed only if the student was not worse than its "
            f"control over the last {student.gate.slices} slices; a refused one does not reset the freshness clock."
        ),
    )


def _gates_spec(project: Project) -> dg.AssetSpec:
    return dg.AssetSpec(
        GATES,
        deps=[dg.AssetDep(student_key(one, part)) for one in project.students for part in ("student", "evaluation")],
        group_name="upkeep",
        kinds={"polars"},
        skippable=True,
        automation_condition=follow(),
        description="Whether each student may be released, and why: it is there also where a release was refused.",
    )


def _releases(project: Project) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="releases",
        specs=[*(_release_spec(student) for student in project.students), _gates_spec(project)],
        can_subset=True,
        backfill_policy=SINGLE_RUN,
    )
    def releases(
        context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]
    ) -> Iterator[dg.MaterializeResult]:
        from exfm_assets.learning.publishing import mend_release, release_newest

        gates = {student.name: judge_gate(student, evaluations_of(work, student)) for student in project.students}
        for student in project.students:
            key, gate = student_key(student, "release"), gates[student.name]
            if key not in context.selected_asset_keys:
                continue
            context.log.info(f"{key.to_user_string()}: {gate.reason}")
            if (mended := mend_release(work, student, work.device)) is not None:
                context.log.warning(mended)
            # The gate is asked here, not in a check: a check blocks only inside its own run, and a release that
            # was recorded and then failed its check would look fresh.
            if gate.passed:
                before = current_release(work, student)
                released = release_newest(work, student, work.device)
                if released == before and context.instance.get_latest_materialization_event(key) is not None:
                    # Recorded again it would look fresh, although nothing newer is served.
                    context.log.info(f"{key.to_user_string()}: {released.version} is served already")
                    continue
                metadata = {
                    keys.CHECKPOINT: released.version,
                    keys.TRAINED_UNTIL: released.trained_until or "never",
                    "gate": gate.reason,
                    "slice": released.slice,
                }
                version = dg.DataVersion(released.version)
                yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=version)
        if GATES in context.selected_asset_keys:
            lines = [f"| {name} | {'yes' if gate.passed else 'no'} | {gate.reason} |" for name, gate in gates.items()]
            table = "\n".join(["| student | passed | why |", "|---|---|---|", *lines])
            yield dg.MaterializeResult(asset_key=GATES, metadata={"gates": dg.MetadataValue.md(table)})

    return releases


def _drift_report(project: Project) -> dg.AssetsDefinition:
    last = dg.LastPartitionMapping()

    @dg.asset(
        key=DRIFT_REPORT,
        deps=[dg.AssetDep(student_key(one, "evaluation"), partition_mapping=last) for one in project.students],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"polars"},
        automation_condition=follow(),
    )
    def drift_report(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """How each served student does on the newest slices against those before; its failed check retrains."""
        rows = drift_rows(work)
        write_stored(rows, work.state.reports / "drift.parquet")
        for row in rows.filter(rows["drifted"]).iter_rows(named=True):
            context.log.warning(f"{row['student']} drifted: {row['reason']}")
        return dg.MaterializeResult(
            metadata={keys.ROW_COUNT: rows.height, "drift": dg.MetadataValue.md(drift_table(rows))}
        )

    return drift_report
