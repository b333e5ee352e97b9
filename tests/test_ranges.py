"""Which slices a main job covers: of a growing log all that may lack something, of a student those that are stored."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.stream import Slice
from exfm_assets.ranges import range_to_run
from pipeline.workspace import Workspace
from tests.tiny import tiny_project, tiny_workspace

DAY = timedelta(days=1)


def growing(folder: Path, days: float) -> Workspace:
    """A log without an end, so many days after its first slice began; nothing is stored."""
    project = tiny_project()
    moment: datetime = project.stream.first_slice + days * DAY
    made = tiny_workspace(folder, replace(project, stream=replace(project.stream, until=None)))
    return replace(made, now=lambda: moment)


def worded(slices: list[Slice]) -> str:
    return f"{slices[0].key}...{slices[-1].key}"


def store(work: Workspace, *indices: int) -> None:
    for index in indices:
        work.table("logged_inputs").write(work.project.stream.slice_at(index), pl.DataFrame({"impression_id": [1]}))


def test_a_closed_log_is_run_whole(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert worded(range_to_run(work)) == "2026-01-01...2026-01-05"
    assert worded(range_to_run(work, "2026-01-02")) == "2026-01-02...2026-01-02"
    assert worded(range_to_run(work, "2026-01-02...2026-01-03")) == "2026-01-02...2026-01-03"


def test_a_growing_log_is_caught_up_from_the_first_slice_that_is_missing(tmp_path: Path) -> None:
    work = growing(tmp_path, 24.5)
    assert worded(range_to_run(work)) == "2026-01-01...2026-01-24"  # what a slice is made of lies before it
    store(work, *range(20))
    assert worded(range_to_run(work)) == "2026-01-11...2026-01-24"  # at least the last fourteen are looked at again
    (tmp_path / "tiny" / "tables" / "logged_inputs" / "slice=2026-01-03" / "part.parquet").unlink()
    assert worded(range_to_run(work)) == "2026-01-03...2026-01-24"
    with pytest.raises(DeclarationError, match="has ended yet"):
        range_to_run(growing(tmp_path / "young", 0.5))


def test_a_student_alone_runs_over_what_is_stored(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    with pytest.raises(DeclarationError, match="^--student: no slice has logged_inputs yet"):
        range_to_run(work, stored_only=True)
    store(work, 0, 1, 2)
    assert worded(range_to_run(work, stored_only=True)) == "2026-01-01...2026-01-03"
