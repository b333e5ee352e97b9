"""``rows_kept`` counts what the reader reads, whatever lies beside it and however its times are written."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from pipeline.verify.tables_current import stale
from pipeline.verify.tables_sound import TIME, rows_kept
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import LAST, failed_checks, run
from tests.tiny import tiny_workspace


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Workspace:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    return work


@pytest.mark.parametrize("name", ["_tmp.parquet", ".hidden.parquet", "notes.txt"])
def test_files_that_are_no_part_of_the_log_count_for_nobody(copy: Workspace, name: str) -> None:
    for table in TIME:
        folder = copy.state.log / table / f"day={LAST}"
        shutil.copy(next(folder.glob("*.parquet")), folder / name)
    ran = run(copy, LAST, LAST, 'key:"impressions" or key:"outcomes" or key:"interactions"')
    assert ran.success and not failed_checks(ran)


@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_times_of_another_unit_can_be_run(copy: Workspace, unit: str) -> None:
    for table, time in TIME.items():
        for path in (copy.state.log / table / f"day={LAST}").glob("*.parquet"):
            pl.read_parquet(path).with_columns(pl.col(time).dt.cast_time_unit(unit)).write_parquet(path)  # type: ignore[arg-type]
    ran = run(copy, LAST, LAST, 'key:"impressions" or key:"outcomes" or key:"interactions"')
    assert ran.success and not failed_checks(ran)


def test_a_lost_row_is_found(copy: Workspace) -> None:
    slice_, table = copy.project.stream.slice_of(LAST), copy.table("impressions")
    assert rows_kept("impressions")(copy, [slice_]).passed
    table.write(slice_, table.read([slice_]).tail(-1))
    assert "rows in the log" in rows_kept("impressions")(copy, [slice_]).message


def test_a_file_that_landed_since_the_read_is_late_and_nothing_is_lost(copy: Workspace) -> None:
    """On a live stream it may come between reading a slice and counting it: the slice is out of date, made again."""
    slice_ = copy.project.stream.slice_of(LAST)
    folder = copy.state.log / "interactions" / f"day={LAST}"
    late = pl.read_parquet(next(folder.glob("*.parquet")), glob=False).head(5)
    late.write_parquet(folder / "late.parquet")
    assert rows_kept("interactions")(copy, [slice_]).passed
    assert any(fault.asset == "interactions" and LAST in str(fault) for fault in stale(copy))
    ran = run(copy, LAST, LAST, 'key:"interactions"')
    assert ran.success and rows_kept("interactions")(copy, [slice_]).passed
    table = copy.table("interactions")
    table.write(slice_, table.read([slice_]).tail(-1), dict(table.sidecar(slice_).made_of))  # type: ignore[union-attr]
    assert not rows_kept("interactions")(copy, [slice_]).passed
