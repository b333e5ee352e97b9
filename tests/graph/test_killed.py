"""A run killed with kill -9 at any asset, and started again, ends as an undisturbed one.

``EXFM_KILLED=all pytest -m slow tests/graph/test_killed.py`` kills it everywhere; else where most hangs on it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exfm.state import ROOT
from tests.conftest import Ran
from tests.graph.runs import left_by
from tests.tiny import tiny_workspace

EVERYWHERE = [
    ("log/outcomes", 3),
    ("tables/impressions", 2),
    ("quarantine/outcomes", 4),
    ("tables/outcomes", 3),
    ("tables/interactions", 5),
    ("tables/labels", 2),
    ("features/item_activity", 3),
    ("tables/logged_inputs", 4),
    ("predictions/large", 2),
    ("checkpoints/teacher/large", 3),
    ("checkpoints/student/feed_click", 2),
    ("checkpoints/control/feed_convert", 4),
    ("evaluations/feed_convert", 3),
    ("releases/feed_click", 1),
    ("current.json", 2),
    ("gate.json", 1),
    ("release.json", 1),
    ("history/000001.json", 1),
    ("input_profile", 2),
    ("drift.parquet", 1),
    ("report.html", 1),
]
CHOSEN = {"checkpoints/student/feed_click", "current.json"}
PLACES = [
    pytest.param(text, number, id=text)
    for text, number in EVERYWHERE
    if os.environ.get("EXFM_KILLED") == "all" or text in CHOSEN
]


def process(folder: Path, *kill: str) -> int:
    command = [sys.executable, "-m", "tests.graph.run_tiny", str(folder), *kill]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False).returncode


def killed_and_started_again(ran: Ran, folder: Path, text: str, number: int) -> dict[str, str]:
    """What is left by a run that was killed on the way and by the one after it."""
    assert process(folder, text, str(number)) == -signal.SIGKILL
    work = tiny_workspace(folder)
    assert left_by(work) != left_by(ran.work)
    assert process(folder) == 0
    return left_by(work)


@pytest.mark.long
@pytest.mark.slow
def test_killed_between_a_prediction_and_its_training(ran: Ran, tmp_path: Path) -> None:
    assert killed_and_started_again(ran, tmp_path, "checkpoints/teacher/large", 2) == left_by(ran.work)


@pytest.mark.slow
@pytest.mark.long  # at random moments, at each run of the tests: test_kills.py
@pytest.mark.parametrize(("text", "number"), PLACES)
def test_killed_at_any_asset(ran: Ran, tmp_path: Path, text: str, number: int) -> None:
    assert killed_and_started_again(ran, tmp_path, text, number) == left_by(ran.work)
