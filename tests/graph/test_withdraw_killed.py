"""Withdrawing with real processes: while a run goes on, and killed at many moments; what comes of it is the same."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exfm.state import ROOT
from models.manifest import load_manifest
from models.weights import read_state
from pipeline.registry.plain_manifests import manifests_of, read_manifest
from pipeline.releases.release import current_release
from pipeline.releases.withdrawing import touched_by
from pipeline.slices.withdrawals import withdrawals
from pipeline.verify.tables_current import lines_of
from pipeline.workspace import Workspace
from tests.graph.processes import environment, main_job, wait_until
from tests.tiny import tiny_workspace

BAD = "2026-01-02"  # the slice whose teacher checkpoint is bad
MOMENTS = (0.3, 0.9, 1.5, 2.1, 2.7, 3.5)  # seconds after which a withdrawal is killed; it takes about three
MODELS = ("teacher/large", "student/feed_click", "control/feed_click", "student/feed_convert")


def withdraw(surroundings: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "exfm_assets.command", "withdraw", "teacher/large", BAD, "--why", "bad"]
    return subprocess.Popen(command, env=surroundings, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ran_to_its_end(surroundings: dict[str, str]) -> None:
    process = main_job(surroundings)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def versions(work: Workspace) -> dict[str, list[str]]:
    return {
        model: [str(manifest["version"]) for manifest in manifests_of(work, model).values() if manifest is not None]
        for model in MODELS
    }


def learnt(work: Workspace) -> dict[str, str]:
    """A digest of all weights after the last slice; a version also says when something was withdrawn."""
    found = {}
    for model in MODELS:
        folder = sorted(work.state.checkpoints(model).glob("slice=*"))[-1]
        state = read_state(folder, load_manifest(folder))
        every = b"".join(state[name].numpy().tobytes() for name in sorted(state))
        found[model] = hashlib.sha256(every).hexdigest()
    return found


def assert_made_good(work: Workspace) -> None:
    (withdrawal,) = withdrawals(work)
    assert withdrawal.why == "bad"
    manifest = read_manifest(work, "teacher/large", work.project.stream.slice_of(BAD))
    assert manifest is not None and manifest["rows"] == 0
    known = set(versions(work)["teacher/large"])
    for student in work.project.students:
        taught_by = {
            version
            for manifest in manifests_of(work, f"student/{student.name}").values()
            for version in (manifest or {}).get("teacher_checkpoints", ())
        }
        assert taught_by <= known
        served = current_release(work, student)
        assert served is None or touched_by(work, student, served) is None
    assert not lines_of(work)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What models have learnt where it was withdrawn after a whole run, in peace."""
    folder = Path(tmp_path_factory.mktemp("peace"))
    surroundings = environment(folder)
    ran_to_its_end(surroundings)
    output, _ = withdraw(surroundings).communicate(timeout=60)
    assert "was withdrawn at" in output
    ran_to_its_end(surroundings)
    work = tiny_workspace(folder)
    assert_made_good(work)
    return learnt(work)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("withdraw_killed")
def test_in_the_middle_of_a_run(tmp_path: Path, expected: dict[str, str]) -> None:
    surroundings, work = environment(tmp_path), tiny_workspace(tmp_path)
    running = main_job(surroundings)
    slice_ = work.project.stream.slice_of(BAD)
    assert wait_until(lambda: read_manifest(work, "teacher/large", slice_) is not None, 200, every=0.1)
    output, _ = withdraw(surroundings).communicate(timeout=60)
    assert "was withdrawn at" in output
    running.communicate(timeout=300)
    ran_to_its_end(surroundings)
    assert_made_good(work)
    assert learnt(work) == expected


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.long
@pytest.mark.xdist_group("withdraw_killed")
def test_killed_at_many_moments(tmp_path: Path, expected: dict[str, str]) -> None:
    surroundings, work = environment(tmp_path), tiny_workspace(tmp_path)
    ran_to_its_end(surroundings)
    for seconds in MOMENTS:
        process = withdraw(surroundings)
        time.sleep(seconds)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        assert len(withdrawals(work)) <= 1
    output, _ = withdraw(surroundings).communicate(timeout=60)
    assert "was withdrawn at" in output
    ran_to_its_end(surroundings)
    assert_made_good(work)
    assert learnt(work) == expected
