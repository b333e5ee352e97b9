"""``exfm status``: everything that upkeep keeps, worst first, for somebody on call.

Belongs here: the command, its words, runs under way. Not here: gathering (pipeline/report/status.py).
"""

import argparse
import textwrap
from collections.abc import Iterator
from contextlib import chdir
from datetime import UTC, datetime

import dagster as dg
from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.state import ROOT
from exfm.writing import StateError
from exfm_assets.home import dagster_home
from pipeline.report.status import Status, status_of
from pipeline.report.words import COLOURS
from pipeline.workspace import Workspace

SIGNS = {"bad": "[red]●[/red]", "warn": "[yellow]●[/yellow]", "good": "[green]●[/green]", "none": "[dim]○[/dim]"}
UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.QUEUED]


def main(arguments: list[str] | None = None) -> int:
    """Print it; the exit status is 1 where anything is red, so that a script can ask."""
    parser = argparse.ArgumentParser(prog="exfm status", description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the status page, and say where it is")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        status = status_of(work)
        with chdir(ROOT), dg.DagsterInstance.from_config(str(dagster_home())) as instance:
            runs = list(runs_under_way(instance))
        page = None
        if chosen.page:
            from pipeline.report.page import write_report  # Jinja2: .1 s that the screen needs nothing of

            page = write_report(work)
    except (DeclarationError, StateError, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    width = console.width if console.is_terminal else None
    for line in lines_of(status, runs, width):
        console.print(line)
    if page is not None:
        console.print(f"page: {escape(str(page))}")
    return 1 if status.tone == "bad" else 0


def lines_of(status: Status, runs: list[str], width: int | None = None) -> Iterator[str]:
    """The screen, in rich's markup.

    Args:
        width: of the terminal; ``None``: there is none, so lines are whole, and colours are words.
    """
    for student in status.students:
        yield f"{_sign(student.shown, width)} student [bold]{escape(student.name)}[/bold]"
        for what in ("serves", "quality", "gate", "drift", "next"):
            yield _wrapped(f"    {what + ':':9}", getattr(student, what), width)
    for tone, line in status.others:
        yield f"{_sign(tone, width)} " + _wrapped("", line, None if width is None else width - 2)
    yield from (_wrapped("  ", line, width) for line in (*status.notes, *(f"run {run}" for run in runs)))
    if not runs:
        yield "  no run is under way"


def _sign(tone: str, width: int | None) -> str:
    return f"{COLOURS[tone]}:" if width is None else SIGNS[tone]


def _wrapped(indent: str, text: str, width: int | None) -> str:
    """A line of a terminal's width; what goes on is below where it began."""
    if width is None:
        return indent + escape(text)
    later = " " * max(len(indent), 2)
    return escape(textwrap.fill(text, max(width, 40), initial_indent=indent, subsequent_indent=later))


def runs_under_way(instance: dg.DagsterInstance) -> Iterator[str]:
    """A sentence each."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY)):
        run = record.dagster_run
        first = run.tags.get("dagster/asset_partition_range_start", run.tags.get("dagster/partition"))
        last = run.tags.get("dagster/asset_partition_range_end", first)
        slices = "" if first is None else f" of {first}" if first == last else f" of {first}...{last}"
        what = f"{len(run.asset_selection)} assets" if run.asset_selection else run.job_name
        began = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else None
        since = f"since {began:%H:%M:%S} UTC" if began else "not begun yet"
        yield f"{run.run_id[:8]}: {what}{slices}, {run.status.value.lower()} {since}"
