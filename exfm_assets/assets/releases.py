"""Assets of upkeep: a student's release behind its gate, and the drift report whose failed check retrains.

Belongs here: specs, policies, calling gate, release and drift, reporting.
Not here: what they compute (pipeline/releases/, pipeline/evaluation/).
"""

from collections.abc import Iterator

import dagster as dg

from exfm.learning import Student
from exfm.project import Project
from exfm.stream import Stream
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.students import DRIFT_REPORT, PROGRESS, student_key
from exfm_assets.partitions import SINGLE_RUN
from pipeline.evaluation.drift import drift_rows, drift_table
from pipeline.evaluation.gate import gate_of
from pipeline.releases.release import current_release
from pipeline.sidecar import write_stored
from pipeline.workspace import Workspace

GATES = dg.AssetKey("release_gates")


def release_assets(project: Project) -> list[dg.AssetsDefinition]:
    """One step a student, so that what happens to one student's checkpoints stops no other release."""
    if not project.students:
        return []
    stream = project.stream
    return [*(_release(stream, student) for student in project.students), _gates(stream), _drift_report(stream)]


def _release(stream: Stream, student: Student) -> dg.AssetsDefinition:
    key = student_key(student, "release")

    # A multi-asset of one: only those may record nothing, as where the gate refuses.
    @dg.multi_asset(
        name=f"release_{student.name}",
        specs=[_release_spec(stream, student)],
        backfill_policy=SINGLE_RUN,
    )
    def release(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> Iterator[dg.MaterializeResult]:
        from pipeline.releases.publishing import mend_release, release_newest

        gate = gate_of(work, student)
        context.log.info(f"{key.to_user_string()}: {gate.reason}")
        if (repair := mend_release(work, student, work.device)) is not None:
            context.log.warning(repair)
        # The gate is evaluated here, not in a check: a check blocks only inside its own run, and a release that was
        # recorded and then failed its check would look fresh.
        if not gate.passed:
            return
        before = current_release(work, student)
        released = release_newest(work, student, work.device)
        if released == before and context.instance.get_latest_materialization_event(key) is not None:
            # Recorded again it would look fresh, although nothing newer is served.
            context.log.info(f"{key.to_user_string()}: {released.version} is served already")
            return
        metadata = {
            keys.CHECKPOINT: released.version,
            keys.TRAINED_UNTIL: released.trained_until or "never",
            "gate": gate.reason,
            "slice": released.slice,
        }
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=dg.DataVersion(released.version))

    return release


def _release_spec(stream: Stream, student: Student) -> dg.AssetSpec:
    return dg.AssetSpec(
        student_key(student, "release"),
        deps=[dg.AssetDep(student_key(student, part)) for part in ("student", "evaluation")],
        group_name=f"student_{student.name}",
        kinds={"torch"},
        skippable=True,
        description=(
            "The served checkpoint: backbone and serving head. Renewed only if the student was not worse than its "
            f"control over the last {student.gate.slices} slices; a refused one does not reset the freshness clock."
        ),
    )


def _gates(stream: Stream) -> dg.AssetsDefinition:
    @dg.asset(
        key=GATES,
        deps=[PROGRESS],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"polars"},
    )
    def release_gates(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """Whether each student may be released, and why: it is there also where a release was refused."""
        gates = {student.name: gate_of(work, student) for student in work.project.students}
        lines = [f"| {name} | {'yes' if gate.passed else 'no'} | {gate.reason} |" for name, gate in gates.items()]
        table = "\n".join(["| student | passed | why |", "|---|---|---|", *lines])
        return dg.MaterializeResult(metadata={"gates": dg.MetadataValue.md(table)})

    return release_gates


def _drift_report(stream: Stream) -> dg.AssetsDefinition:
    @dg.asset(
        key=DRIFT_REPORT,
        # All slices, not the last one: on a live stream the slice that was just judged is never the last.
        deps=[PROGRESS],
        backfill_policy=SINGLE_RUN,
        group_name="upkeep",
        kinds={"polars"},
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
