"""The HTML report: one file with its plots inside, that opens anywhere.

Belongs here: laying out the summary, the plots and what to know when reading them.
Not here: the numbers (evaluation/summary.py), drawing (plots.py).
"""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from exfm.atomic_write import write_text
from pipeline.drift.report import drifted, stored_drift
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.summary import summary
from pipeline.releases.release import current_release
from pipeline.releases.verdict import verdict_of
from pipeline.report.plots import draw_drift, draw_over_slices
from pipeline.workspace import Workspace

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-top: 1px solid #ddd; padding-top: 1rem }
table { border-collapse: collapse; font-size: 13px; width: 100% } th { text-align: left; border-bottom: 2px solid #ccc }
td, th { padding: .3rem .5rem } td { border-bottom: 1px solid #eee }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.good { color: #1a7f37 } .bad { color: #cf222e } .note { color: #666; font-size: 13px } img { max-width: 100% }
"""
COLUMNS = (
    ("student", "student", None), ("surface", "surface", None), ("task", "task", None),
    ("distillation", "distillation", None), ("slices", "slices", "{:,}"), ("since", "since slice", None),
    ("rows", "rows", "{:,}"),
    ("ne_student", "NE student", "{:.4f}"), ("ne_control", "NE control", "{:.4f}"),
    ("ne_teacher", "NE teacher", "{:.4f}"),
    ("ne_best", "NE best", "{:.4f}"), ("gain", "gain", "{:+.2%}"), ("gain_error", "2 standard errors", "±{:.2%}"),
    ("transfer_ratio", "transfer ratio", "{:.2f}"),
    ("auc_student", "AUC student", "{:.4f}"), ("auc_control", "AUC control", "{:.4f}"),
    ("calibration_student", "calibration", "{:.3f}"), ("released", "released slice", None),
)  # fmt: skip
READING = (
    "Each slice is judged by the checkpoint that would have been serving when it began: one whose labels had closed "
    "by then. The control is the same student under the same seed, learning from labels alone; the teacher is judged "
    "by its stored predictions. All models of a row are judged on the same impressions. NE is normalised entropy "
    "(lower is better), gain its relative fall against the control, transfer ratio the share of the teacher's lead "
    "that reached the student. Means are over judged impressions, from the first slice that a checkpoint of enough "
    "labelled rows (Gate.rows) could serve. The error of a gain comes from leaving out one slice after the other; it "
    "says nothing of other seeds: with one, differences of a few tenths of a percent may be noise."
)


def write_report(work: Workspace) -> Path:
    """Write ``report.html`` among the project's reports, in one step, and give its path back."""
    path = work.state.reports / "report.html"
    write_text(path, _page(work))
    return path


def _page(work: Workspace) -> str:
    project, rows = work.project, summary(work)
    shown = [column for column in COLUMNS if column[0] != "ne_best" or rows["ne_best"].is_not_null().any()]
    body = [
        f"<h1>exfm: project {html.escape(project.name)}</h1>",
        f"<p class=note>{READING}</p>",
        _table(rows, shown),
        "<h2>Drift and releases</h2>",
        _upkeep(work),
    ]
    for student in project.students:
        evaluations = evaluations_of(work, student)
        body.append(f"<h2>{html.escape(student.name)}</h2>")
        for metric, title in (
            ("ne", "normalised entropy (lower is better)"),
            ("calibration", "calibration (1 is exact)"),
        ):
            models = ("student", "control", "teacher", "best") if metric == "ne" else ("student", "control", "teacher")
            png = draw_over_slices(evaluations, metric, f"{student.name}: {title}", models=models)
            body.append(
                f'<img alt="{metric} of {student.name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            )
        png = draw_drift(work, student)
        body.append(f'<img alt="drift of {student.name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">')
    head = f"<meta charset=utf-8><title>exfm: {html.escape(project.name)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>"


def _table(rows: pl.DataFrame, columns: Sequence[tuple[str, str, str | None]]) -> str:
    head = "".join(f"<th class={'n' if form else 't'}>{title}</th>" for _, title, form in columns)
    lines = []
    for row in rows.iter_rows(named=True):
        cells = "".join(_cell(name, row[name], form) for name, _, form in columns)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(name: str, value: object, form: str | None) -> str:
    if value is None:
        return "<td class=n>–</td>"
    tone = _tone(float(str(value))) if name in ("gain", "transfer_ratio") else ""
    text = form.format(value) if form else html.escape(str(value))
    return f'<td class="{"n" if form else "t"}{tone}">{text}</td>'


def _tone(value: float) -> str:
    return " good" if value > 0 else " bad" if value < 0 else ""


def _upkeep(work: Workspace) -> str:
    report = stored_drift(work)
    lines = []
    for student in work.project.students:
        release = current_release(work, student)
        served = f"{release.number}: {release.version} (slice {release.slice})" if release else "nothing yet"
        gate, hold = verdict_of(work, student), release.hold if release else ""
        served = f"{served}; nothing newer, for: {hold or gate.reason}" if hold or not gate.passed else served
        drift = None if report is None else drifted(report, f"student/{student.name}")
        tone = "bad" if drift is not None else "good"
        why = html.escape("not looked at yet" if report is None else f"drifted: {drift}" if drift else "none")
        lines.append(f"<tr><td>{student.name}</td><td>{html.escape(served)}</td><td class={tone}>{why}</td></tr>")
    return f"<table><tr><th>student</th><th>served</th><th>drift</th></tr>{''.join(lines)}</table>"
