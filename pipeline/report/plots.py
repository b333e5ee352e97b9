"""Charts as pictures in Markdown: what Dagster shows in an asset's metadata.

Belongs here: which chart of which student. Not here: charts (charts.py), drawing them (vega.py), the page (page.py).
"""

from collections.abc import Iterator, Mapping, Sequence

from exfm.learning import Student
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.summary import gain_error_of
from pipeline.report.charts import IN_PICTURE, difference_chart, differences, lag_chart, ne_chart
from pipeline.report.moved import psi_of_findings
from pipeline.report.vega import picture
from pipeline.workspace import Workspace

WIDTH = 640


def ne_plot(work: Workspace, student: Student) -> str:
    """NE of a student against its control over the slices so far; of one that is its own control, its NE."""
    evaluations = evaluations_of(work, student)
    rows = differences(evaluations, gain_error_of(evaluations))
    if student.is_taught and rows.height:
        chart = difference_chart(rows, IN_PICTURE, width=WIDTH, name=student.name)
        return picture(chart, "NE minus its control's over slices, in percent: below 0 the student is better")
    return picture(ne_chart(evaluations, IN_PICTURE, width=WIDTH, name=student.name), "NE over slices")


def drift_plots(work: Workspace) -> Iterator[tuple[str, str]]:
    """Of each student of whom something was found: its name, and PSI of its inputs with the findings."""
    for student in work.project.students:
        chart = psi_of_findings(work, student, colours=IN_PICTURE, width=WIDTH, name=student.name)
        if chart is not None:
            yield student.name, picture(chart, "drift over slices")


def lag_plot(name: str, lags: Sequence[int], lines: Mapping[str, Sequence[float]]) -> str:
    """NE of a student, its teacher and its control by the teacher's lag."""
    return picture(lag_chart(lags, lines, IN_PICTURE, name), f"{name}: NE against the teacher's lag")
