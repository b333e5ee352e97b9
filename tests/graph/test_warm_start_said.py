"""A model that gets more inputs goes on from what it has learnt: that is said, and that a closed log ends there."""

import io
from dataclasses import replace

from rich.console import Console

from exfm.project import Project
from exfm_assets.main_job import print_summary
from pipeline.workspace import Workspace
from tests.conftest import Ran


def _grown(project: Project) -> Project:
    student = project.students[0]
    grown = replace(student, inputs=(*student.inputs, "item_activity:convert_1d"))
    return replace(project, students=(grown, *project.students[1:]))


def _said(work: Workspace, project: Project) -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=200, soft_wrap=True, highlight=False)
    print_summary(console, project, work.state, failed=False)
    return [line for line in written.getvalue().splitlines() if "warm_start" in line]


def test_nothing_is_said_where_no_model_grew(ran: Ran) -> None:
    assert _said(ran.work, ran.work.project) == []


def test_later_slices_continue_it(ran: Ran) -> None:
    project = _grown(ran.work.project)
    (line,) = _said(ran.work, replace(project, stream=replace(project.stream, until=None)))
    assert line.startswith(f"student/{project.students[0].name}: what it learnt of ")
    assert "stands, later slices continue it with its new inputs (item_activity__convert_1d): Training(" in line


def test_of_a_closed_log_nothing_is_left_to_learn_from(ran: Ran) -> None:
    project = _grown(ran.work.project)
    stream = project.stream
    end = stream.slice_at(4).end
    (line,) = _said(ran.work, replace(project, stream=replace(stream, until=end)))
    assert (
        "stands, and the log ends there, so nothing has taught it its new inputs (item_activity__convert_1d): " in line
    )
    assert line.endswith("Training(warm_start=False) trains all again")
