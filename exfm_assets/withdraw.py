"""Taking back what a model learnt of a slice, or a slice of the log: ``exfm withdraw``, and the job ``withdraw``.

    exfm withdraw teacher/large 2026-01-09 --why "labels of the feed were flipped"
    exfm withdraw outcomes 2026-01-09 --why "a click farm"

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
    parser = argparse.ArgumentParser(
        prog="exfm withdraw", description="Take back what a model learnt of a slice, or a slice of the log."
    )
    parser.add_argument(
        "model", nargs="?", metavar="WHAT",
        help="teacher/<name>, student/<name>, impressions, outcomes or interactions; without: list what was withdrawn",
    )  # fmt: skip
    parser.add_argument("checkpoint", nargs="?", metavar="SLICE", help="key of the slice, or a checkpoint's version")
    parser.add_argument("--why", default="", help="kept with the withdrawal")
    parser.add_argument("--restore", action="store_true", help="let a slice of the log count again")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        if given.model is None:
            for line in [_line(each) for each in withdrawals(work)] or ["nothing was withdrawn"]:
                console.print(escape(line))
        elif given.checkpoint is None:
            raise DeclarationError("withdraw: say of which slice: exfm withdraw WHAT SLICE --why ...")
        elif given.restore:
            console.print(escape(restored_now(work, given.model, given.checkpoint, given.why)))
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
    """Withdraw, let releases go back, and say what it touched, a sentence each; again to finish it.

    Args:
        model: or a table of the log, whose slice ``checkpoint`` then is.

    Raises:
        DeclarationError: as ``withdraw`` and ``withdraw_log``.
    """
    if "/" in model:
        from pipeline.releases.withdrawing import withdraw

        withdrawal = withdraw(work, model, checkpoint, why=why)
        yield f"{_line(withdrawal)}. It learns nothing of this slice from now on"
    else:
        from pipeline.releases.withdrawing_log import withdraw_log

        withdrawal = withdraw_log(work, model, checkpoint, why=why)
        yield f"{_line(withdrawal)}. Its rows go to quarantine/{model}{_UNKNOWN.get(model, '')}"
        for name, since in withdrawal.teachers.items():
            yield f"  teacher/{name} learnt from it since {since}: it learns and scores those slices again"
    yield from _touched(work, withdrawal, instance)
    yield "  what is touched is made again by the automation, or by `exfm run` (`exfm run --plan` says what that is)"


_UNKNOWN = {"outcomes": "; labels whose windows reach into it are unknown, not 0"}


def _touched(work: Workspace, withdrawal: Withdrawal, instance: dg.DagsterInstance) -> Iterator[str]:
    """What a withdrawal touched, and the releases that go back."""
    from pipeline.releases.withdrawing import settle

    if withdrawal.predictions:
        first, last = withdrawal.predictions[0], withdrawal.predictions[-1]
        yield f"  predictions of {len(withdrawal.predictions)} slices, {first} to {last}, are scored again"
    if not (withdrawal.predictions or withdrawal.students or withdrawal.teachers):
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


def restored_now(work: Workspace, table: str, slice_key: str, why: str) -> str:
    """Let a slice of the log count again, and say so.

    Raises:
        DeclarationError: as ``restore_log``, and for models, which learn a slice again only from sound data.
    """
    from pipeline.releases.withdrawing_log import restore_log

    if "/" in table:
        raise DeclarationError(
            f"withdraw: {table}: only slices of the log are given back; a model was taken back for good, and goes on"
        )
    withdrawal = restore_log(work, table, slice_key, why=why)
    return f"{_line(withdrawal)}. What was made without it is made again by the automation, or by `exfm run`"


def _line(each: Withdrawal) -> str:
    version = f" ({each.version})" if each.version else ""
    line = f"{each.model} {each.slice}{version} was withdrawn at {each.at[:19]}: {each.why}"
    return f"{line}; given back at {each.restored[:19]}: {each.why_restored}" if each.restored else line


class Withdraw(dg.Config):
    """What to take back: ``teacher/<name>``, ``student/<name>`` or a table of the log; a slice or version; and why."""

    model: str
    checkpoint: str
    why: str


def withdraw_jobs(project: Project) -> list[dg.JobDefinition]:
    """``withdraw`` for the launchpad."""
    models = [f"teacher/{teacher.name}" for teacher in project.teachers]
    models += [f"student/{student.name}" for student in project.students]
    words = (
        "Take back what a model learnt of a slice, or a slice of the log: what it touched is made again, touched "
        "releases go back."
    )

    @dg.op(name="withdraw_checkpoint", description=words)
    def decide(context: dg.OpExecutionContext, config: Withdraw, work: dg.ResourceParam[Workspace]) -> None:
        for line in withdrawn_now(work, config.model, config.checkpoint, config.why, context.instance):
            context.log.warning(line)

    @dg.graph(name="withdraw", description=words)
    def one() -> None:
        decide()

    first = project.stream.slice_at(0).key
    given = {"model": [*models, "outcomes"][0], "checkpoint": first, "why": ""}
    config = dg.RunConfig(ops={"withdraw_checkpoint": {"config": given}})
    return [one.to_job(name="withdraw", description=words, config=config)]
