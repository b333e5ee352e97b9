"""The main job from a terminal: materialise everything over a range of slices, show progress, print the table.

    python -m exfm_assets.main_job [--range A...B] [--select SELECTION]

Belongs here: what ``make run`` shows. Not here: anything that the graph itself does: the work is one ordinary
``dagster asset materialize``, whose command is printed.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exfm_assets.home import dagster_home
from projects.errors import DeclarationError
from projects.load import load_project, load_state
from projects.project import Project
from projects.state import ROOT, State

EVERYDAY = 'not group:"studies"'  # a study replays the whole stream: by hand, when its question is asked
_STEP = re.compile(r" - (?P<step>\w+) - (?P<event>STEP_START|STEP_SUCCESS|STEP_FAILURE) - ")
_SAID = re.compile(r" - dagster - (?P<level>INFO|WARNING|ERROR) - \S+ - \S+ - (?P<step>\w+) - (?P<said>.*)$")
_ERROR = re.compile(
    r"^(?:[\w.]+\.)?(?:DataError|DeclarationError|CheckpointError|LearningError|Failure|\w*Error): (?P<said>.+)"
)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and give the exit status of the materialisation."""
    parser = argparse.ArgumentParser(prog="python -m exfm_assets.main_job", description="Run the main job.")
    parser.add_argument("--range", help="slices, first...last; default: the whole closed log, or the last 14 slices")
    parser.add_argument("--select", default=EVERYDAY, help="Dagster asset selection, default all but studies")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the table")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 170  # a log or a pipe has no width of its own
    try:
        project = load_project()
        state = load_state(project)
        slices = whole_range(project, chosen.range)
    except DeclarationError as refused:
        console.print(f"[red]{refused}[/red]")
        return 2
    started = time.perf_counter()
    status, log = _materialise(console, state, chosen.select, slices, quiet=chosen.quiet)
    if status:
        console.print(f"[red]The run failed; its whole log is {_short(log)}[/red]")
        return status
    _print_summary(console, project, state)
    console.print(
        f"{time.perf_counter() - started:.0f} s. Report: {_short(state.reports / 'report.html')}. Look around: make ui"
    )
    return 0


def whole_range(project: Project, asked: str | None) -> str:
    """The slices to run, as Dagster writes a range."""
    stream = project.stream
    if asked:
        first, _, last = asked.partition("...")
        return f"{stream.slice_of(first).key}...{stream.slice_of(last or first).key}"
    closed = list(stream.slices(stream.first_slice, min(stream.until or datetime.now(UTC), datetime.now(UTC))))
    ended = [piece for piece in closed if piece.end <= datetime.now(UTC)]
    if not ended:
        raise DeclarationError(f"Stream.first_slice: no slice since {stream.first_slice} has ended yet: start earlier")
    oldest = ended[0] if stream.until else ended[-min(14, len(ended))]
    return f"{oldest.key}...{ended[-1].key}"


def _materialise(console: Console, state: State, select: str, slices: str, *, quiet: bool) -> tuple[int, Path]:
    command = ["dagster", "asset", "materialize", "-m", "exfm_assets.definitions", "--select", select]
    command += ["--partition-range", slices]
    home = dagster_home()
    console.print(f"DAGSTER_HOME={_short(home)} " + shlex.join(command))
    log = state.folder / "logs" / f"run-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    executable = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    with log.open("w", encoding="utf-8") as kept, console.status("starting") as status:
        process = subprocess.Popen(
            executable, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT
        )
        assert process.stdout is not None
        progress = Progress(console, quiet)
        try:
            for line in process.stdout:
                kept.write(line)
                status.update(progress.read(line.rstrip("\n")))
        finally:
            # Ctrl-C reaches the child too; it is given time to end its run cleanly.
            code = process.wait()
    progress.close(code)
    return code, log


class Progress:
    """Reads Dagster's log lines and says what matters of them: steps with their time, warnings, the error."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        self.started: dict[str, float] = {}
        self.error = ""
        self.now = "starting"

    def read(self, line: str) -> str:
        """Take one line; gives back the text of the status line."""
        if (step := _STEP.search(line)) is not None:
            self._step(step["step"], step["event"])
        elif (said := _SAID.search(line)) is not None and not said["step"].startswith("check_"):
            if said["level"] == "INFO":
                self.now = said["said"]
            elif not self.quiet:
                self.console.print(f"  [yellow]{said['said']}[/yellow]")
        elif (error := _ERROR.match(line.strip())) is not None and "Materialization failed" not in line:
            self.error = error["said"]
        return self.now[:160]

    def _step(self, name: str, event: str) -> None:
        if event == "STEP_START":
            self.started[name] = time.perf_counter()
            self.now = name
            return
        seconds = time.perf_counter() - self.started.get(name, time.perf_counter())
        if event == "STEP_FAILURE":
            self.console.print(f"  [red]{name} failed after {seconds:.1f} s[/red]")
        elif not self.quiet and not name.startswith("check_"):
            self.console.print(f"  {name:<28} {seconds:7.1f} s")

    def close(self, code: int) -> None:
        if code and self.error:
            self.console.print(f"[red]{self.error}[/red]")


def _print_summary(console: Console, project: Project, state: State) -> None:
    from exfm_assets.learning.summary import summary
    from exfm_assets.resources import Workspace

    rows = summary(Workspace(project, state))
    table = Table(
        title=f"{project.name}: served checkpoints, mean over slices (NE: lower is better)", title_justify="left"
    )
    columns = (
        ("student", None), ("distillation", None), ("slices", "{:,}"), ("ne_student", "{:.4f}"),
        ("ne_control", "{:.4f}"), ("ne_teacher", "{:.4f}"), ("ne_best", "{:.4f}"), ("gain", "{:+.2%}"),
        ("transfer_ratio", "{:.2f}"), ("auc_student", "{:.4f}"), ("auc_control", "{:.4f}"),
        ("calibration_student", "{:.3f}"), ("released", None),
    )  # fmt: skip
    narrow = console.width < 150
    shown = [
        (name, form)
        for name, form in columns
        if rows[name].is_not_null().any() and not (narrow and name.startswith(("auc", "calibration", "distil", "ne_b")))
    ]
    for name, form in shown:
        table.add_column(name.replace("_", " "), justify="right" if form else "left", no_wrap=not form)
    for row in rows.iter_rows(named=True):
        table.add_row(*(_shown(row[name], form) for name, form in shown))
    console.print(table)


def _shown(value: object, form: str | None) -> str:
    return "–" if value is None else form.format(value) if form else str(value)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
