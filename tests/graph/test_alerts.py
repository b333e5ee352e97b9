"""The sensor ``alerts``, with real runs and a webhook on loopback: what it says, when, and that nothing gets lost."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.test_utils import create_run_for_test

import exfm_assets.assets.stream as stream_assets
from exfm.alerts import Alerts
from exfm.atomic_write import write_text
from exfm_assets.alerts import command
from exfm_assets.alerts.alert import Book
from exfm_assets.definitions import build_defs
from pipeline.upkeep.ages import ages
from pipeline.workspace import Workspace
from tests.graph.receiver import SECRET, Receiver, receiving
from tests.graph.runs import run
from tests.tiny import tiny_project, tiny_workspace

FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"
LOG = 'key:"simulated_log" or key:"impressions"'


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as opened:
        yield opened


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with receiving() as opened:
        monkeypatch.setenv("EXFM_ALERTS_WEBHOOK", opened.url)
        yield opened


class Daemon:
    """Ticks the sensor as Dagster's daemon does, which keeps the cursor and nothing else."""

    def __init__(self, work: Workspace, instance: dg.DagsterInstance, **declared: Any) -> None:
        self.work = replace(work, project=replace(work.project, alerts=Alerts(**declared)))
        self.instance, self.cursor = instance, None
        self.start()

    def start(self) -> None:
        (self.sensor,) = (sensor for sensor in build_defs(self.work).sensors or () if sensor.name == "alerts")

    def tick(self) -> str:
        """What the tick says of itself."""
        context = dg.build_sensor_context(
            self.instance, self.cursor, sensor_name="alerts", resources={"work": self.work}
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return str(data.skip_message)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """Students that are young enough, so that nothing is stale."""
    work = tiny_workspace(tmp_path)
    for student in work.project.students:
        serves(work, student.name, "2026-01-04")
    return work


def serves(work: Workspace, student: str, slice_key: str) -> None:
    end = work.project.stream.slice_of(slice_key).end.isoformat()
    released = {"version": f"planted-{slice_key}", "slice": slice_key, "trained_until": end, "released_at": end}
    write_text(work.state.release(student) / "current.json", json.dumps(released))


@pytest.fixture
def log_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Lets reading the log lose a row, raise, or work again."""
    read_sound_log = stream_assets.read_sound_log

    def set_to(loses: bool = False, raises: Exception | None = None) -> None:
        def read(*arguments: Any) -> Any:
            if raises is not None:
                raise raises
            whole = read_sound_log(*arguments)
            return type(whole)(whole.frame.tail(-1), whole.quarantine, whole.rows_read) if loses else whole

        monkeypatch.setattr(stream_assets, "read_sound_log", read)

    yield set_to


def forget(work: Workspace, slice_key: str) -> None:
    """Or the bad slice would stand: it was made of what is in the log."""
    shutil.rmtree(work.state.table("impressions") / work.project.stream.slice_of(slice_key).folder)


def news(receiver: Receiver) -> list[tuple[str, str, str | None]]:
    """State, kind and check or step of all that was taken, a line each."""
    alerts = [alert for body in receiver.taken for alert in body["alerts"]]
    return [(alert["state"], alert["kind"], alert["check"] or alert["step"]) for alert in alerts]


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


def long_after(work: Workspace) -> Any:
    return replace(work.project.stream, until=work.project.stream.first_slice + timedelta(days=30))


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
    assert served["says"].startswith("its data ends 2026-01-05 00:00, ") and "behind the stream" in served["says"]
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


def test_checks_that_only_warn_are_said_if_asked_for(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    def look(passed: bool) -> None:
        evaluation = dg.AssetCheckEvaluation(
            dg.AssetKey("drift_report"), "drift_student_feed_click", passed=passed, metadata={},
            severity=dg.AssetCheckSeverity.WARN, description="NE rose by 9 %",
        )  # fmt: skip
        instance.report_runless_asset_event(evaluation)

    look(passed=False)
    Daemon(work, instance).tick()
    assert not receiver.taken
    daemon = Daemon(work, instance, warnings=True)
    daemon.tick()
    assert news(receiver) == [("begins", "check_failed", "drift_student_feed_click")]
    assert receiver.taken[0]["alerts"][0]["says"] == "NE rose by 9 %"
    look(passed=True)
    daemon.tick()
    assert news(receiver)[1:] == [("resolved", "check_failed", "drift_student_feed_click")]


def test_no_log_has_more_of_the_url_than_its_host(
    work: Workspace, instance: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    daemon, said = Daemon(work, instance), []
    daemon.work = replace(daemon.work, project=replace(daemon.work.project, stream=long_after(daemon.work)))
    caplog.set_level("DEBUG")
    for receiver.status in (500, 404, 302, 307):
        said.append(daemon.tick())
        assert said[-1].startswith(f"127.0.0.1 answered with HTTP status {receiver.status}: ")
    assert not receiver.taken
    odd = ("ftp://127.0.0.1/{0}", "127.0.0.1/{0}", "http://127.0.0.1:x/{0}", "http:///{0}", "http://127.0.0.1/{0} {0}",
           "http://{0}:{0}@127.0.0.1/", "http://127.0.0.1/{0}\x01", "http://[{0}", "http://127.0.0.1/{0}ü")  # fmt: skip
    for url in odd:
        monkeypatch.setenv("EXFM_ALERTS_WEBHOOK", url.format(SECRET))
        said.append(daemon.tick())
        assert said[-1] == (
            "EXFM_ALERTS_WEBHOOK is not an http or https URL, so no alert is sent: set it to the webhook's"
        ), url
    monkeypatch.setenv("EXFM_ALERTS_WEBHOOK", f"http://{'a' * 70}.invalid/{SECRET}")  # no label of a host is so long
    said.append(daemon.tick())
    assert "can't be reached: UnicodeError" in said[-1]
    receiver.close()
    monkeypatch.setenv("EXFM_ALERTS_WEBHOOK", receiver.url)
    said.append(daemon.tick())
    assert "Connection refused" in said[-1]
    out, err = capfd.readouterr()
    for text in (*said, out, err, caplog.text, daemon.cursor or ""):
        assert SECRET not in text


def test_without_a_url_it_says_which_variable_is_not_set(
    work: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEAM_WEBHOOK", raising=False)
    said = Daemon(work, instance, webhook_env="TEAM_WEBHOOK").tick()
    assert said == "TEAM_WEBHOOK is not set, so no alert is sent: set it to the URL of the webhook"


def test_there_is_a_sensor_only_where_alerts_are_declared_and_it_is_on(tmp_path: Path) -> None:
    for declared in (None, Alerts()):
        sensors = build_defs(tiny_workspace(tmp_path, tiny_project(alerts=declared))).sensors or ()
        mine = [sensor for sensor in sensors if sensor.name == "alerts"]
        assert [sensor.default_status for sensor in mine] == [dg.DefaultSensorStatus.RUNNING] * (declared is not None)


@pytest.mark.parametrize("cursor", ["", "nonsense", "{}", '{"alerts": 1}', "[1]", '[{"alert": {}}]', "3"])
def test_a_cursor_that_somebody_wrote_by_hand_is_an_empty_book(cursor: str) -> None:
    assert Book.read(cursor) == Book({})


def test_the_command_prints_what_alerts_and_sends_a_test(
    work: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXFM_PROJECT", "tests.tiny:PROJECT")
    monkeypatch.setenv("EXFM_STATE", str(work.state.folder.parent))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert command.main([]) == 0 and capsys.readouterr().out == "nothing alerts\n"
    assert command.main(["--send"]) == 2 and "declare alerts=Alerts(...)" in capsys.readouterr().out
    project = tiny_project(alerts=Alerts(), stream=long_after(work))
    monkeypatch.setattr("tests.tiny.PROJECT", project)
    assert command.main([]) == 1
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("student/feed_click/release is stale, since 2026-01-") and "To do: `exfm status`" in first
    assert command.main(["--send"]) == 0
    assert capsys.readouterr().out == "127.0.0.1 took a test message (HTTP status 200)\n"
    assert news(receiver) == [("begins", "test", None)]
    receiver.status = 403
    assert command.main(["--send"]) == 2 and "127.0.0.1 answered with HTTP status 403" in capsys.readouterr().out
