"""Taking back what a model learnt of a slice: ``exfm withdraw``, and the job ``withdraw`` in Dagster's UI.

    exfm withdraw teacher/large 2026-01-09 --why "labels of the feed were flipped"

Belongs here: the command, the job, what is said. Not here: what is touched (pipeline/releases/withdrawing.py), making
it again (the automation, or ``exfm run``).
"""

import argparse
from collections.abc import Iterator
from contextlib import chdir

import dagster as dg
from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.project import Project
from exfm.state import ROOT
from exfm.writing import StateError
from exfm_assets.home import dagster_home
from exfm_assets.releases import materialization
from pipeline.slices.withdrawals import Withdrawal, withdrawals
from pipeline.workspace import Workspace


def main(arguments: list[str] | None = None) -> int:
    """Withdraw, and give the exit status."""
    parser = argparse.ArgumentParser(prog="exfm withdraw", description="Take back what a model learnt of a slice.")
    parser.add_argument("model", nargs="?", help="teacher/<name> or student/<name>; without: list what was withdrawn")
    parser.add_argument("checkpoint", nargs="?", help="its version, or the key of its slice")
    parser.add_argument("--why", default="", help="kept with the withdrawal")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        if given.model is None:
            for line in [_line(each) for each in withdrawals(work)] or ["nothing was withdrawn"]:
                console.print(escape(line))
        elif given.checkpoint is None:
            raise DeclarationError("withdraw: say which checkpoint: exfm withdraw MODEL CHECKPOINT --why ...")
        else:
            with chdir(ROOT), dg.DagsterInstance.from_config(str(dagster_home())) as instance:
                for line in withdrawn_now(work, given.model, given.checkpoint, given.why, instance):
                    console.print(escape(line))
    except (DeclarationError, StateError, ValueError) as error:  # DataError, CheckpointError
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    return 0


def withdrawn_now(
    work: Workspace, model: str, checkpoint: str, why: str, instance: dg.DagsterInstance
) -> Iterator[str]:
    """Withdraw a checkpoint, let releases go back, and say what it touched, a sentence each; again to finish it.

    Raises:
        DeclarationError: as ``withdraw``.
    """
    from pipeline.releases.withdrawing import settle, withdraw

    withdrawal = withdraw(work, model, checkpoint, why=why)
    yield f"{_line(withdrawal)}. It learns nothing of this slice from now on"
    if withdrawal.predictions:
        first, last = withdrawal.predictions[0], withdrawal.predictions[-1]
        yield f"  predictions of {len(withdrawal.predictions)} slices, {first} to {last}, are scored again"
    if not withdrawal.predictions and not withdrawal.students:
        yield "  nothing came from it yet: no prediction, and no student"
    declared = {student.name for student in work.project.students}  # one may be gone since, where it is typed again
    for name, since in withdrawal.students.items():
        if name not in declared:
            continue
        yield f"  student/{name} learnt from it since {since}: it learns those slices again"
        touched = settle(work, work.project.student(name))
        if touched.is_touched and touched.now is not None:
            yield f"  student/{name} serves release {touched.now.number} on, which it touched: no older one is whole"
        elif touched.now is not None and touched.now != touched.was:
            instance.report_runless_asset_event(materialization(work.project.student(name), touched.now))
            assert touched.was is not None
            yield f"  student/{name} serves release {touched.now.number} again, in place of {touched.was.number}"
    yield "  what is touched is made again by the automation, or by `exfm run` (`exfm run --plan` says what that is)"


def _line(each: Withdrawal) -> str:
    return f"{each.model} {each.slice} ({each.version}) was withdrawn at {each.at[:19]}: {each.why}"


class Withdraw(dg.Config):
    """What to take back: ``teacher/<name>`` or ``student/<name>``, a version or slice, and why."""

    model: str
    checkpoint: str
    why: str


def withdraw_jobs(project: Project) -> list[dg.JobDefinition]:
    """``withdraw`` for the launchpad."""
    models = [f"teacher/{teacher.name}" for teacher in project.teachers]
    models += [f"student/{student.name}" for student in project.students]
    if not models:
        return []
    words = "Take back what a model learnt of a slice: what it touched is made again, touched releases go back."

    @dg.op(name="withdraw_checkpoint", description=words)
    def decide(context: dg.OpExecutionContext, config: Withdraw, work: dg.ResourceParam[Workspace]) -> None:
        for line in withdrawn_now(work, config.model, config.checkpoint, config.why, context.instance):
            context.log.warning(line)

    @dg.graph(name="withdraw", description=words)
    def one() -> None:
        decide()

    first = project.stream.slice_at(0).key
    given = {"model": models[0], "checkpoint": first, "why": ""}
    config = dg.RunConfig(ops={"withdraw_checkpoint": {"config": given}})
    return [one.to_job(name="withdraw", description=words, config=config)]
