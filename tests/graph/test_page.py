"""The status page: its figures against what is stored, what comes first, what is never green, what it never loads."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from exfm.learning import Student
from exfm_assets.assets.reports import REPORT
from pipeline.drift.report import FILE, SCHEMA
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.summary import summary
from pipeline.releases.release import current_release
from pipeline.report.overview import overview_table
from pipeline.report.page import page_of, write_report
from pipeline.report.status import status_of
from pipeline.report.words import figure, gain, percent
from pipeline.sidecar import write_stored
from pipeline.slices.withdrawals import Withdrawal, add
from pipeline.upkeep.durations import seconds_a_slice
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.read_page import Page, Table
from tests.tiny import tiny_project, tiny_workspace

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>|'


@pytest.fixture(autouse=True)
def no_ui(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXFM_UI", raising=False)


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def students(page: Page) -> Table:
    return page.table("student", "serves", "gate")


def with_ne(work: Workspace, student: Student, ne: Callable[[int, float], float | None]) -> None:
    """Store a student's evaluations again, its NE by the number of the slice and the control's NE."""
    table = work.evaluations(student.name)
    for slice_ in table.stored(work.project.stream):
        rows = table.read([slice_])
        control = rows.filter(pl.col("model") == "control")
        if control.height:
            mine = pl.lit(ne(slice_.index, float(control["ne"][0])), pl.Float64)
            changed = pl.when(pl.col("model") == "student").then(mine).otherwise(pl.col("ne"))
            write_stored(rows.with_columns(ne=changed), table.path(slice_))


def with_drift(work: Workspace, *rows: tuple[str, str, str, bool, str, str]) -> None:
    write_stored(pl.DataFrame(rows, schema=SCHEMA, orient="row"), work.state.reports / FILE)


def test_students_have_the_figures_of_the_stored_evaluations(work: Workspace) -> None:
    table = students(Page(page_of(work)))
    assert [text.split()[2] for text in table.texts("student")] == [each.name for each in status_of(work).students]
    for student, ne, gained, serves in zip(
        table.texts("student"), table.texts("NE"), table.texts("gain"), table.texts("serves"), strict=True
    ):
        declared = work.project.student(student.split()[2])
        stored = evaluations_of(work, declared).filter(pl.col("ne").is_finite())
        by = stored.pivot("model", index=["slice", "rows"], values="ne").drop_nulls(["student", "control"])
        mine, control = ((by[model] * by["rows"]).sum() / by["rows"].sum() for model in ("student", "control"))
        above = " ✖ worse than a constant" if mine > 1 else ""
        assert ne == f"{figure(mine)} {by.height} slices{above}"
        assert gained.startswith(f"{percent(1 - mine / control)} ± ")
        served = current_release(work, declared)
        assert served is not None and serves.startswith(f"{served.version} release {served.number}, since ")


def test_all_means_of_the_summary_are_there(work: Workspace) -> None:
    """A narrow terminal leaves columns out, and says that they are here."""
    table = Page(page_of(work)).table("task", "transfer ratio")
    for row, said in zip(summary(work).iter_rows(named=True), table.rows, strict=True):
        cells = dict(zip(table.head, (cell.text for cell in said), strict=True))
        for title, name in (("rows", "rows"), ("NE teacher", "ne_teacher"), ("NE best", "ne_best"),
                            ("transfer ratio", "transfer_ratio"), ("AUC control", "auc_control")):  # fmt: skip
            assert cells[title] == figure(row[name])
        assert (cells["since slice"], cells["serves slice"]) == (row["since"], row["released"])
        assert cells["±"] == percent(row["gain_error"], sign=False)


def test_what_is_drawn_is_the_difference_of_the_evaluations(work: Workspace) -> None:
    with_ne(work, work.project.students[0], lambda index, control: control * (1 - index / 100))
    text = page_of(work)
    charts = Page(text).charts
    assert "from +2.00 % to +4.00 %, the newest +4.00 %" in text  # the small line is of gains: up is better
    for student in work.project.students:
        stored = evaluations_of(work, student)
        drawn = {value["slice"]: value for value in charts[f"difference-{student.name}"]["data"]["values"]}
        by = stored.filter(pl.col("ne").is_finite()).pivot("model", index="slice", values="ne")
        both = by.drop_nulls(["student", "control"])
        assert set(drawn) == set(both["slice"]) and drawn
        for row in both.iter_rows(named=True):
            value, difference = drawn[row["slice"]], 100 * (row["student"] - row["control"]) / row["control"]
            assert value["difference"] == pytest.approx(difference)
            assert value["low"] < value["difference"] < value["high"]
        assert not any("control" in value["model"] for value in charts[f"ne-{student.name}"]["data"]["values"])


def test_red_comes_first_then_yellow_and_each_has_a_word(work: Workspace) -> None:
    first, second = work.project.students
    shutil.rmtree(work.state.release(second.name))
    with_drift(work, (f"student/{first.name}", "ne", "2026-01-04", True, "drifted", "NE rose"))
    table = students(Page(page_of(work)))
    marks = [text.split()[1:3] for text in table.texts("student")]
    assert marks == [["red", second.name], ["yellow", first.name]]
    assert table.texts("serves")[0] == "✖ nothing serves" and "bad" in table.cells("serves")[0].classes
    assert "▲ drifted: 2026-01-04: NE rose" in table.texts("drift")[1]
    assert table.texts("next refresh")[0] == "it trains on what has come since: it was never released"


def test_a_gain_within_noise_is_grey_and_said_to_be_chance(work: Workspace) -> None:
    chance, worse = work.project.students
    with_ne(work, chance, lambda index, control: control * (1.003 if index % 2 else 0.998))
    with_ne(work, worse, lambda index, control: control * (1.01 + index / 10_000))
    cells = {row[0].text.split()[2]: row[4] for row in students(Page(page_of(work))).rows}
    assert "○ may be chance" in cells[chance.name].text and "none" in cells[chance.name].classes
    assert "✖ worse" in cells[worse.name].text and "bad" in cells[worse.name].classes
    assert "good" not in cells[chance.name].classes | cells[worse.name].classes


def test_of_one_slice_nobody_can_tell_and_nothing_is_green(work: Workspace) -> None:
    student = work.project.students[0]
    with_ne(work, student, lambda index, control: control * 0.9 if index == 4 else None)
    gate = work.state.release(student.name) / "gate.json"
    verdict = json.loads(gate.read_text()) | {"outcome": "too little data", "reason": "12 labelled rows"}
    gate.write_text(json.dumps(verdict))
    page = Page(page_of(work))
    (row,) = [row for row in students(page).rows if student.name in row[0].text]
    assert row[0].text.startswith("○ grey") and "+10.00 % ○ too little data" in row[4].text
    assert "good" not in row[0].classes | row[4].classes | row[8].classes
    (value,) = page.charts[f"difference-{student.name}"]["data"]["values"]
    assert value["difference"] == pytest.approx(-10) and value["low"] is None is value["high"]


def test_the_page_loads_nothing(work: Workspace) -> None:
    text = page_of(work)
    page = Page(text)
    assert page.loads == [] and all(link.startswith("#") for link in page.links)
    assert "default-src 'none'" in text and "url(" not in text.partition("</style>")[0] and "@import" not in text
    (bundle,) = [script for script in page.scripts if "vegaEmbed=" in script or "vegaEmbed =" in script]
    assert len(bundle) > 500_000


def test_what_the_log_and_people_wrote_is_escaped(work: Workspace) -> None:
    student = work.project.students[0]
    with_drift(work, (f"student/{student.name}", "inputs", "2026-01-04", True, "drifted", HOSTILE))
    add(work, Withdrawal("outcomes", "2026-01-04", "", HOSTILE, "2026-02-01T00:00:00+00:00"))
    quarantine, slice_ = work.quarantine("outcomes"), work.project.stream.slice_of("2026-01-04")
    rows = quarantine.read([slice_]).head(1).with_columns(reason=pl.lit(HOSTILE))
    write_stored(rows, quarantine.path(slice_))
    text = page_of(work)
    page = Page(text)  # every element closes its own
    assert page.text.count(HOSTILE) >= 4 and page.loads == []
    overview = overview_table(status_of(work))
    assert "<" not in overview and len(overview.splitlines()) == 2 + 2 + 1 + len(status_of(work).others) + 1
    written = text.replace(max(page.scripts, key=len), "")  # all but Vega's own
    assert "<script>alert" not in written and "<img" not in written


def test_odd_numbers_are_neither_drawn_nor_shown(work: Workspace) -> None:
    for student, odd in zip(work.project.students, (float("nan"), float("inf")), strict=True):
        with_ne(work, student, lambda index, control, odd=odd: odd if index == 3 else control * 0.99)
    page = Page(page_of(work))
    assert "nan" not in page.text.lower().split() and "inf" not in page.text.lower().split()
    for student in work.project.students:
        drawn = {value["slice"] for value in page.charts[f"difference-{student.name}"]["data"]["values"]}
        assert drawn and "2026-01-04" not in drawn


def test_below_the_students_stand_teachers_quarantine_segments_and_costs(work: Workspace) -> None:
    page = Page(page_of(work))
    teacher = page.table("teacher", "coverage")
    assert teacher.texts("coverage") == ["100.00 %"] and teacher.texts("leaks refused") == ["0"]
    rows = {row["student"]: row for row in summary(work).iter_rows(named=True)}
    leads = [f"{name} {percent(1 - row['ne_teacher'] / row['ne_control'])}" for name, row in rows.items()]
    assert teacher.texts("lead over the control of") == [", ".join(leads)]
    stream, refused = work.project.stream, page.table("table", "reason")
    counts = {}
    for name in ("impressions", "outcomes", "interactions"):
        table = work.quarantine(name)
        frames = [table.read([slice_]) for slice_ in table.stored(stream)]
        reasons = [reason for frame in frames for reason in frame["reason"].str.split(":").list.first()]
        counts |= {(name, f"▲ {reason}"): str(reasons.count(reason)) for reason in reasons}
    assert {(row[0].text, row[1].text): row[2].text for row in refused.rows} == counts and counts
    costs = {row[0].text: row[1].text for table in page.tables if "seconds a slice" in table.head for row in table.rows}
    for asset in ("labels", "teacher/large/checkpoint"):
        seconds = seconds_a_slice(work, asset)
        assert seconds is not None and costs[asset] == f"{seconds:.2f} s"


def test_segments_are_the_gates_turned_round_and_the_worst_come_first(work: Workspace) -> None:
    first, second = work.project.students
    part = {"where": "new users", "rows": 1234, "ne": 0.9, "difference": 0.02, "low": 0.01, "high": 0.03}
    for student, segments in ((first, []), (second, [part])):
        gate = work.state.release(student.name) / "gate.json"
        gate.write_text(json.dumps(json.loads(gate.read_text()) | {"segments": segments}))
    table = next(table for table in Page(page_of(work)).tables if "segment" in table.head)
    worst = [cell.text for cell in table.rows[0]]
    assert worst[:6] == ["new users", second.name, "-2.00 %", "-3.00 % to -1.00 %", "✖ worse", "0.9000"]
    assert worst[6] == "1,234" and len(table.rows) <= 5
    gains = [float(text.split()[0]) for text in table.texts("gain") if text != "–"]
    assert gains == sorted(gains)
    rows = {row["student"]: row for row in summary(work).iter_rows(named=True)}
    (own,) = [row for row in table.rows if row[0].text == "surface feed" and row[1].text == first.name]
    assert own[2].text == percent(rows[first.name]["gain"]) and own[5].text == figure(rows[first.name]["ne_student"])


def test_what_moved_stands_beside_what_ne_did(work: Workspace) -> None:
    student = work.project.students[0]
    with_drift(
        work,
        ("teacher/large", "coverage", "2026-01-04", False, "said", "90.0% of the impressions have a prediction"),
        (f"student/{student.name}", "inputs", "2026-01-05", True, "drifted", "device: PSI 0.4"),
    )
    page = Page(page_of(work))
    table = page.table("model", "measure", "change")
    assert table.texts("state") == ["▲ drifted", "○ said"]  # what asks for training comes first
    mine = evaluations_of(work, student).filter(pl.col("model") == "student", pl.col("ne").is_finite())
    at, before = mine.filter(pl.col("slice") == "2026-01-05"), mine.filter(pl.col("slice") < "2026-01-05").tail(3)
    usual = (before["ne"] * before["rows"]).sum() / before["rows"].sum()
    assert table.texts("NE") == [figure(at["ne"][0]), "–"]
    assert table.texts("change") == [percent(at["ne"][0] / usual - 1), "–"]
    assert page.charts[f"psi-{student.name}"]["layer"][-1]["data"]["values"] == [
        {"slice_start": "2026-01-05T00:00:00+00:00"}
    ]


def test_assets_and_runs_are_links_where_the_ui_is_known(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    name = work.project.students[0].name
    ui = "http://127.0.0.1:3000"
    monkeypatch.setenv("EXFM_UI", f"{ui}/")
    assert {f"{ui}/assets/student/{name}/release", f"{ui}/runs/0f3a"} <= set(Page(page_of(work, "0f3a")).links)
    monkeypatch.setenv("EXFM_UI", "javascript:alert(1)")
    assert all(link.startswith("#") for link in Page(page_of(work, "0f3a")).links)


def test_a_project_without_state_or_students_has_a_page_too(tmp_path: Path) -> None:
    empty = Page(page_of(tiny_workspace(tmp_path)))
    assert students(empty).texts("serves") == ["✖ nothing serves"] * 2 and not empty.charts
    assert students(empty).texts("gain") == ["○ not judged yet"] * 2
    assert "No slice of the log is stored yet" in empty.text and "not looked at yet" in empty.text
    bare = Page(page_of(tiny_workspace(tmp_path / "bare", tiny_project(students=()))))
    assert "No student is declared" in bare.text and "✔ exfm" not in bare.text


def test_it_says_how_old_what_it_shows_is(work: Workspace) -> None:
    live = replace(work.project, stream=replace(work.project.stream, until=None))
    end = work.project.stream.slice_at(4).end
    later = replace(work, project=live, now=lambda: end + timedelta(hours=5))
    text = Page(page_of(later)).text
    assert f"Made {end + timedelta(hours=5):%Y-%m-%d %H:%M} UTC" in text and "5.0 h behind the stream's clock" in text


def test_the_report_asset_shows_the_same_rows(ran: Ran) -> None:
    event = ran.instance.get_latest_materialization_event(REPORT)
    assert event is not None and event.asset_materialization is not None
    said, status = event.asset_materialization.metadata, status_of(ran.work)
    table = said["overview"]
    assert isinstance(table, dg.MarkdownMetadataValue) and table.md_str is not None
    rows = [line for line in table.md_str.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(status.students)
    for row, student in zip(rows, status.students, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[0] == f"✔ green {student.name}" and cells[1] == student.figures.version
        assert cells[4] == f"{gain(student.figures.gain, student.figures.gain_error)}, {student.figures.gain_says}"
    lines = [said[f"student/{student.name}"].value for student in status.students]
    for line, student in zip(lines, status.students, strict=True):
        assert str(line).startswith(f"✔ green: serves {student.figures.version}, data ") and student.next in str(line)
    assert list(said)[: len(lines)] == [f"student/{student.name}" for student in status.students]  # the worst on top
    counted = {word: said[f"exfm/status/{word}"].value for word in ("red", "yellow", "green", "grey")}
    assert sum(value for value in counted.values() if isinstance(value, int)) == len(status.students + status.others)
    run = ran.instance.get_run_records()[0].dagster_run.run_id
    assert f"by run {run[:8]}" in Page((ran.work.state.reports / "report.html").read_text()).text


def test_the_page_takes_the_place_of_the_one_before(work: Workspace) -> None:
    path = write_report(work)
    before = path.read_text()
    shutil.rmtree(work.state.release(work.project.students[0].name))
    assert write_report(work) == path and "nothing serves" in path.read_text() and "nothing serves" not in before
