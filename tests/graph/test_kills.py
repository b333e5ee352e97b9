"""kill -9 at random moments, with the instance of ``dagster.yaml``: started again, it ends as an undisturbed run.

EXFM_KILLS=60 make test-long       (the default is 2 of each kind)
"""

import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import dagster as dg
import pytest

from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.processes import (
    environment,
    instance_of,
    kill_session,
    main_job,
    members,
    ui,
    wait_until,
    with_signal,
)
from tests.graph.runs import left_by
from tests.tiny import tiny_workspace

KILLS = int(os.environ.get("EXFM_KILLS", "2"))
A_STATE = 3  # kills before it is let go on
SECONDS = 20.0  # about what a main job of the tiny project takes


def no_run_is_left(surroundings: dict[str, str]) -> bool:
    unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.STARTING]
    with instance_of(surroundings) as instance:
        held = [
            slot for pool in instance.event_log_storage.get_concurrency_keys()
            for slot in instance.event_log_storage.get_concurrency_info(pool).claimed_slots
        ]  # fmt: skip
        return not held and not instance.get_runs(dg.RunsFilter(statuses=unfinished))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", [pytest.param("all of it", marks=pytest.mark.long), "the main job alone"])
@pytest.mark.parametrize("number", range(-(-KILLS // (2 * A_STATE))))
def test_a_main_job_killed_at_random_moments(ran: Ran, tmp_path: Path, victim: str, number: int) -> None:
    surroundings, draws = environment(tmp_path), random.Random(f"{victim}/{number}")
    for _ in range(A_STATE):
        process = main_job(surroundings)
        time.sleep(draws.uniform(0.2, SECONDS))
        if victim == "all of it":
            kill_session(process)
        else:
            with_signal(process.pid, signal.SIGKILL)
            process.wait()
            assert wait_until(lambda: not members(process.pid), 60), "its run goes on unseen"  # noqa: B023
    last = main_job(surroundings)
    output, _ = last.communicate(timeout=240)
    assert last.returncode == 0, output
    assert left_by(tiny_workspace(tmp_path)) == left_by(ran.work)
    assert no_run_is_left(surroundings)


@pytest.mark.slow
def test_a_main_job_in_the_background_of_a_script_takes_its_run_along(tmp_path: Path) -> None:
    """There Ctrl-C is ignored from the start, and so would SIGTERM be."""
    surroundings = environment(tmp_path)
    process = main_job(surroundings, background=True)
    assert wait_until(lambda: bool(list(tmp_path.rglob("slice=*/part.parquet"))), 60)
    with_signal(process.pid, signal.SIGKILL)
    process.wait()
    try:
        assert wait_until(lambda: not members(process.pid), 60), "its run goes on unseen"
    finally:
        kill_session(process)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["Ctrl-C", "the run's process is killed"])
def test_a_main_job_that_was_stopped_says_so_in_a_sentence(tmp_path: Path, who: str) -> None:
    surroundings = environment(tmp_path)
    process = main_job(surroundings)
    try:
        assert wait_until(lambda: bool(list(tmp_path.rglob("slice=*/part.parquet"))), 60)
        if who == "Ctrl-C":
            for pid in members(process.pid):  # as the terminal sends it: to the whole group
                with_signal(pid, signal.SIGINT)
        else:
            for pid in members(process.pid):
                if pid != process.pid:
                    with_signal(pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    finally:
        kill_session(process)
    assert "run it again to go on" in output and "Traceback" not in output, output
    assert process.returncode not in (0, 2)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def versions(work: Workspace) -> dict[str, str]:
    paths = sorted((work.state.folder / "checkpoints").rglob("manifest.json"))
    return {str(path.relative_to(work.state.folder)): json.loads(path.read_text())["version"] for path in paths}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_daemons_group_killed_at_random_moments(ran: Ran, tmp_path: Path) -> None:
    """The automation makes the whole project, killed again and again on the way."""
    surroundings, draws = environment(tmp_path, DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="120"), random.Random("daemon")
    log = tmp_path / "ui.log"
    for _ in range(KILLS):
        process = ui(surroundings, free_port(), log)
        time.sleep(draws.uniform(5, 40))
        kill_session(process)
    process = ui(surroundings, free_port(), log)
    wanted, work = versions(ran.work), tiny_workspace(tmp_path)
    try:
        assert wait_until(lambda: versions(work) == wanted, 600, every=3), sorted(set(wanted) - set(versions(work)))
        assert wait_until(lambda: (work.state.release("feed_click") / "current.json").is_file(), 120)
    finally:
        with_signal(process.pid, signal.SIGTERM)
        ended = wait_until(lambda: not members(process.pid), 60)
        kill_session(process)
    assert ended, "make ui left processes behind"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "background"),
    [
        (signal.SIGINT, False),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.long),
    ],
)
def test_make_ui_ends_with_all_its_children(tmp_path: Path, number: signal.Signals, background: bool) -> None:
    process = ui(environment(tmp_path), free_port(), tmp_path / "ui.log", background=background)
    try:
        assert wait_until(lambda: "Serving dagster-webserver" in (tmp_path / "ui.log").read_text(), 90)
        assert len(members(process.pid)) > 3
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as the terminal sends Ctrl-C: to the whole group in front
        else:
            with_signal(process.pid, number)
        assert wait_until(lambda: not members(process.pid), 60), "processes are left"
    finally:
        kill_session(process)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 3.0, 6.0])
def test_so_it_does_when_asked_while_it_starts(tmp_path: Path, seconds: float) -> None:
    process = ui(environment(tmp_path), free_port(), tmp_path / "ui.log")
    try:
        time.sleep(seconds)
        with_signal(process.pid, signal.SIGTERM)
        assert wait_until(lambda: not members(process.pid), 90), "processes are left"
    finally:
        kill_session(process)
