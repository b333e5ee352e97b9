"""What a person reads in a terminal: whole numbers in 80 columns, the sentence of what failed, every step's line."""

import io
import shutil
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from exfm_assets.main_job import remarks
from exfm_assets.progress import Progress
from pipeline.evaluation.summary import summary
from pipeline.report.terminal import COLUMNS, HEADERS, print_table
from tests.conftest import Ran
from tests.graph.processes import environment, main_job
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_workspace


def printed(rows: pl.DataFrame, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    print_table(console, rows, "t")
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200, 300])
def test_no_number_is_cut_in_any_width(ran: Ran, width: int) -> None:
    rows = summary(ran.work)
    text = printed(rows, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= max(width, 40)
    left_out = text.partition("no room for the columns")[2]
    for name, form, _ in COLUMNS:
        values = [form.format(value) for value in rows[name] if form and value is not None]
        if all(value in text for value in values):
            continue
        assert HEADERS.get(name, name.replace("_", " ")) in " ".join(left_out.split()), name


def test_eighty_columns_hold_the_gain_and_both_nes(ran: Ran) -> None:
    text = printed(summary(ran.work), 80)
    for name in ("ne_student", "ne_control", "gain"):
        form = next(form for column, form, _ in COLUMNS if column == name)
        assert form is not None
        assert all(form.format(value) in text for value in summary(ran.work)[name])


def said_by(instance: dg.DagsterInstance, run_id: str) -> str:
    console = Console(file=io.StringIO(), width=500, highlight=False)
    progress = Progress(console)
    progress.read(instance, run_id)
    progress.close()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_step_has_its_line(ran: Ran) -> None:
    output = said_by(ran.instance, ran.result.run_id)
    for step in ("impressions", "labels", "teacher_large", "students", "drift_report", "report"):
        assert f"  {step} " in output


def test_the_first_sentence_is_the_one_that_says_what_to_do(ran: Ran, tmp_path: Path) -> None:
    """Not the error that caused it, and nothing before it."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    path = work.table("labels").path(work.project.stream.slice_of(LAST))
    path.write_bytes(path.read_bytes()[:100])
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, LAST, LAST, select='key:"student/feed_click/checkpoint"', instance=instance)
    assert not result.success
    output = said_by(instance, result.run_id)
    assert "Dependencies for step" not in output
    (line,) = [line for line in output.splitlines() if "failed after" in line]
    assert "labels" in line and "materialise labels" in line and "Dagster" not in line


def test_a_blocking_check_says_its_name_and_its_sentence(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    (folder,) = work.state.table("logged_inputs").glob(f"slice={LAST}")
    table, slice_ = work.table("logged_inputs"), work.project.stream.slice_of(LAST)
    instance = dg.DagsterInstance.ephemeral()
    planted = table.read([slice_]).head(10)
    shutil.rmtree(folder)
    table.write(slice_, planted)
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("logged_inputs"))
    result = run(work, LAST, LAST, select=checks, instance=instance)
    output = said_by(instance, result.run_id)
    assert "check one_per_impression of logged_inputs: " in output and "10 rows are not the" in output


@pytest.mark.slow
def test_a_main_job_whose_run_cannot_start_says_why(tmp_path: Path) -> None:
    process = main_job(environment(tmp_path), "--select", "key:nonsense")
    output, _ = process.communicate(timeout=120)
    assert process.returncode and "nonsense" in output and "Traceback" not in output


@pytest.mark.parametrize(("requested", "sentence"), [(f"{LAST}...{FIRST}", "ends before it begins")])
def test_a_reversed_range_is_refused(tmp_path: Path, requested: str, sentence: str) -> None:
    process = main_job(environment(tmp_path), "--range", requested)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and sentence in output and f"{FIRST}...{LAST}" in output


def test_a_terminal_without_the_signs_shows_others(tmp_path: Path) -> None:
    """LANG=C as it was before Python 3.7: the sentence has an accent that it can't show."""
    surroundings = environment(tmp_path, PYTHONIOENCODING="ascii")
    process = main_job(surroundings, "--student", "müller")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "m?ller" in output and "Traceback" not in output


def test_an_empty_student_is_no_wish_for_everything(tmp_path: Path) -> None:
    for arguments, sentence in (
        (("--student", ""), "'' is not a declared student"),
        (("--student", "feed_click", "--select", "key:labels"), "not allowed with argument"),
    ):
        process = main_job(environment(tmp_path), *arguments)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2 and sentence in output


def test_what_a_person_should_know_beside_the_table() -> None:
    row = {
        "student": "feed_click", "not_released": "", "ne_student": 0.95, "ne_control": 0.96, "ne_teacher": 0.94,
        "gain": 0.01,
    }  # fmt: skip
    assert list(remarks(row)) == []
    (line,) = remarks({**row, "ne_teacher": 0.97})
    assert line == (
        "feed_click: its teacher (NE 0.9700) does not lead its control (0.9600), so there is no lead to transfer; "
        "what helps is in docs/quality.md, What if my teacher does not lead?"
    )
    assert list(remarks({**row, "ne_teacher": 0.97, "gain": None})) == []  # nobody teaches it
    nothing = dict.fromkeys(("ne_student", "ne_control", "ne_teacher", "gain"))
    assert list(remarks({**row, **nothing, "not_released": "too young"})) == ["feed_click: not released: too young"]
    (line,) = remarks({**row, "ne_student": 1.02})
    assert "NE 1.0200 is above 1" in line and "docs/learning.md" in line
