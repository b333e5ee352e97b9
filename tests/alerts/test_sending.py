"""What the sensor ``alerts`` sends and never shows, where it is declared otherwise, and the command."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from exfm.alerts import Alerts
from exfm_assets.alerts import command
from exfm_assets.alerts.alert import Book
from exfm_assets.definitions import build_defs
from pipeline.workspace import Workspace
from tests.alerts.conftest import Daemon, long_after, news
from tests.alerts.receiver import SECRET, Receiver
from tests.tiny import tiny_project, tiny_workspace


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
