"""The main job from a terminal: materialise everything over a range of slices, show progress, print the table.

    exfm run [--plan] [--range A...B] [--select SELECTION | --student NAME]

Belongs here: what ``make run`` starts. Not here: what it would make (plan.py), what it shows on the way (progress.py)
and at the end (report/terminal.py), or anything that the graph itself does: the work is one ordinary
``dagster asset materialize``, whose command is printed.
"""

import argparse
import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError, choose_from
from exfm.load import PATH, for_children, load_project, load_state
from exfm.names import student_group
from exfm.project import Project
from exfm.state import ROOT, State, state_root
from exfm.stream import Slice
from exfm.writing import StateError, unwritable
from exfm_assets.home import dagster_home
from exfm_assets.imports import import_log
from exfm_assets.plan_words import plan_lines, summary_line
from exfm_assets.ranges import range_to_run
from exfm_assets.ready_process import ReadyProcess
from pipeline.tables import DataError
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from exfm_assets.plan import Plan

SUMS_UP = ("student_progress", "release_gates", "drift_report", "report")
NE_ABOVE_ONE = "what helps is in docs/learning.md, When NE is above 1"
NO_LEAD = "what helps is in docs/quality.md, What if my teacher does not lead?"
EVERYDAY = 'not group:"studies"'  # a study replays the whole stream: by hand, when its question is asked


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and give the exit status of the materialisation."""
    parser = argparse.ArgumentParser(prog="exfm run", description="Run the main job.")
    parser.add_argument(
        "--range",
        help="slices, first...last; default: all that ended and may lack something",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--select", default=EVERYDAY, help="Dagster asset selection, default all but studies")
    choice.add_argument("--student", help="one declared student alone, on what is stored already")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the table")
    parser.add_argument("--plan", action="store_true", help="say what would be made, why, and how long it takes; stop")
    chosen = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no sign for ± shows another
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 240  # a log or a pipe has no width of its own
    try:
        project = load_project()
        state = load_state(project)
        select = of_student(project, chosen.student) if chosen.student is not None else chosen.select
        work = Workspace(project, state)
        if project.log is not None and not chosen.plan and chosen.student is None:
            import_log(console, work, quiet=chosen.quiet)  # so that the plan is of what the files say now
        slices = range_to_run(work, chosen.range, stored_only=chosen.student is not None)
        started = time.perf_counter()
        if chosen.plan:
            _print_plan(console, _planned(work, select, slices))
            return 0
        status, log = _run(console, work, select, slices, quiet=chosen.quiet)
        print_summary(console, project, state, failed=bool(status))
    except KeyboardInterrupt:
        console.print("[red]Stopped by Ctrl-C. What is stored stays: run it again to go on[/red]")
        return 130
    except (DeclarationError, StateError, DataError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    except OSError as error:
        where = Path(error.filename) if error.filename else state_root()
        console.print(f"[red]{escape(unwritable(where, error))}[/red]")
        return 2
    if status and log is not None:
        console.print(f"[red]The run failed; its whole log is {_short(log)}[/red]")
        return status if status > 0 else 128 - status  # as a shell reports a process that a signal ended
    console.print(
        f"{time.perf_counter() - started:.0f} s. Report: {_short(state.reports / 'report.html')}. Look around: exfm ui"
    )
    return 0


def _run(
    console: Console, work: Workspace, select: str, slices: list[Slice], *, quiet: bool
) -> tuple[int, Path | None]:
    """Plan, and materialise what the plan says: the exit status, and where the run's log is if there was one."""
    log = work.state.folder / "logs" / f"run-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as log_file:
        process = ReadyProcess(dagster_home(), for_children(), log_file.fileno())
        plan = None
        try:
            plan = _planned(work, select, slices)
        finally:
            if plan is None or plan.is_empty:
                process.dismiss()
                log.unlink()
        if plan.is_empty:
            console.print(escape(next(plan_lines(plan))))
            return 0, None
        return _materialise(console, process, log, select, plan, quiet=quiet), log


def _print_plan(console: Console, plan: "Plan") -> None:
    for line in plan_lines(plan):
        console.print(escape(line))


def of_student(project: Project, name: str) -> str:
    """The selection of one student, its control, evaluation and release, and of what sums up.

    Raises:
        DeclarationError: if no such student is declared.
    """
    choose_from("--student", name, [student.name for student in project.students], what="student")
    mirrored = ("mlflow",) if project.mlflow is not None else ()
    parts = [f'group:"{student_group(name)}"', *(f'key:"{key}"' for key in ("feature_registry", *SUMS_UP, *mirrored))]
    return " or ".join(parts)


def _planned(work: Workspace, select: str, slices: list[Slice]) -> "Plan":
    """What a selection over some slices would make.

    Raises:
        DeclarationError: if no asset is selected: Dagster would materialise everything.
    """
    import dagster as dg  # 1.2 s

    from exfm_assets.definitions import build_defs
    from exfm_assets.plan import Planner, recorded_by

    graph = build_defs(work).resolve_asset_graph()
    try:
        chosen = dg.AssetSelection.from_string(select).resolve(graph)
    except dg.DagsterError as error:
        raise DeclarationError(
            f"select: {select!r} is no selection of assets ({error}): see the asset graph"
        ) from error
    if not chosen:
        raise DeclarationError(f"select: {select!r} selects no asset: name one of the asset graph, as key:labels")
    home = dagster_home()
    # The committed home's paths are relative to it; a user's own to where they are.
    with chdir(ROOT), dg.DagsterInstance.from_config(str(home)) as instance:
        recorded = recorded_by(instance, work, graph)
    return Planner(work, graph, recorded).plan(slices, chosen)


def _materialise(console: Console, process: ReadyProcess, log: Path, select: str, plan: "Plan", *, quiet: bool) -> int:
    import dagster as dg

    from exfm_assets.pace import Pace
    from exfm_assets.progress import Progress, follow
    from exfm_assets.running import RunLocks

    command = ["dagster", "asset", "materialize", "-m", "exfm_assets.definitions", "--select", select]
    command += ["--partition-range", "...".join(slice_.key for slice_ in plan.range)]
    home = dagster_home()
    variables = {name: value for name, value in for_children().items() if os.environ.get(name, "").strip()}
    variables = {"DAGSTER_HOME": str(home), **variables}
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items() if name != PATH]
    console.print(escape(" ".join([*words, shlex.join(command)])))
    if not quiet:
        console.print(f"  to be made: {escape(summary_line(plan))} (exfm run --plan says why)")
    progress = Progress(console, quiet, Pace([slice_.key for slice_ in plan.range_slices], plan.expected))
    process.run(command)
    try:
        os.chdir(ROOT)  # the committed home's paths are relative to it
        with dg.DagsterInstance.from_config(str(home)) as instance:
            locks = RunLocks.of(instance)
            run = follow(console, progress, instance, lambda: locks.run_of(process.pid), process.is_over)
    finally:
        # Ctrl-C reaches the child too; it is given time to end its run cleanly.
        code = process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        console.print(f"[red]The run's process was ended by {name}. What is stored stays: run it again to go on[/red]")
    elif code and run is None:
        console.print(f"[red]{escape(_last_error(log))}[/red]")
    return code


def _last_error(log: Path) -> str:
    """The last error of a process that never started its run."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if "Error" in line.partition(":")[0] and "Materialization failed" not in line]
    return next(iter(errors), lines[-1] if lines else "dagster said nothing")


def print_summary(console: Console, project: Project, state: State, *, failed: bool) -> None:
    """The table of students, and around it what a person should know.

    Args:
        failed: then there is no table where nothing was judged, for why is said already.
    """
    from pipeline.evaluation.summary import summary
    from pipeline.report.terminal import print_table
    from pipeline.upkeep.warm_starts import warm_starts
    from pipeline.verify.tables_current import lines_of

    work = Workspace(project, state)
    for line in lines_of(work):
        console.print(f"[yellow]{escape(line)}[/yellow]")
    for line in warm_starts(work).values():
        console.print(f"[yellow]{escape(line)}[/yellow]")
    rows = summary(work)
    if not rows.height or (failed and not rows["slices"].sum()):
        return  # nothing was judged, and why is said above
    title = f"{project.name}: served checkpoints over judged impressions (NE: lower is better; ±: 2 standard errors)"
    print_table(console, rows, title)
    for row in rows.iter_rows(named=True):
        for line in remarks(row):
            console.print(escape(line), style="red" if NE_ABOVE_ONE in line else None)


def remarks(row: Mapping[str, Any]) -> Iterator[str]:
    """What a person should know of a student beside its row of the table."""
    if row["not_released"]:
        yield f"{row['student']}: not released: {row['not_released']}"
    if (row["ne_student"] or 0.0) > 1:
        worse = f"NE {row['ne_student']:.4f} is above 1: it predicts worse than a constant would"
        yield f"{row['student']}: {worse}; {NE_ABOVE_ONE}"
    teacher, control = row["ne_teacher"], row["ne_control"]
    if row["gain"] is not None and teacher is not None and control is not None and teacher >= control:
        behind = f"its teacher (NE {teacher:.4f}) does not lead its control ({control:.4f})"
        yield f"{row['student']}: {behind}, so there is no lead to transfer; {NO_LEAD}"


def _short(path: Path) -> str:
    """A path as seen from where the command was given."""
    here = Path(os.environ.get(PATH, "").strip() or ROOT)
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


if __name__ == "__main__":
    sys.exit(main())
