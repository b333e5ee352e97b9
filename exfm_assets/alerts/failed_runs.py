"""Work that failed twice: the same slice of an asset, in two runs, and it was not made since.

Belongs here: reading what Dagster recorded of failed runs. Not here: ending runs of dead processes (running.py).

Two runs for the same work seldom have the same selection: the second one leaves out what the first had made, and takes
along slices that came meanwhile. So what counts is each slice of each asset that a failed step was to make.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.events import DagsterEventType as Event
from dagster._core.storage.dagster_run import RunRecord

from exfm.errors import DeclarationError
from exfm.stream import Stream
from exfm_assets.alerts.alert import RED, Alert, moment, sentence_of
from exfm_assets.alerts.slices import in_words
from exfm_assets.progress import sentence
from pipeline.workspace import Workspace

RECENT = timedelta(days=1)  # what has not failed again for so long is forgotten: nobody asks for it
MOST_RUNS, MOST_EVENTS = 200, 1_000
TIMES = 2
Unit = tuple[dg.AssetKey, int | None]  # an asset and a slice's index, ``None`` where it has none
_READ = {Event.STEP_FAILURE, Event.ASSET_MATERIALIZATION_PLANNED, Event.ASSET_MATERIALIZATION,
         Event.ASSET_CHECK_EVALUATION_PLANNED, Event.ASSET_CHECK_EVALUATION}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A step of a run that failed, or a whole run of which no step did.

    Args:
        units: what it was to make, and did not.
    """

    step: str
    run: str
    at: datetime
    says: str
    units: frozenset[Unit]


@dataclass
class FailedRuns:
    """Failed runs, each read once: a run that has failed stays as it is."""

    _known: dict[str, list[Failure]] = field(default_factory=dict)

    def alerts(self, work: Workspace, instance: dg.DagsterInstance) -> Iterator[Alert]:
        """One alert a step."""
        lasting: dict[str, dict[Unit, list[Failure]]] = {}
        for unit, failures in self._unmade(work.project.stream, instance).items():
            lasting.setdefault(failures[0].step, {})[unit] = failures
        for step, units in lasting.items():
            yield _alert(work.project.stream, step, units)

    def _unmade(self, stream: Stream, instance: dg.DagsterInstance) -> dict[Unit, list[Failure]]:
        """What failed twice or more and was not made since, with its failures, newest first."""
        by_unit: dict[Unit, list[Failure]] = {}
        for failure in sorted(self._failures(stream, instance), key=lambda one: one.at, reverse=True):
            for unit in failure.units:
                by_unit.setdefault(unit, []).append(failure)
        often = {unit: failures for unit, failures in by_unit.items() if len({one.run for one in failures}) >= TIMES}
        made = {key: _made(stream, instance, key, often) for key in {key for key, _ in often}}
        return {
            (key, index): failures
            for (key, index), failures in often.items()
            if made[key].get(index, datetime.min.replace(tzinfo=UTC)) <= failures[0].at
        }

    def _failures(self, stream: Stream, instance: dg.DagsterInstance) -> list[Failure]:
        since = datetime.now(UTC) - RECENT
        failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
        records = instance.get_run_records(failed, limit=MOST_RUNS)
        known, self._known = self._known, {}
        for record in records:
            run_id = record.dagster_run.run_id
            read = known[run_id] if run_id in known else list(failures_of(stream, instance, record))
            self._known[run_id] = read
        return [failure for failures in self._known.values() for failure in failures]


def failures_of(stream: Stream, instance: dg.DagsterInstance, record: RunRecord) -> Iterator[Failure]:
    """What failed in a run; not where a check said why, for that is an alert of its own."""
    run = record.dagster_run
    planned: dict[str, set[Unit]] = {}
    made: dict[str, set[Unit]] = {}
    failed: dict[str, tuple[datetime, str]] = {}
    judged: set[str] = set()
    for event in (entry.event_log_entry for entry in instance.get_records_for_run(run.run_id, of_type=_READ).records):
        what = event.get_dagster_event()
        step = what.step_key or ""
        if what.event_type == Event.STEP_FAILURE:
            failed[step] = moment(event.timestamp), sentence(what.step_failure_data.error)
        elif what.event_type == Event.ASSET_MATERIALIZATION_PLANNED:
            planned.setdefault(step, set()).update(_units(stream, what.asset_materialization_planned_data))
        elif what.event_type == Event.ASSET_CHECK_EVALUATION_PLANNED:
            planned.setdefault(step, set()).add((what.asset_check_planned_data.asset_key, None))
        elif what.event_type == Event.ASSET_CHECK_EVALUATION:
            judged |= set() if what.asset_check_evaluation_data.passed else {step}
        elif what.asset_key is not None:
            made.setdefault(step, set()).add((what.asset_key, _index(stream, what.partition)))
    if not failed:  # its process could not begin, or died too often
        at = moment(record.end_time or record.update_timestamp.timestamp())
        failed = {step: (at, "the run ended before this step did") for step in planned}
    for step, (at, says) in failed.items():
        if step not in judged and (left := frozenset(planned.get(step, set()) - made.get(step, set()))):
            yield Failure(step, run.run_id, at, says, left)


def _units(stream: Stream, planned: AssetMaterializationPlannedData) -> set[Unit]:
    subset = planned.partitions_subset
    keys = [planned.partition] if subset is None else list(subset.get_partition_keys())
    return {(planned.asset_key, _index(stream, key)) for key in keys}


def _index(stream: Stream, partition: str | None) -> int | None:
    """A slice's index; ``None`` of what has no slices, or if the stream was declared otherwise since."""
    with suppress(DeclarationError):
        return None if partition is None else stream.slice_of(partition).index
    return None


def _made(
    stream: Stream, instance: dg.DagsterInstance, key: dg.AssetKey, often: dict[Unit, list[Failure]]
) -> dict[int | None, datetime]:
    """When each slice of an asset was made last, of those that failed; under ``None``, when any of it was."""
    mine = {index: failures for (of, index), failures in often.items() if of == key}
    after = min(failures[0].at for failures in mine.values()).timestamp()
    keys = [stream.slice_at(index).key for index in mine if index is not None]
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=after, asset_partitions=keys)
    newest = dg.AssetRecordsFilter(asset_key=key, after_timestamp=after)
    records = [*instance.fetch_materializations(newest, limit=1).records]
    if keys:
        records += instance.fetch_materializations(wanted, limit=MOST_EVENTS).records
    made: dict[int | None, datetime] = {None: moment(records[0].timestamp)} if records else {}
    for record in sorted(records, key=lambda one: one.timestamp):
        if record.partition_key is not None:
            made[_index(stream, record.partition_key)] = moment(record.timestamp)
    return made


def _alert(stream: Stream, step: str, units: dict[Unit, list[Failure]]) -> Alert:
    newest = max((failures[0] for failures in units.values()), key=lambda one: one.at)
    first, *others = sorted({key.to_user_string() for key, _ in units})
    times = max(len(failures) for failures in units.values())
    more = f", and {len(others)} more assets of step {step}" if others else ""
    return Alert(
        kind="run_failed_twice",
        asset=first,
        since=min(failures[-TIMES].at for failures in units.values()),
        says=sentence_of(f"{first}{more} failed in {times} runs: {newest.says}"),
        do=f"look at the run; what it says to do, or {RED}",
        slices=in_words(stream, [index for _, index in units if index is not None]),
        run=newest.run,
        step=step,
    )
