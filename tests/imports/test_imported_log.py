"""The asset that reads a log in: what it reports, what it asks for, and what the command and the daemon make of it."""

import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from exfm.state import ROOT
from exfm_assets import metadata_keys as keys
from exfm_assets.range_runs import RangeRun, riding_along
from pipeline.imports.run import import_log
from tests.graph.clockwork import Clockwork
from tests.graph.processes import environment, kill_session, members, ui, wait_until, with_signal
from tests.graph.runs import run, sentences
from tests.graph.test_kills import free_port
from tests.imports.logs import day_of_rows, workspace

LOG = dg.AssetKey("imported_log")
STREAM = "imported_log or impressions or outcomes or interactions or labels"
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


def test_the_asset_says_what_became_of_each_row(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log-1.csv").write_text(day_of_rows(1, 30) + "x,a,d,2026-01-01,1,0\n")
    (work.state.data / "log-2.csv").write_text(day_of_rows(2, 20) + "1,a,d,2026-02-01,1,0\n")
    ran = run(work, DAYS[0], DAYS[2], " or ".join(f'key:"{name}"' for name in STREAM.split(" or ")))
    assert ran.success, sentences(ran)
    (event,) = ran.asset_materializations_for_node("imported_log")
    said = {name: value.value for name, value in event.metadata.items()}
    assert said[keys.ROW_COUNT] == said["impressions/rows_kept"] == 51
    assert said["impressions/rows_read"] == 52 and said["impressions/rows_quarantined"] == 1
    assert said[keys.QUARANTINED] == {"impressions": {"user_id is no whole number of 64 bits": 1}}
    assert "impressions: 2 files, 52 rows = 51 in the log + 1 quarantined" in said[keys.RUN_ACCOUNT]
    (impressions, *_) = ran.asset_materializations_for_node("impressions")
    account = str(impressions.metadata[keys.RUN_ACCOUNT].value)
    assert "50 rows read, 50 kept, 0 quarantined" in account and "1 rows of the log lie outside the stream" in account
    assert [work.table("labels").rows(slice_) for slice_ in work.project.stream.all_slices or ()] == [30, 20, 0]


@pytest.mark.slow
def test_a_new_file_asks_for_the_import_and_then_for_its_slices_alone(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    for day in (1, 2, 3):
        (work.state.data / f"log-{day}.csv").write_text(day_of_rows(day, 20))
    clockwork = Clockwork(work)
    asked = clockwork.tick()
    assert asked["imported_log"] == [] and "impressions" not in asked
    ran = run(work, DAYS[0], DAYS[2], instance=clockwork.instance)
    assert ran.success, sentences(ran)
    clockwork.tick()
    assert "imported_log" not in clockwork.tick()
    (work.state.data / "log-late.csv").write_text(day_of_rows(2, 5, first=100))
    assert clockwork.tick()["imported_log"] == []
    import_log(work)
    clockwork.materialised("imported_log")
    asked = clockwork.tick()
    assert "imported_log" not in asked and asked["impressions"] == ["2026-01-02"]


def test_an_import_goes_first_in_the_run_of_what_is_made_of_it() -> None:
    made, other = dg.AssetKey("impressions"), dg.AssetKey("other")
    above = {LOG: [], made: [LOG], other: []}
    runs = [RangeRun(frozenset({other}), 0, 0), RangeRun(frozenset({made}), 1, 2)]
    sent, alone = riding_along(runs, [LOG], lambda key: above[key])
    assert [run.assets for run in sent] == [{other}, {made, LOG}] and not alone


def _exfm(surroundings: dict[str, str], *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "exfm_assets.command", *arguments]
    done = subprocess.run(command, env=surroundings, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_main_job_goes_from_files_to_a_table(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    surroundings = environment(tmp_path / "state", "tests.imports.logs:PROJECT", EXFM_DATA=str(files))
    status, said = _exfm(surroundings, "run")
    assert status == 2 and "Log.impressions: Files.paths 'log*' names no file below" in said
    for day in (1, 2, 3):
        (files / f"log-{day}.csv").write_text(day_of_rows(day, 600))
    status, said = _exfm(surroundings, "run", "--plan")
    assert status == 0 and "imported_log: 3 files are new" in said
    status, said = _exfm(surroundings, "run")
    assert status == 0, said
    assert "impressions: 3 files, 1,800 rows = 1,800 in the log + 0 quarantined" in said
    assert "imported: served checkpoints over judged impressions" in said
    (files / "log-2b.csv").write_text(day_of_rows(2, 50, first=1_000))
    (files / "log-4.csv.gz").write_bytes(b"\x1f\x8b\x08")
    status, said = _exfm(surroundings, "run")
    assert status == 2 and "log-4.csv.gz is not a whole csv file" in said
    (files / "log-4.csv.gz").unlink()
    status, said = _exfm(surroundings, "run")
    assert status == 0 and "impressions: 1,250 rows read, 1,250 kept" in said, said
    status, said = _exfm(surroundings, "run")
    assert status == 0 and "nothing is to be made" in said, said
    assert _exfm(surroundings, "import", "--check") == (0, "everything is read in\n")


@pytest.mark.long
@pytest.mark.slow
def test_the_daemon_reads_files_in_as_they_come(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    work = workspace(tmp_path)
    surroundings = environment(tmp_path / "root", "tests.imports.logs:PROJECT", EXFM_DATA=str(files))
    state = tmp_path / "root/imported/tables"
    (files / "log-1.csv").write_text(day_of_rows(1, 300))
    process = ui(surroundings, free_port(), tmp_path / "ui.log")
    slices = work.project.stream.all_slices or []

    def stored(table: str) -> list[int]:
        from pipeline.tables import SliceTable

        found = SliceTable(state / table, table)
        return [found.rows(slice_) if found.has(slice_) else -1 for slice_ in slices]

    try:
        wait_until(lambda: stored("labels") == [300, 0, 0], 240)
        (files / "log-2.csv").write_text(day_of_rows(2, 200))
        (files / "log-1b.csv").write_text(day_of_rows(1, 40, first=1_000))
        wait_until(lambda: stored("labels") == [340, 200, 0], 240)
        wait_until(lambda: stored("logged_inputs") == [340, 200, 0], 240)
    finally:
        with_signal(process.pid, signal.SIGTERM)
        wait_until(lambda: not members(process.pid), 60)
        kill_session(process)
