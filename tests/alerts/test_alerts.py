"""The sensor ``alerts``, with real runs and a webhook on loopback: what it says, when, and that nothing gets lost."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.test_utils import create_run_for_test

from pipeline.upkeep.ages import ages
from pipeline.workspace import Workspace
from tests.alerts.conftest import FIRST, LOG, SECOND, THIRD, Daemon, forget, long_after, news, serves
from tests.alerts.receiver import Receiver
from tests.graph.runs import run


def test_a_failed_check_is_said_once_and_once_more_when_it_passed_on_the_same_slice(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver, log_read: Callable[..., None]
) -> None:
    daemon = Daemon(work, instance, ui="http://localhost:3000/")
    assert daemon.tick() == "0 alerts last, 0 were said now" and not receiver.taken
    log_read(loses=True)
    assert not run(work, FIRST, FIRST, LOG, instance).success
    assert daemon.tick() == "1 alerts last, 1 were said now"
    ((alert,),) = (body["alerts"] for body in receiver.taken)
    assert alert["asset"] == "impressions" and alert["check"] == "rows_kept" and alert["slices"] == FIRST
    assert "rows" in alert["says"] and alert["until"] is None and "When something is red" in alert["do"]
    assert alert["link"] == "http://localhost:3000/assets/impressions?view=checks&checkDetail=rows_kept"
    since = datetime.fromisoformat(alert["since"])
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(minutes=5)
    daemon.start()  # the daemon and the code server are other processes now: they have the cursor alone
    assert not run(work, FIRST, FIRST, LOG, instance).success
    assert daemon.tick() == "1 alerts last, 0 were said now"  # its run failed twice, and the check has said why
    log_read()
    assert run(work, SECOND, SECOND, LOG, instance).success
    assert daemon.tick() == "1 alerts last, 0 were said now"  # it passed, but on another slice
    forget(work, FIRST)
    assert run(work, FIRST, FIRST, LOG, instance).success
    assert daemon.tick() == "0 alerts last, 1 were said now"
    assert daemon.tick() == "0 alerts last, 0 were said now"
    assert news(receiver) == [("begins", "check_failed", "rows_kept"), ("resolved", "check_failed", "rows_kept")]
    resolved = receiver.taken[-1]["alerts"][0]
    assert resolved["since"] == alert["since"] and datetime.fromisoformat(resolved["until"]) > since


def test_what_the_webhook_does_not_take_is_sent_again_also_if_it_is_over_by_then(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver, log_read: Callable[..., None]
) -> None:
    daemon, receiver.status = Daemon(work, instance), 500
    log_read(loses=True)
    assert not run(work, FIRST, FIRST, LOG, instance).success
    assert daemon.tick() == "127.0.0.1 answered with HTTP status 500: 1 alerts are sent with the next tick"
    log_read()
    forget(work, FIRST)
    assert run(work, FIRST, FIRST, LOG, instance).success
    daemon.start()
    assert "HTTP status 500" in daemon.tick()
    assert len(receiver.refused) == 2
    receiver.status = 200
    assert daemon.tick() == "0 alerts last, 1 were said now"
    assert news(receiver) == [("resolved", "check_failed", "rows_kept")]
    receiver.close()
    serves(work, "feed_click", FIRST)
    daemon.work = replace(daemon.work, project=replace(daemon.work.project, stream=long_after(daemon.work)))
    assert daemon.tick() == "127.0.0.1 can't be reached: Connection refused: 2 alerts are sent with the next tick"


def test_a_stale_release_is_said_with_its_age_and_since_when(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    daemon = Daemon(work, instance)
    fresh = daemon.work
    daemon.work = replace(fresh, project=replace(fresh.project, stream=long_after(fresh)))
    shutil.rmtree(work.state.release("feed_convert"))
    daemon.tick()
    ((never, served),) = (body["alerts"] for body in receiver.taken)
    assert [served["kind"], served["asset"]] == ["release_stale", "student/feed_click/release"]
    project = daemon.work.project
    limits = project.release_limits(project.student("feed_click"))
    assert datetime.fromisoformat(served["since"]) == datetime(2026, 1, 5, tzinfo=UTC) + limits.fail
    assert served["says"].startswith("its data ends 2026-01-05 00:00 UTC, ") and "behind the stream" in served["says"]
    assert never["says"].startswith("there is none yet, ") and "`exfm status`" in never["do"]
    late = project.stream.until - limits.warn - timedelta(days=2)
    (age,) = [age for age in ages(daemon.work) if age.asset == "student/feed_click/release"]
    assert age.state == "fail"
    serves(daemon.work, "feed_click", late.strftime("%Y-%m-%d"))
    (age,) = [age for age in ages(daemon.work) if age.asset == "student/feed_click/release"]
    assert age.state == "warn"  # older than the machine wants it, and within what was promised
    daemon.tick()
    assert [alert["asset"] for alert in receiver.taken[1]["alerts"]] == ["student/feed_click/release"]
    assert receiver.taken[1]["alerts"][0]["state"] == "resolved"


def test_work_that_failed_in_two_runs_is_said_until_it_is_made(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver, log_read: Callable[..., None]
) -> None:
    daemon = Daemon(work, instance, ui="http://localhost:3000")
    log_read(raises=OSError("the disk is full"))
    assert not run(work, FIRST, SECOND, LOG, instance).success
    daemon.tick()
    assert not run(work, THIRD, THIRD, LOG, instance).success  # the same step, of another slice
    daemon.tick()
    assert not receiver.taken
    # The next attempt leaves out what was made, and takes a slice along that came meanwhile.
    assert not (again := run(work, SECOND, THIRD, 'key:"impressions"', instance)).success
    daemon.tick()
    ((alert,),) = (body["alerts"] for body in receiver.taken)
    assert alert["kind"] == "run_failed_twice" and alert["asset"] == alert["step"] == "impressions"
    assert alert["slices"] == f"{SECOND}...{THIRD}" and "failed in 2 runs: OSError: the disk is full" in alert["says"]
    assert alert["run"] == again.run_id and alert["link"] == f"http://localhost:3000/runs/{again.run_id}"
    log_read()
    assert run(work, SECOND, SECOND, 'key:"impressions"', instance).success
    daemon.tick()
    assert len(receiver.taken) == 1  # the other slice still lacks
    assert run(work, THIRD, THIRD, 'key:"impressions"', instance).success
    daemon.tick()
    assert news(receiver)[1:] == [("resolved", "run_failed_twice", "impressions")]


def test_what_has_no_slices_failed_twice_whatever_slices_its_runs_had(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import feature_repo.store as store

    daemon = Daemon(work, instance)
    with monkeypatch.context() as broken:
        broken.setattr(store, "apply", lambda *_: 1 / 0)
        for day in (FIRST, SECOND):
            assert not run(work, day, day, 'key:"feature_registry"', instance).success
        daemon.tick()
    assert news(receiver) == [("begins", "run_failed_twice", "feature_registry")]
    assert receiver.taken[0]["alerts"][0]["slices"] is None
    assert run(work, FIRST, FIRST, 'key:"feature_registry"', instance).success
    daemon.tick()
    assert news(receiver)[1:] == [("resolved", "run_failed_twice", "feature_registry")]


def test_runs_that_fail_before_any_step_of_theirs_count_as_well(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    """As where the code can't be loaded any more, or a machine is too small for the process."""
    daemon = Daemon(work, instance)
    for _ in range(2):
        assert not receiver.taken
        begun = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
        planned = AssetMaterializationPlannedData(dg.AssetKey("labels"), partition=FIRST)
        event = DagsterEvent.build_asset_materialization_planned_event("job", "labels", planned)
        instance.report_dagster_event(event, begun.run_id)
        instance.report_run_failed(begun)
        daemon.tick()
    assert news(receiver) == [("begins", "run_failed_twice", "labels")]
    assert receiver.taken[0]["alerts"][0]["says"] == "labels failed in 2 runs: the run ended before this step did"
    assert receiver.taken[0]["alerts"][0]["slices"] == FIRST
