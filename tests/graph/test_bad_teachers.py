"""Teachers that fall silent or are poisoned: what stops, and what shows it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.project import Project
from exfm.simulation import Event
from pipeline.evaluation.evaluations import evaluations_of
from tests.conftest import Ran
from tests.graph.runs import LAST, run, sentences
from tests.tiny import tiny_project, tiny_workspace


def with_event(kind: Any, day: float) -> Project:
    simulation = tiny_project().simulation
    assert simulation is not None
    event = Event(kind=kind, day=day, length=1.0, strength=0.5)
    return tiny_project(simulation=replace(simulation, events=(event,)))


@pytest.mark.slow
def test_a_teacher_that_falls_silent_stops_its_students_and_is_named(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, with_event("silent", day=3))
    result = run(work)
    assert not result.success and any("teacher/large/predictions: coverage" in line for line in sentences(result))
    slice_ = work.project.stream.slice_at(3)
    refused = work.quarantine(work.project.teachers[0].view).rows(slice_)
    assert refused == pytest.approx(work.table("impressions").rows(slice_) / 2, rel=0.15)


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_that_is_poisoned_shows_in_its_ne(ran: Ran, tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, with_event("poisoned", day=4))
    assert run(work).success
    usual, now = (
        evaluations_of(each, each.project.students[0]).filter(pl.col("model") == "teacher", pl.col("slice") == LAST)
        for each in (ran.work, work)
    )
    assert now["ne"][0] > 1.02 * usual["ne"][0]
