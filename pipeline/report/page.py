"""The status page: one HTML file with its charts inside, that opens anywhere and loads nothing.

Belongs here: what the template gets, writing it. Not here: figures (status.py, sections.py,
moved.py), charts (charts.py), layout
(page.html.jinja, page.css).
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import polars as pl
from markupsafe import Markup

from exfm.atomic_write import write_text
from exfm.learning import Student
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.summary import how, summary
from pipeline.report import charts, moved, sections, words
from pipeline.report.status import StudentStatus, status_of
from pipeline.report.vega import javascript
from pipeline.upkeep.ages import clock
from pipeline.upkeep.durations import NEWEST
from pipeline.workspace import Workspace

UI = "EXFM_UI"  # where Dagster's UI is, as a browser reaches it: assets and runs are links then
IN_TABLE = 30  # newest slices of a student that its table of figures has
WORST, DEAREST = 5, 8
MEANS = (
    ("rows", "rows", words.figure),
    *((f"NE {model}", f"ne_{model}", words.figure) for model in ("student", "control", "teacher", "best")),
    ("gain", "gain", words.percent), ("±", "gain_error", words.unsigned),
    ("transfer ratio", "transfer_ratio", words.figure),
    *(
        (f"{name} {model}", f"{metric}_{model}", words.figure)
        for name, metric in (("AUC", "auc"), ("gAUC", "gauc"), ("NDCG", "ndcg"), ("recall", "recall"))
        for model in ("student", "control")
    ),
    ("calibration", "calibration_student", words.figure),
)  # fmt: skip
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Links:
    """Into Dagster's UI; empty where nobody said where that is."""

    ui: str

    @classmethod
    def from_environment(cls) -> "Links":
        """Only http and https: anything else in a link could run code."""
        named = os.environ.get(UI, "").strip().rstrip("/")
        return cls(named if named.startswith(("http://", "https://")) else "")

    def asset(self, name: str) -> str:
        return f"{self.ui}/assets/{quote(name)}" if self.ui else ""

    def events(self, name: str) -> str:
        return f"{self.ui}/assets/{quote(name)}?view=events" if self.ui else ""

    def run(self, run_id: str | None) -> str:
        return f"{self.ui}/runs/{quote(run_id)}" if self.ui and run_id else ""


@dataclass(frozen=True)
class StudentView:
    """One student on the page.

    Args:
        rows: ``differences``, newest first, as many as the table shows; ``slices`` how many there are.
        charts: by the id of their place.
    """

    status: StudentStatus
    how: str
    taught: bool
    calibration_tone: str
    spark: charts.Sparkline | None
    rows: list[dict[str, Any]]
    slices: int
    charts: dict[str, charts.Spec]


def write_report(work: Workspace, run_id: str | None = None) -> Path:
    """Write ``report.html`` among the project's reports, in one step, and give its path back.

    Args:
        run_id: of the run that makes it, to be linked.
    """
    path = work.state.reports / "report.html"
    write_text(path, page_of(work, run_id))
    return path


def page_of(work: Workspace, run_id: str | None = None) -> str:
    """The page as text."""
    summed = summary(work)
    status = status_of(work, summed)
    evaluations = {student.name: evaluations_of(work, student) for student in work.project.students}
    views = [_view(work, each, evaluations[each.name]) for each in status.students]
    newest = work.table("impressions").newest(work.project.stream)
    specs = {place: spec for view in views for place, spec in view.charts.items()}
    return _template().render(
        project=work.project.name,
        made=work.now(),
        run=run_id,
        newest=newest,
        behind=None if newest is None else max(clock(work.project.stream, work.now()) - newest.end, timedelta(0)),
        status=status,
        means=summed.to_dicts(),
        shown_means={name for _, name, _ in MEANS if summed.height and summed[name].is_not_null().any()},
        students=views,
        teachers=sections.teachers(work, summed),
        findings=moved.findings(work, evaluations),
        inputs=moved.moved_inputs(work, evaluations),
        arms=moved.arms(work),
        quarantined=sections.quarantined(work),
        look_back=work.project.upkeep.look_back,
        psi_limit=work.project.drift.psi,
        segments=sections.segments(work, summed),
        worst=WORST,
        dearest=DEAREST,
        costs=sections.costs(work),
        cost_slices=NEWEST,
        before=moved.BEFORE,
        links=Links.from_environment(),
        charts=specs,
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        vega=Markup(javascript()) if specs else "",
    )


@cache
def _template() -> jinja2.Template:
    """Everything that comes from the log or the declaration is escaped; a name that is not there is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in ("figure", "percent", "gain", "seconds", "age", "moment", "gain_tone", "gate_tone")
    }
    environment.globals |= {"SIGNS": words.SIGNS, "COLOURS": words.COLOURS, "MEANS": MEANS}
    return environment.get_template("page.html.jinja")


def _view(work: Workspace, status: StudentStatus, evaluations: pl.DataFrame) -> StudentView:
    student, figures = work.project.student(status.name), status.figures
    rows = charts.differences(evaluations, figures.gain_error)
    drawn = _charts(work, student, evaluations, rows)
    off = words.known(figures.calibration)
    return StudentView(
        status,
        how=how(work.project, student),
        taught=student.is_taught,
        calibration_tone="warn" if off is not None and abs(off - 1) > work.project.drift.calibration_error else "",
        spark=charts.sparkline((-rows["difference"]).to_list()) if student.is_taught else None,
        rows=rows.reverse().head(IN_TABLE).to_dicts(),
        slices=rows.height,
        charts=drawn,
    )


def _charts(
    work: Workspace, student: Student, evaluations: pl.DataFrame, rows: pl.DataFrame
) -> dict[str, charts.Spec]:  # fmt: skip
    about: dict[str, Any] = {"colours": charts.ON_PAGE, "width": "container", "name": student.name}
    drawn = {}
    if rows.height and student.is_taught:
        drawn[f"difference-{student.name}"] = charts.difference_chart(rows, **about)
    if evaluations.filter(pl.col("model") == "student", pl.col("ne").is_finite()).height:
        drawn[f"ne-{student.name}"] = charts.ne_chart(evaluations, **about)
    if (spec := moved.psi_of_findings(work, student, **about)) is not None:
        drawn[f"psi-{student.name}"] = spec
    return drawn
