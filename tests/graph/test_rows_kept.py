"""``rows_kept`` counts what the reader reads, whatever lies beside it and however its times are written."""

import shutil
from pathlib import Path

import polars as pl
import pytest

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
