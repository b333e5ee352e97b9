"""Assets of the stream: the log, validated and cut into slices, and the labels of each slice.

Belongs here: reading slices of the log, calling the contract and the label join, writing, reporting.
Not here: the contract and the simulator (streams/), the join (transforms/labels.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import dagster as dg
import polars as pl

from exfm.declaration import digest
from exfm.project import Project
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.common import SliceWriter, combined, report_slice
from exfm_assets.assets.imported import IMPORTED_LOG, imported_assets
from exfm_assets.partitions import SINGLE_RUN, earlier, slice_partitions, slices_of, slices_within
from pipeline.parts import Spool
from pipeline.slices.attributed import outcomes_of, without_orphans
from pipeline.slices.log_withdrawals import read_sound_log_in_parts, unknown_outcomes
from pipeline.slices.provenance import (
    Made,
    impressions_of_labels,
    labels_see,
    of_labels,
    of_labels_now,
    of_log_table,
    outcomes_digest,
)
from pipeline.streams.accounts import Account, SliceAccount, check_any, check_share
from pipeline.streams.heard import check_heard
from pipeline.streams.layout import log_files
from pipeline.streams.reader import LogRead
from pipeline.streams.simulated_log import drawn_from, has_landed, standing, write_log, write_nothing_yet
from pipeline.streams.simulator import simulate
from pipeline.tables import SliceTable
from pipeline.transforms.labels import LabelledSlice
from pipeline.workspace import Workspace

SIMULATED_LOG = dg.AssetKey("simulated_log")
IMPRESSIONS, OUTCOMES, INTERACTIONS = dg.AssetKey("impressions"), dg.AssetKey("outcomes"), dg.AssetKey("interactions")
LABELS = dg.AssetKey("labels")


def stream_assets(project: Project) -> list[dg.AssetsDefinition]:
    """The assets between the log and the labels of a project's stream."""
    log = [_simulated_log(project)] if project.drawn is not None else []
    return [
        *log,
        *imported_assets(project),
        _log_table(project, "impressions"),
        _outcomes(project),
        _log_table(project, "interactions"),
        _labels(project),
    ]


def _simulated_log(project: Project) -> dg.AssetsDefinition:
    @dg.asset(
        key=SIMULATED_LOG,
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
        group_name="stream",
        kinds={"python", "parquet"},
        code_version=digest(project.drawn),
    )
    def simulated_log(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """The canonical log of a seeded world: impressions, late and broken outcomes, interactions, and the truth."""
        simulation = work.project.drawn
        assert simulation is not None
        stream, log, digests = work.project.stream, work.state.log, []
        for slice_ in slices_of(stream, context.partition_keys):
            digests.append(drawn_from(simulation, stream, slice_, work.now()))
            stands = standing(log, slice_, digests[-1])
            if stands is not None:
                report_slice(context, SIMULATED_LOG, slice_, stands, digests[-1], **{keys.REUSED: True})
                continue
            if not has_landed(simulation, stream, slice_, work.now()):
                write_nothing_yet(log, slice_)
                report_slice(context, SIMULATED_LOG, slice_, 0, digests[-1])
                context.log.info(f"simulated_log {slice_.key}: late, as the simulation says")
                continue
            simulated = simulate(simulation, stream, slice_)
            write_log(log, simulated, slice_, digests[-1])
            report_slice(context, SIMULATED_LOG, slice_, simulated.impressions.height, digests[-1])
            context.log.info(f"simulated_log {slice_.key}: {simulated.impressions.height:,} impressions")
        return dg.MaterializeResult(data_version=combined(digests))

    return simulated_log


def _log_deps(project: Project, reach: int = 0) -> list[dg.AssetDep]:
    """A simulated outcome may fall into a later slice than its impression, so outcomes look back."""
    if project.log is not None:
        return [dg.AssetDep(IMPORTED_LOG)]
    if project.drawn is None:
        return []
    return [dg.AssetDep(SIMULATED_LOG, partition_mapping=earlier(reach, to=0) if reach else None)]


def _log_table(project: Project, table: str) -> dg.AssetsDefinition:
    key = dg.AssetKey(table)

    @dg.asset(
        key=key,
        deps=_log_deps(project),
        partitions_def=slice_partitions(project.stream),
        backfill_policy=SINGLE_RUN,
        group_name="stream",
        kinds={"polars", "parquet"},
        description=f"The log's {table}, checked against the contract; rows that break it are quarantined.",
    )
    def log_table(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        writer = LogWriter.of(context, work, table)
        for slice_ in slices_of(work.project.stream, context.partition_keys):
            made = of_log_table(work, table, slice_, work.table(table).sidecar(slice_))
            if not writer.keep(slice_, made):
                parts = read_sound_log_in_parts(work, table, slice_.start, slice_.end, writer.account.files)
                writer.write(slice_, parts, made)
        return writer.close()

    return log_table


@dataclass(frozen=True)
class LogWriter:
    """Writes the slices of a table of the log with their quarantine, and keeps the run's account of both."""

    writer: SliceWriter
    quarantine: SliceTable
    account: Account
    is_read: bool

    @classmethod
    def of(cls, context: dg.AssetExecutionContext, work: Workspace, table: str) -> "LogWriter":
        writer = SliceWriter(context, dg.AssetKey(table), work.table(table))
        account = Account(log_files(work, table), work.project.stream)
        return cls(writer, work.quarantine(table), account, work.project.reads_log(table))

    def keep(self, slice_: Slice, made: Made) -> bool:
        """Count and report a slice that stands with its quarantine; whether it does."""
        known = self.writer.table.standing(slice_, made.of)
        if known is None or keys.ACCOUNT not in known.notes or not self.quarantine.sound(slice_):
            return False
        self.account.add(SliceAccount(**known.notes[keys.ACCOUNT]))
        self.writer.keep(slice_, made)
        return True

    def write(self, slice_: Slice, parts: Iterable[LogRead], made: Made) -> None:
        """Write a slice, and before it can be seen its quarantine."""
        counted = SliceAccount.none()

        def kept(refused: Spool) -> Iterator[pl.DataFrame]:
            nonlocal counted
            for read in parts:
                counted += SliceAccount.of(read, self.account.files.table, self.account.stream)
                refused.add(read.quarantine)
                yield read.frame
            self.quarantine.write(slice_, refused.frames())

        def told() -> Mapping[str, object]:
            return {keys.ROWS_READ: counted.read, keys.QUARANTINED: counted.reasons, keys.ACCOUNT: asdict(counted)}

        with Spool(self.account.stream.part_rows, self.quarantine.folder) as refused:
            self.writer.write(slice_, kept(refused), made, told=told)
        self.account.add(counted)

    def close(self) -> dg.MaterializeResult:
        """Say what came of the log in this run, and stop it if that was too little.

        What was refused is written by then, to be looked into; no materialisation is reported, so nothing follows.
        """
        account, table = self.account, self.writer.table
        sentence, needs_attention = account.sentence()
        sentence += self.writer.of_slices(account.stream)
        if self.is_read or account.read:
            (self.writer.context.log.warning if needs_attention else self.writer.context.log.info)(sentence)
        check_share(account)
        stored = table.stored(account.stream)
        judged = self.is_read and account.files.table != "interactions"
        if judged and not account.kept and not any(map(table.rows, reversed(stored))):
            check_any(account, complete=stored == account.stream.all_slices)
        more = {keys.RUN_ACCOUNT: sentence, keys.RUN_READ: account.read, keys.RUN_QUARANTINED: account.quarantined}
        return self.writer.result(more=more)


def _outcomes(project: Project) -> dg.AssetsDefinition:
    stream = project.stream
    reach = slices_within(stream, stream.longest_window + stream.lateness)

    @dg.asset(
        key=OUTCOMES,
        deps=[*_log_deps(project, reach), dg.AssetDep(IMPRESSIONS, partition_mapping=earlier(reach, to=0))],
        partitions_def=slice_partitions(stream),
        backfill_policy=SINGLE_RUN,
        group_name="stream",
        kinds={"polars", "parquet"},
    )
    def outcomes(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """The log's outcomes by when they happened; those of no known impression (orphans) are quarantined."""
        writer = LogWriter.of(context, work, "outcomes")
        for slice_ in slices_of(stream, context.partition_keys):
            made = of_log_table(work, "outcomes", slice_, work.table("outcomes").sidecar(slice_))
            if writer.keep(slice_, made):
                continue
            parts = read_sound_log_in_parts(work, "outcomes", slice_.start, slice_.end, writer.account.files)
            writer.write(slice_, without_orphans(work, slice_, parts), made)
        return writer.close()

    return outcomes


def _labels(project: Project) -> dg.AssetsDefinition:
    stream = project.stream
    lineage = {
        "impression_id": [(IMPRESSIONS, "impression_id")],
        "event_timestamp": [(IMPRESSIONS, "event_timestamp")],
        "closed_at": [(IMPRESSIONS, "event_timestamp")],
        **{task: [(OUTCOMES, "task"), (OUTCOMES, "outcome_timestamp")] for task in stream.outcome_tasks},
        **{task.name: [(IMPRESSIONS, task.label or "")] for task in stream.labelled_tasks},
    }

    @dg.asset(
        key=LABELS,
        deps=[IMPRESSIONS, OUTCOMES, *_log_deps(project)],
        partitions_def=slice_partitions(stream),
        backfill_policy=SINGLE_RUN,
        group_name="stream",
        kinds={"polars", "parquet"},
    )
    def labels(context: dg.AssetExecutionContext, work: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        """A nullable label a task for every impression, from the outcomes known when the slice's windows closed.

        Windows close after the slice ends, so outcomes up to then are read from the log itself: waiting for the
        ``outcomes`` slices after this one would add up to a slice of delay to every label.
        """
        files, writer = log_files(work, "outcomes"), SliceWriter(context, LABELS, work.table("labels"))
        slices = slices_of(stream, context.partition_keys)
        for slice_ in slices:
            as_of, before = stream.closes(slice_, work.now()), work.table("labels").sidecar(slice_)
            if before is not None and writer.keep(slice_, of_labels_now(work, slice_, as_of, before)):
                continue
            seen = labels_see(work, slice_, as_of)
            tail = slice_.end + stream.longest_window + stream.lateness
            shown = impressions_of_labels(work, slice_)
            known = outcomes_of(work, shown, tail, files)
            labelled = LabelledSlice(stream, as_of, unknown_outcomes(work, slice_.start, as_of))
            made = of_labels(work, shown, as_of, seen, outcomes_digest(known, as_of))
            parts, notes = labelled.joined(shown.parts(), known), {"as_of": as_of.isoformat()}
            writer.write(slice_, parts, made, notes, labelled.told, shown.height)
        check_heard(stream, work.table("labels"), work.table("outcomes"), work.quarantine("outcomes"), slices)
        return writer.result(lineage)

    return labels
