"""The log read in from a terminal: ``exfm import``, and the first step of ``exfm run``.

    exfm import [--check] [--forget FILE]

Belongs here: the command, progress, what is said. Not here: reading files (pipeline/imports/).
"""

import argparse
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from exfm.errors import DeclarationError, choose_from
from exfm.load import load_project, load_state
from exfm.writing import StateError
from pipeline.imports import run
from pipeline.imports.entries import read_entries
from pipeline.imports.finding import tables_to_import
from pipeline.imports.importing import Import
from pipeline.tables import DataError
from pipeline.workspace import Workspace

PLAIN_SECONDS = 10.0  # between lines where there is no terminal to show a moving one
MEGABYTE = 1e6


def main(arguments: list[str] | None = None) -> int:
    """Read the log in, and give the exit status."""
    parser = argparse.ArgumentParser(prog="exfm import", description="Read the files of the project's log in.")
    parser.add_argument("--check", action="store_true", help="say which files would be read in, and why; read none")
    parser.add_argument("--forget", metavar="FILE", help="take a file that is gone out of the log, with its rows")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        if project.log is None:
            raise DeclarationError(
                "Project.log: None, so the log is in the canonical layout: there is nothing to import"
            )
        if given.check:
            for line in [f"{each.source.name}: {each.why}" for each in run.due(work)] or ["everything is read in"]:
                console.print(escape(line))
        elif given.forget is not None:
            console.print(escape(forget(work, given.forget)))
        else:
            import_log(console, work, always=True)
    except (DeclarationError, StateError, DataError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    except KeyboardInterrupt:
        console.print("[red]Stopped by Ctrl-C. What is read in stays: run it again to go on[/red]")
        return 130
    return 0


def forget(work: Workspace, name: str) -> str:
    """Take what was read of a file out of the log, if it is gone from the folder of files.

    Raises:
        DeclarationError: if no such file was read in, or it is still there.
    """
    entries = [entry for table in tables_to_import(work) for entry in read_entries(work.state.log, table).values()]
    choose_from("--forget", name, [entry.name for entry in entries], what="file that was read in")
    if (work.state.data / name).exists():
        raise DeclarationError(
            f"--forget: {name!r} is still in {work.state.data}, so it would be read in again: move it away first"
        )
    chosen = [entry for entry in entries if entry.name == name]
    for entry in chosen:
        Import(work.state.log, work.project.stream).forget(entry)
    return (
        f"{name}: {sum(entry.kept for entry in chosen):,} rows are no longer in the log; `exfm run` makes the rest good"
    )


def import_log(console: Console, work: Workspace, *, quiet: bool = False, always: bool = False) -> run.Account:
    """Read in what is new, with a bar where something takes long, and say what came of it.

    Args:
        quiet: only what needs attention; ``always``: also where nothing was new.

    Raises:
        DataError, StateError: as ``run.import_log``.
    """
    if quiet:
        account = run.import_log(work)
    else:
        with _Shown(console) as shown:
            account = run.import_log(work, shown.tell)
    for sentence in account.sentences() if always or account.read_in or account.needs_attention else ():
        if account.needs_attention:
            console.print(f"  [yellow]{escape(sentence)}[/yellow]")
        elif not quiet:
            console.print(f"  {escape(sentence)}")
    return account


class _Shown:
    """A bar over the bytes of all files on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console, self._since, self._said = console, time.monotonic(), time.monotonic()
        words = TextColumn("  imported_log {task.fields[file]}")
        rate = TextColumn("{task.fields[rate]}")
        columns = (words, BarColumn(), TextColumn("{task.percentage:3.0f} %"), rate, TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=1.0, file="", rate="")

    def __enter__(self) -> "_Shown":
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def tell(self, progress: run.Progress) -> None:
        """Show how far it is."""
        now = time.monotonic()
        rate = progress.done / max(now - self._since, 1e-3)
        name = f"{progress.source.name} ({progress.number + 1:,} of {progress.count:,} files)"
        self._bar.update(
            self._task, completed=progress.done, total=max(progress.all, 1), file=escape(name), rate=_rate(rate)
        )
        if not self._console.is_terminal and now - self._said >= PLAIN_SECONDS:
            self._said = now
            left = (progress.all - progress.done) / max(rate, 1.0)
            self._console.print(
                escape(f"  imported_log {name}: {progress.share:.0%}, {_rate(rate)}, about {left:.0f} s left")
            )


def _rate(bytes_a_second: float) -> str:
    """Many small files are read at some hundred kB/s, for each costs a little beside its rows."""
    fast = bytes_a_second >= MEGABYTE
    return f"{bytes_a_second / MEGABYTE:.0f} MB/s" if fast else f"{bytes_a_second / 1e3:.0f} kB/s"
