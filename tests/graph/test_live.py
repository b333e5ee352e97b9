"""A live stream, left alone with the daemon: it keeps up, and no run fails.

EXFM_LIVE_FOR=30 EXFM_LIVE_MINUTES=2 pytest -m slow tests/graph/test_live.py     (default: 7 minutes, slices of one)
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
from exfm_assets.assets.students import PROGRESS
from exfm_assets.definitions import build_defs
from pipeline.releases.release import current_release
from pipeline.workspace import Workspace
from tests.graph.live import SLICE, live_project
from tests.graph.processes import environment, instance_of, kill_session, members, ui, wait_until, with_signal
from tests.graph.test_kills import free_port

MINUTES = int(os.environ.get("EXFM_LIVE_FOR", "7"))
# What ended so long ago is through: labels close a slice later, and a tick, a queue and a few runs take their time.
MARGIN = SLICE + timedelta(seconds=150)


def asked_for(work: Workspace, runs: list[dg.DagsterRun]) -> Counter[tuple[str, str]]:
    """How often each slice of each asset was asked for; what sums a slice up is made again as it grows."""
    sliced = {
        spec.key for spec in build_defs(work).resolve_all_asset_specs()
        if spec.partitions_def is not None and spec.key != PROGRESS
    }  # fmt: skip
    counted: Counter[tuple[str, str]] = Counter()
    for run in runs:
        first = run.tags.get("dagster/asset_partition_range_start", run.tags.get("dagster/partition"))
        last = run.tags.get("dagster/asset_partition_range_end", first)
        if first is None or last is None:
            continue
        for slice_ in work.project.stream.slices_between(first, last):
            counted.update((key.to_user_string(), slice_.key) for key in sliced & (run.asset_selection or set()))
    return counted


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_a_live_stream_left_alone_is_kept_up_with(tmp_path: Path) -> None:
    since = datetime.now(UTC).replace(second=0, microsecond=0)
    surroundings = environment(
        tmp_path, "tests.graph.live:PROJECT",
        EXFM_LIVE_SINCE=since.replace(tzinfo=None).isoformat(), EXFM_LIVE_MINUTES=str(SLICE // timedelta(minutes=1)),
        DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="120",
    )  # fmt: skip
    folder = tmp_path / "live"
    work = Workspace(live_project(since), State(folder=folder, log=folder / "log"))
    process = ui(surroundings, free_port(), tmp_path / "ui.log")
    try:
        time.sleep(max((since + timedelta(minutes=MINUTES) - datetime.now(UTC)).total_seconds(), 0))
        with instance_of(surroundings) as instance:
            assert_kept_up(work, instance, datetime.now(UTC))
    finally:
        with_signal(process.pid, signal.SIGTERM)
        wait_until(lambda: not members(process.pid), 60)
        kill_session(process)


def assert_kept_up(work: Workspace, instance: dg.DagsterInstance, looked_at: datetime) -> None:
    """No failed run, nothing asked for twice, every slice that ended filled, judged, released, drift checked."""
    runs, stream = instance.get_runs(), work.project.stream
    drift = dg.AssetKey("drift_report")
    drifts = instance.fetch_materializations(drift, limit=1000).records
    key = dg.AssetCheckKey(drift, f"drift_student_{work.project.students[0].name}")
    checks = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    statuses = Counter(run.status.value for run in runs)
    print(f"slices of {SLICE}: runs {dict(statuses)}, drift reports {len(drifts)}, drift checks {len(checks)}")
    assert not statuses.keys() & {"FAILURE", "CANCELED"}, [run.run_id for run in runs if run.status.value == "FAILURE"]
    assert_filled(
        work, [slice_ for slice_ in stream.slices(stream.first_slice, looked_at) if slice_.end < looked_at - MARGIN]
    )
    again = {requested: times for requested, times in asked_for(work, runs).items() if times > 1}
    assert not again, again
    assert len(drifts) > 1 and len(checks) > 1


def assert_filled(work: Workspace, ended: list[Slice]) -> None:
    """Every slice that ended long ago is stored, labelled, scored and judged, and the newest is close to release."""
    assert len(ended) > 2
    for name in ("impressions", "outcomes", "interactions", "labels", "logged_inputs"):
        missing = [slice_.key for slice_ in ended if not work.table(name).rows(slice_)]
        assert not missing, (name, missing)
    for student in work.project.students:
        judged = {slice_.key for slice_ in work.evaluations(student.name).stored(work.project.stream)}
        assert not (missing := [slice_.key for slice_ in ended if slice_.key not in judged]), (student.name, missing)
        released = current_release(work, student)
        assert released is not None, student.name
        print(student.name, "released", released.slice, "of slices until", ended[-1].key)
        behind = [slice_.key for slice_ in ended if slice_.key > released.slice]
        # A student is refreshed when its release is as old as its policy says, and then it trains and is judged.
        assert len(behind) <= student.freshness.warn // SLICE + 2 + student.gate.slices, (student.name, behind)
