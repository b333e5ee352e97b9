"""A live stream, left alone with the daemon: it keeps up, no run fails, and it makes good what befalls it.

A slice lands late, another is corrected, a column turns null (drift), and the gate of a student passes nothing.

EXFM_LIVE_FOR=30 EXFM_LIVE_MINUTES=2 pytest -m slow tests/graph/test_live.py     (default: 10 minutes, slices of one)
"""

import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from exfm.state import State
from exfm.stream import Slice
from exfm_assets import metadata_keys as keys
from exfm_assets.assets.students import PROGRESS
from exfm_assets.definitions import build_defs
from pipeline.releases.release import current_release
from pipeline.releases.verdict import REFUSED, verdict_of
from pipeline.workspace import Workspace
from tests.graph.live import BROKEN, CORRECTED, LATE, SLICE, Writer, live_project
from tests.graph.processes import environment, instance_of, kill_session, members, ui, wait_until, with_signal
from tests.graph.test_kills import free_port

MINUTES = int(os.environ.get("EXFM_LIVE_FOR", "10"))
# What ended so long ago is through: labels close a slice later, and a tick, a queue and a few runs take their time.
MARGIN = SLICE + timedelta(seconds=150)
Made = dict[tuple[str, str], list[datetime]]  # asset, slice -> when it was made, not merely looked at


def made_by(work: Workspace, instance: dg.DagsterInstance) -> Made:
    """When each slice of each asset was made; what sums a slice up is made again as it grows."""
    made: Made = {}
    for spec in build_defs(work).resolve_all_asset_specs():
        if spec.partitions_def is None or spec.key == PROGRESS:
            continue
        for record in instance.fetch_materializations(spec.key, limit=10_000).records:
            event = record.asset_materialization
            assert event is not None and event.partition is not None
            if not event.metadata.get(keys.REUSED, dg.MetadataValue.bool(False)).value:
                at = datetime.fromtimestamp(record.timestamp, UTC)
                made.setdefault((spec.key.to_user_string(), event.partition), []).append(at)
    return made


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_a_live_stream_left_alone_is_kept_up_with(tmp_path: Path) -> None:
    since = datetime.now(UTC).replace(second=0, microsecond=0)
    log = tmp_path / "log"
    log.mkdir()
    surroundings = environment(
        tmp_path, "tests.graph.live:PROJECT", EXFM_DATA=str(log),
        EXFM_LIVE_SINCE=since.replace(tzinfo=None).isoformat(), EXFM_LIVE_MINUTES=str(SLICE // timedelta(minutes=1)),
        DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="120",
    )  # fmt: skip
    work = Workspace(live_project(since), State(folder=tmp_path / "live", log=log))
    writer = Writer(work.project, log)
    writer.start()
    process = ui(surroundings, free_port(), tmp_path / "ui.log")
    try:
        time.sleep(max((since + timedelta(minutes=MINUTES) - datetime.now(UTC)).total_seconds(), 0))
        with instance_of(surroundings) as instance:
            assert_kept_up(work, instance, datetime.now(UTC))
            assert_made_good(work, instance, writer)
            assert_drift_asked(work, instance)
        assert_refused(work)
    finally:
        writer.stop()
        with_signal(process.pid, signal.SIGTERM)
        wait_until(lambda: not members(process.pid), 60)
        kill_session(process)


def assert_kept_up(work: Workspace, instance: dg.DagsterInstance, looked_at: datetime) -> None:
    """No failed run; every slice that ended is filled, judged, drift checked."""
    runs, stream = instance.get_runs(), work.project.stream
    statuses = Counter(run.status.value for run in runs)
    print(f"slices of {SLICE}: runs {dict(statuses)}")
    assert not (failed := [why(instance, run) for run in runs if run.status.value in ("FAILURE", "CANCELED")]), failed
    assert not instance.get_backfills()
    ended = [slice_ for slice_ in stream.slices(stream.first_slice, looked_at) if slice_.end < looked_at - MARGIN]
    assert_filled(work, ended)
    assert len(instance.fetch_materializations(dg.AssetKey("drift_report"), limit=1000).records) > 1


def why(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What failed in a run, in its own words."""
    of = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
    records = instance.get_records_for_run(run.run_id, of_type=of).records
    events = [record.event_log_entry.dagster_event for record in records]
    said = [f"{event.step_key}: {event.event_specific_data} {event.message}" for event in events if event is not None]
    return f"{run.run_id} {run.tags}\n" + "\n".join(said)


def assert_filled(work: Workspace, ended: list[Slice]) -> None:
    """Every slice that ended long ago is stored, labelled, scored and judged."""
    assert len(ended) > 2
    for name in ("impressions", "outcomes", "interactions", "labels", "logged_inputs"):
        missing = [slice_.key for slice_ in ended if not work.table(name).rows(slice_)]
        assert not missing, (name, missing)
    for student in work.project.students:
        judged = {slice_.key for slice_ in work.evaluations(student.name).stored(work.project.stream)}
        assert not (missing := [slice_.key for slice_ in ended if slice_.key not in judged]), (student.name, missing)


def assert_made_good(work: Workspace, instance: dg.DagsterInstance, writer: Writer) -> None:
    """The late and the corrected slice are made again, once each, and what hangs on them; nothing else is."""
    stream, made = work.project.stream, made_by(work, instance)
    for index in range(BROKEN - 1):
        times = len(made["impressions", stream.slice_at(index).key])
        assert times == 1 or (times == 2 and index in (LATE, CORRECTED))  # a slow daemon saw it once, as it is now
    # Outcomes of a slice may come in the next one, and models learn again what they had learnt by then.
    reached = {stream.slice_at(index).key for index in range(LATE, BROKEN + 2)}
    again = {of: times for of, times in made.items() if len(times) > 1 + 2 * (of[1] in reached)}
    assert not again, again
    assert writer.filled_at is not None
    late = stream.slice_at(LATE).key
    for asset in ("labels", "logged_inputs", "teacher/large/checkpoint", "student/feed_convert/checkpoint"):
        after = [at for at in made[asset, late] if at > writer.filled_at]
        assert after, (asset, made[asset, late])
        print(f"{asset} of the late slice made good {(min(after) - writer.filled_at).total_seconds():.0f} s after it")


def assert_drift_asked(work: Workspace, instance: dg.DagsterInstance) -> None:
    """The broken column is seen, and the student, which nothing else refreshes, has learnt from it."""
    (student, _), stream = work.project.students, work.project.stream
    folder = work.state.checkpoints(f"student/{student.name}")

    def learnt() -> list[int]:
        ended = stream.slices(stream.first_slice, datetime.now(UTC))
        return [slice_.index for slice_ in ended if (folder / slice_.folder).is_dir()]

    # On a busy machine labels, the report and the run that it asks for take longer.
    wait_until(lambda: max(learnt()) >= BROKEN, 300, every=5.0)
    trained = learnt()
    key = dg.AssetCheckKey(dg.AssetKey("drift_report"), f"drift_student_{student.name}")
    checks = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    assert len(checks) > 1
    assert any(check.status.value == "FAILED" for check in checks)
    released = current_release(work, student)
    assert released is not None
    print(f"{student.name}: trained {trained}, serves {stream.slice_of(released.slice).index}")
    assert max(trained) >= BROKEN


def assert_refused(work: Workspace) -> None:
    """The gate that passes nothing says why, and nothing is served."""
    student = work.project.students[1]
    verdict = verdict_of(work, student)
    assert verdict.outcome == REFUSED and "worse than the -90 % that the gate allows" in verdict.reason
    assert current_release(work, student) is None
