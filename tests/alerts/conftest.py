"""Alerts in tests: a webhook on loopback, an instance on disk, a daemon of one sensor, and a log that can fail.

Belongs here: fixtures and what tests share. Not here: what a test expects.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import exfm_assets.assets.stream as stream_assets
from exfm.alerts import Alerts
from exfm.atomic_write import write_text
from exfm_assets.definitions import build_defs
from pipeline.streams.reader import LogRead
from pipeline.workspace import Workspace
from tests.alerts.receiver import Receiver, receiving
from tests.tiny import tiny_workspace

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
    read_sound_log = stream_assets.read_sound_log_in_parts

    def set_to(loses: bool = False, raises: Exception | None = None) -> None:
        def read(*arguments: Any) -> Iterator[LogRead]:
            if raises is not None:
                raise raises
            for part in read_sound_log(*arguments):
                yield LogRead(part.frame.tail(-1), part.quarantine, part.rows_read) if loses else part

        monkeypatch.setattr(stream_assets, "read_sound_log_in_parts", read)

    yield set_to


def forget(work: Workspace, slice_key: str) -> None:
    """Or the bad slice would stand: it was made of what is in the log."""
    shutil.rmtree(work.state.table("impressions") / work.project.stream.slice_of(slice_key).folder)


def news(receiver: Receiver) -> list[tuple[str, str, str | None]]:
    """State, kind and check or step of all that was taken, a line each."""
    alerts = [alert for body in receiver.taken for alert in body["alerts"]]
    return [(alert["state"], alert["kind"], alert["check"] or alert["step"]) for alert in alerts]


def long_after(work: Workspace) -> Any:
    return replace(work.project.stream, until=work.project.stream.first_slice + timedelta(days=30))
