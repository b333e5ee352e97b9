"""Dead processes, with the instance of ``dagster.yaml``: their runs end, their slots are free, the state is whole."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from exfm.state import ROOT
from exfm_assets.running import AUTOMATED, MOST_RESTARTS, RunLocks, end_dead_runs, holders_of

BIN = Path(sys.executable).parent
MOMENTS = int(os.environ.get("EXFM_KILLS", "8"))
HOLDER = """
import sys, time
from pathlib import Path
from typing import Any
import dagster as dg
from exfm_assets.running import RunLocks
with dg.DagsterInstance.from_config(sys.argv[1]) as instance, RunLocks.of(instance).held(sys.argv[2]):
    instance.event_log_storage.initialize_concurrency_limit_to_default("gpu")
    instance.event_log_storage.claim_concurrency_slot("gpu", sys.argv[2], "teacher_large")
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A home as ``make run`` writes it where the state is moved."""
    environment = {**os.environ, "EXFM_STATE": str(tmp_path / "state"), "DAGSTER_HOME": ""}
    command = [sys.executable, "-m", "exfm_assets.home"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def instance(home: str) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(home) as opened:
        yield opened


def started(instance: dg.DagsterInstance) -> str:
    """A run that says that it started."""

    @dg.job
    def nothing() -> None: ...

    run = instance.create_run_for_job(nothing)
    instance.report_engine_event("begun", run)
    instance.handle_new_event(_start_event(run))
    return run.run_id


def _start_event(run: dg.DagsterRun):  # type: ignore[no-untyped-def]
    from dagster._core.events import DagsterEvent, DagsterEventType
    from dagster._core.events.log import EventLogEntry

    event = DagsterEvent(event_type_value=DagsterEventType.RUN_START.value, job_name=run.job_name, message="")
    return EventLogEntry(
        error_info=None, level=10, user_message="", run_id=run.run_id, timestamp=time.time(),
        job_name=run.job_name, dagster_event=event,
    )  # fmt: skip


def holding(home: str, run_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, home, run_id]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().strip() == "held"
    return process


def test_a_killed_run_is_ended_and_its_slot_freed(home: str, instance: dg.DagsterInstance) -> None:
    run_id = started(instance)
    process = holding(home, run_id)
    try:
        assert end_dead_runs(instance) == []  # it lives
        assert RunLocks.of(instance).run_of(process.pid) == run_id
        assert holders_of(instance, "gpu") == f"step teacher_large of run {run_id[:8]}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (message,) = end_dead_runs(instance)
    assert run_id[:8] in message
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.CANCELED
    assert holders_of(instance, "gpu") == "nobody"
    assert end_dead_runs(instance) == []


def launched(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    """A run that the automation asked for and the daemon launched; its process is gone, its lock lies there."""
    location = RegisteredCodeLocationOrigin("exfm")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "job")
    run = create_run_for_test(
        instance, "job", status=status, remote_job_origin=origin,
        tags={AUTOMATED: "true", "dagster/partition": "2026-01-03"},
        asset_selection=frozenset({dg.AssetKey(["student", "feed_click", "checkpoint"])}),
    )  # fmt: skip
    locks = RunLocks.of(instance)
    locks.folder.mkdir(parents=True, exist_ok=True)
    if status == dg.DagsterRunStatus.STARTED:
        locks.path(run.run_id).write_text("{}")
    return run.run_id


def test_a_run_of_the_automation_that_died_is_asked_for_again_until_it_died_too_often(
    instance: dg.DagsterInstance,
) -> None:
    """Reported as failed, its slices would be left alone; and one whose machine is too small would hot-loop."""
    statuses = []
    for _ in range(MOST_RESTARTS + 1):
        run_id = launched(instance)
        (message,) = end_dead_runs(instance)
        run = instance.get_run_by_id(run_id)
        assert run is not None and run_id[:8] in message
        statuses.append(run.status)
    assert statuses == [*[dg.DagsterRunStatus.CANCELED] * MOST_RESTARTS, dg.DagsterRunStatus.FAILURE]


def test_a_run_whose_daemon_died_while_launching_it_is_asked_for_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster would make it a failed one, and what hangs on it would wait until it is tried again."""
    run_id = launched(instance, dg.DagsterRunStatus.STARTING)
    assert end_dead_runs(instance) == []  # its process may be about to begin
    monkeypatch.setattr("exfm_assets.running.START_SECONDS", -1.0)
    (message,) = end_dead_runs(instance)
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.CANCELED and run_id[:8] in message


def test_a_slot_of_a_run_that_is_over_is_freed(instance: dg.DagsterInstance) -> None:
    run_id = started(instance)
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    assert storage.claim_concurrency_slot("gpu", run_id, "students").is_claimed
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
    end_dead_runs(instance)
    assert holders_of(instance, "gpu") == "nobody"


def test_a_run_that_has_just_begun_is_left_alone(instance: dg.DagsterInstance) -> None:
    """Between its first event and its lock."""
    run_id = started(instance)
    assert end_dead_runs(instance) == []
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.STARTED


def test_a_run_that_has_just_let_its_lock_go_is_not_dead(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last event follows; one that never comes was killed in between."""
    run_id, locks = started(instance), RunLocks.of(instance)
    with locks.held(run_id):
        pass
    monkeypatch.setattr("exfm_assets.running.time.time", lambda: datetime.now(UTC).timestamp() + 20)
    assert end_dead_runs(instance) == [] and locks.path(run_id).exists()
    monkeypatch.setattr("exfm_assets.running.time.time", lambda: datetime.now(UTC).timestamp() + 40)
    (message,) = end_dead_runs(instance)
    assert run_id[:8] in message and not locks.path(run_id).exists()


def test_the_lock_files_of_runs_that_are_over_go(instance: dg.DagsterInstance) -> None:
    run_id, locks = started(instance), RunLocks.of(instance)
    with locks.held(run_id):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_failed(run)
        end_dead_runs(instance)
        assert locks.path(run_id).exists()  # its process lives
    end_dead_runs(instance)
    assert not locks.path(run_id).exists()


MAKE = "import dagster as dg, sys; dg.DagsterInstance.from_config(sys.argv[1]).get_runs()"


@pytest.mark.slow
def test_many_first_processes_make_one_instance(home: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKE, home], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    failed = [error for process in processes for error in [process.communicate()[1]] if process.returncode]
    assert failed == []
    with dg.DagsterInstance.from_config(home) as instance:
        assert started(instance)


KILLED = """
import os, signal, sys, threading, time
import dagster as dg
threading.Thread(target=lambda: (time.sleep(float(sys.argv[2])), os.kill(os.getpid(), signal.SIGKILL))).start()
dg.DagsterInstance.from_config(sys.argv[1]).get_runs()
time.sleep(60)
"""


@pytest.mark.slow
def test_killed_while_the_instance_is_made(tmp_path: Path) -> None:
    """At several moments of its making; the next process finds it whole or makes it."""
    for number in range(MOMENTS):
        environment = {**os.environ, "EXFM_STATE": str(tmp_path / str(number)), "DAGSTER_HOME": ""}
        command = [sys.executable, "-m", "exfm_assets.home"]
        made = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        home = made.stdout.strip()
        subprocess.run([sys.executable, "-c", KILLED, home, str(number * 0.36 / MOMENTS)], cwd=ROOT, check=False)
        with dg.DagsterInstance.from_config(home) as instance:
            assert started(instance)


def test_the_committed_instance_is_the_one_that_is_tested() -> None:
    text = (ROOT / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8")
    assert "LockedSqliteStorage" in text and "default_limit: 1" in text


def test_a_file_that_was_replaced_is_opened_anew(home: str) -> None:
    """Connections stay open, and must not write into files that are gone."""
    base = Path(home).parent / "dagster"
    with dg.DagsterInstance.from_config(home) as opened:
        before = started(opened)
        assert [run.run_id for run in opened.get_runs()] == [before]
        aside = base.with_name("aside")
        base.rename(aside)
        with dg.DagsterInstance.from_config(home) as other:  # makes them again
            after = started(other)
        assert [run.run_id for run in opened.get_runs()] == [after]
        assert len(opened.all_logs(after)) == 2 and opened.get_run_by_id(before) is None
    with dg.DagsterInstance.from_config(home) as again:
        assert [run.run_id for run in again.get_runs()] == [after]


def test_a_fork_and_a_thread_have_connections_of_their_own(instance: dg.DagsterInstance) -> None:
    first = started(instance)
    child = os.fork()
    if child == 0:
        os._exit(0 if [run.run_id for run in instance.get_runs()] == [first] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: started(instance), range(8)))
    assert {run.run_id for run in instance.get_runs()} == {first, *made}


def test_a_statement_does_not_open_the_file_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(instance)
    opened: list[str] = []
    connect = sqlite3.dbapi2.connect

    def counted(path: str, *rest: Any, **named: Any) -> Any:
        opened.append(Path(path).name)
        return connect(path, *rest, **named)

    monkeypatch.setattr("sqlite3.dbapi2.connect", counted)
    for _ in range(5):
        instance.get_runs()
        instance.get_asset_records()
    assert opened == []
    run = started(instance)
    assert set(opened) == {f"{run}.db"}  # as Dagster does: its UI watches the file
