"""Which runs are alive: each holds a lock that the kernel lets go when its process ends, however it ends.

Belongs here: those locks, ending the runs of dead processes, and freeing the pool slots that they held.
Not here: how a run executes (executor.py), where the instance keeps its tables (storage.py).

A process that is killed (``kill -9``, out of memory, power) can't say that its run is over. Dagster then shows the run
as started for ever, and its pool slots stay claimed, so every later run waits for them.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    MAX_RETRIES_TAG,
    PARTITION_NAME_TAG,
)

from exfm.declaration import digest

FOLDER = "running"
# A run takes its lock milliseconds after it says that it started; one without a lock for so long never will.
GRACE_SECONDS = 30.0
MOST_RESTARTS = 5  # of a run whose process died again and again, as when the machine's memory is too small for it
AUTOMATED, DIED_TAG = "dagster/from_automation_condition", "exfm/died"
# One that was launched takes so long at most to begin; Dagster's own limit is longer, and makes it a failed one.
START_SECONDS = 120.0
_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class RunLocks:
    """The locks of an instance's runs on this machine: one file a run, ``<folder>/<run id>.lock``."""

    folder: Path

    @classmethod
    def of(cls, instance: dg.DagsterInstance) -> "RunLocks":
        return cls(Path(instance.root_directory) / FOLDER)

    def path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.lock"

    @contextmanager
    def held(self, run_id: str) -> Iterator[None]:
        """Hold a run's lock. Its file names the holder, and at the end says so: Dagster hears a moment later of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(run_id)
        with path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            holder: dict[str, object] = {"pid": os.getpid(), "run": run_id}
            _write(file, holder)
            try:
                yield
            finally:
                _write(file, {**holder, "over": time.time()})

    def is_alive(self, run_id: str) -> bool | None:
        """Does a process hold the run's lock? ``None``: the run has none on this machine."""
        try:
            with self.path(run_id).open("rb") as file:
                return not _try_lock(file.fileno())
        except FileNotFoundError:
            return None

    def over_since(self, run_id: str) -> float | None:
        """When its holder let the run's lock go itself (seconds since 1970), ``None`` if it did not."""
        try:
            over = json.loads(self.path(run_id).read_text(encoding="utf-8")).get("over")
            return float(over) if over is not None else None
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def remove_finished(self, instance: dg.DagsterInstance) -> None:
        """Remove the files of runs that Dagster knows to be over."""
        for path in self.folder.glob("*.lock"):
            run = instance.get_run_by_id(path.stem)
            if (run is None or run.is_finished) and not self.is_alive(path.stem):
                path.unlink(missing_ok=True)

    def run_of(self, pid: int) -> str | None:
        """The run that a process executes, ``None`` if it executes none (yet)."""
        for path in self.folder.glob("*.lock"):
            try:
                owner = json.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                continue  # gone, or just being written
            if owner["pid"] == pid and "over" not in owner and self.is_alive(owner["run"]):
                return str(owner["run"])
        return None

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process is ending dead runs right now; if so, no other will meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "ending").open("a") as file:
            yield _try_lock(file.fileno())


def _write(file: IO[str], holder: Mapping[str, object]) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose process is gone and free the pool slots of all that ended; one sentence for each.

    One from a terminal, of the automation, or of a backfill is reported as cancelled: its user starts it again, or the
    automation finds its slices missing. Another that Dagster's daemon launched is reported as failed, which makes the
    daemon start it again.
    """
    locks = RunLocks.of(instance)
    with locks.alone() as alone:
        if not alone:
            return []
        messages = [
            _end(instance, locks, record) for record in _unfinished(instance) if _is_dead(instance, locks, record)
        ]
        _free_slots(instance)
        locks.remove_finished(instance)
        return messages


def _unfinished(instance: dg.DagsterInstance) -> list[RunRecord]:
    return list(instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)))


def _is_dead(instance: dg.DagsterInstance, locks: RunLocks, record: RunRecord) -> bool:
    run_id = record.dagster_run.run_id
    alive = locks.is_alive(run_id)
    if not alive and (over := locks.over_since(run_id)) is not None:
        return time.time() - over > GRACE_SECONDS  # it ended, and was killed before it could say so
    if alive is None:
        # Without a lock of its own: killed before it took it, or begun by a version that had none. Only where the
        # instance is one machine's own; on a shared one it may well run elsewhere.
        began = record.start_time or record.create_timestamp.timestamp()
        is_launched = record.dagster_run.status == dg.DagsterRunStatus.STARTING
        return is_local(instance) and time.time() - began > (START_SECONDS if is_launched else GRACE_SECONDS)
    return not alive


def is_local(instance: dg.DagsterInstance) -> bool:
    """Does the instance keep its tables in files of this machine?"""
    return isinstance(instance.run_storage, SqliteRunStorage)


def _end(instance: dg.DagsterInstance, locks: RunLocks, record: RunRecord) -> str:
    run = record.dagster_run
    message = f"run {run.run_id[:8]} was left by a process that is gone (killed?)"
    if run.remote_job_origin is None:
        instance.report_run_canceled(run, f"{message}: start it again")
        message = f"{message}: it is over, what it stored stays"
    elif AUTOMATED in run.tags and (died := _died(instance, run)) < MOST_RESTARTS:
        # What was cancelled is missing or out of date, and the automation asks for it. A failed run would be started
        # again by the daemon; if that is killed before it does, nobody ever would, for a failed slice is left alone.
        instance.add_run_tags(run.run_id, {DIED_TAG: _work_of(run)})
        instance.report_run_canceled(run, f"{message}: the automation asks for its slices again")
        message = f"{message}: it is over; the automation asks for its slices again ({died + 1} times now)"
    elif BACKFILL_ID_TAG in run.tags or AUTOMATED in run.tags:
        # Dagster 1.13 may close a backfill before it starts the run again, and then never does.
        remedy = f"it died {MOST_RESTARTS} times" if AUTOMATED in run.tags else "start its backfill again"
        end = instance.report_run_failed if AUTOMATED in run.tags else instance.report_run_canceled
        end(run, f"{message}: {remedy}")
        message = f"{message}: it is over; {remedy}"
    else:
        group = instance.get_run_group(run.run_id)
        died = len(list(group[1])) if group is not None else 1
        if died <= MOST_RESTARTS:
            instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: str(died)})
        instance.report_run_failed(run, f"{message}: {'it is started again' if died <= MOST_RESTARTS else 'too often'}")
        message = f"{message}: it is over, and the daemon starts it again"
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    locks.path(run.run_id).unlink(missing_ok=True)
    return message


def _work_of(run: dg.DagsterRun) -> str:
    """A digest of what a run was to make, to tell how often that died."""
    slices = [run.tags.get(name) for name in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG)]
    return digest(sorted(key.to_user_string() for key in run.asset_selection or ()), slices)


def _died(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """How many of the last runs for the same died as well, within an hour."""
    recent = datetime.now(UTC) - timedelta(hours=1)
    same = dg.RunsFilter(tags={DIED_TAG: _work_of(run)}, created_after=recent)
    return len(instance.get_run_records(same))


def _free_slots(instance: dg.DagsterInstance) -> None:
    """Slots of runs that are over: a process that was killed between its last event and its last claim."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    holders = {slot.run_id for pool in storage.get_concurrency_keys() for slot in _slots(instance, pool)}
    for run_id in holders | storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)


def _slots(instance: dg.DagsterInstance, pool: str) -> list:
    return list(instance.event_log_storage.get_concurrency_info(pool).claimed_slots)


def holders_of(instance: dg.DagsterInstance, pool: str) -> str:
    """Who holds a pool's slots, for a person: ``step teacher_large of run 1a2b3c4d``."""
    held = [f"step {slot.step_key} of run {slot.run_id[:8]}" for slot in _slots(instance, pool)]
    return " and ".join(held) or "nobody"
