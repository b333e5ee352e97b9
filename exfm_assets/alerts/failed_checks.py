"""Checks that alert: those that failed on slices on which they have not passed since.

Belongs here: reading what Dagster recorded of checks. Not here: what a check looks at (checks.py of exfm_assets).

The newest execution alone would say that all is well again as soon as the check passes on another slice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from exfm.stream import Stream
from exfm_assets.alerts.alert import RED, Alert, moment, sentence_of
from exfm_assets.alerts.slices import in_words, slices_of_run
from exfm_assets.checks import Check, declared
from pipeline.workspace import Workspace

RECENT = timedelta(days=1)  # an older failure counts only if the check was not looked at since
MOST_FAILED, MOST_PASSED = 50, 1_000  # executions of a check that are read


@dataclass(frozen=True)
class Looked:
    """One execution of a check.

    Args:
        slices: indices of those that it looked at; ``None``: all that was stored.
    """

    passed: bool
    at: datetime
    slices: frozenset[int] | None
    says: str | None
    run: str


def failed_checks(work: Workspace, instance: dg.DagsterInstance, *, warnings: bool = False) -> Iterator[Alert]:
    """One alert a check; with those that only warn, if asked for."""
    for check in declared(work.project):
        if check.severity != dg.AssetCheckSeverity.ERROR and not warnings:
            continue
        standing = still_failed(_history(instance, work.project.stream, check))
        if standing:
            yield _alert(check, standing, work.project.stream)


def still_failed(history: Iterable[Looked]) -> list[Looked]:
    """Failures that nothing passed since, each with the slices that are left of it.

    Args:
        history: newest first.
    """
    standing: list[Looked] = []
    passed: set[int] = set()
    passed_once = False
    for look in history:
        if look.passed and look.slices is None:
            break
        if look.passed:
            passed |= look.slices or set()
            passed_once = True
        elif look.slices is None:
            standing += [] if passed_once else [look]
        elif left := look.slices - passed:
            standing.append(Looked(False, look.at, left, look.says, look.run))
    return standing


def _history(instance: dg.DagsterInstance, stream: Stream, check: Check) -> list[Looked]:
    """Newest first; empty where nothing failed lately, for most checks never fail, and each is asked at each tick."""
    storage, key = instance.event_log_storage, dg.AssetCheckKey(check.asset, check.name)
    failed = storage.get_asset_check_execution_history(key, limit=MOST_FAILED, status={Status.FAILED})
    if not failed:
        return []
    passed = storage.get_asset_check_execution_history(key, limit=MOST_PASSED, status={Status.SUCCEEDED})
    newest = max([*failed, *passed], key=lambda record: record.id)
    recent = datetime.now(UTC) - RECENT
    failed = [record for record in failed if record is newest or moment(_at(record)) >= recent]
    if not failed:
        return []
    oldest = min(record.id for record in failed)
    records = sorted([*failed, *(record for record in passed if record.id > oldest)], key=lambda one: -one.id)
    slices = _slices_of(instance, stream, records) if check.severity == dg.AssetCheckSeverity.ERROR else {}
    return [_looked(record, slices.get(record.run_id)) for record in records]


def _slices_of(
    instance: dg.DagsterInstance, stream: Stream, records: Iterable[AssetCheckExecutionRecord]
) -> dict[str, frozenset[int] | None]:
    """By run. What only warns looks at all that is stored, so of that the newest look counts."""
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted({record.run_id for record in records})))
    return {run.run_id: slices_of_run(stream, run) for run in runs}


def _looked(record: AssetCheckExecutionRecord, slices: frozenset[int] | None) -> Looked:
    says = record.evaluation.description if record.evaluation is not None else None
    return Looked(record.status == Status.SUCCEEDED, moment(_at(record)), slices, says, record.run_id)


def _at(record: AssetCheckExecutionRecord) -> float:
    return record.event.timestamp if record.event is not None else record.create_timestamp


def _alert(check: Check, standing: list[Looked], stream: Stream) -> Alert:
    slices = frozenset[int]().union(*(look.slices or () for look in standing))
    newest = standing[0]
    return Alert(
        kind="check_failed",
        asset=check.asset.to_user_string(),
        check=check.name,
        since=min(look.at for look in standing),
        says=sentence_of(newest.says or f"it does not hold that {check.description}"),
        do=RED,
        slices=in_words(stream, slices),
        run=newest.run,
    )
