"""What a person does about releases: ``exfm releases``, and the same as jobs in Dagster's UI.

    exfm releases list|show|compare|promote|rollback|unpin STUDENT ...

Belongs here: the command, the jobs, the record of a decision in Dagster. Not here: the decisions (pipeline/releases/),
releases by the gate (assets/releases.py).
"""

import argparse
import json
from collections.abc import Callable
from contextlib import chdir
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from exfm.errors import DeclarationError
from exfm.learning import Student
from exfm.load import load_project, load_state
from exfm.project import Project
from exfm.state import ROOT
from exfm.writing import StateError
from exfm_assets.assets.students import student_key
from exfm_assets.home import dagster_home
from pipeline.releases.history import history_of, numbered
from pipeline.releases.release import Released, current_release, release_manifest
from pipeline.workspace import Workspace

SHOWN = ("slice", "trained_until", "declaration", "parent", "teacher_checkpoints", "data_versions", "metrics", "rows")


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked for, and give the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        if not project.students:
            raise DeclarationError(f"Project({project.name}).students: () declares no student: nothing is released")
        students = [project.student(given.student)] if getattr(given, "student", None) else list(project.students)
        for student in students:
            ACTIONS[given.action](work, student, given, console)
    except (DeclarationError, StateError, ValueError) as error:  # DataError, CheckpointError
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exfm releases", description="What serves, what served, and going back.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="every change of what serves, newest first")
    listed.add_argument("student", nargs="?", help="default: all")
    listed.add_argument("--last", type=int, default=20, help="how many")
    shown = actions.add_parser("show", help="a release's lineage, and what its gate said")
    compared = actions.add_parser("compare", help="two releases on the newest rows that neither has learnt from")
    promoted = actions.add_parser("promote", help="serve a release that was made before")
    back = actions.add_parser("rollback", help="serve the release before the one that serves, and keep it")
    unpinned = actions.add_parser("unpin", help="let the gate decide again what serves")
    for action in (shown, compared, promoted, back, unpinned):
        action.add_argument("student")
    shown.add_argument("release", nargs="?", help="number or version, default: what serves")
    compared.add_argument("first", help="number or version")
    compared.add_argument("second", nargs="?", help="number or version, default: what serves")
    promoted.add_argument("release", help="number or version")
    promoted.add_argument("--pin", action="store_true", help="keep it until it is unpinned")
    back.add_argument("--no-pin", action="store_true", help="let the next candidate that passes its gate replace it")
    for action in (promoted, back, unpinned):
        action.add_argument("--why", default="", help="kept with the change")
    return parser


def _list(work: Workspace, student: Student, given: argparse.Namespace, console: Console) -> None:
    history, now = history_of(work, student), current_release(work, student)
    if not history:
        console.print(f"student {student.name}: nothing of it was ever released")
        return
    table = Table(title=f"{student.name}: what served since when (UTC)", title_justify="left")
    for column in ("since", "release", "action", "slice", "version", "why"):
        table.add_column(column)
    for entry in list(reversed(history))[: max(given.last, 1)]:
        serves = now is not None and (entry.change, entry.version) == (now.change or entry.change, now.version)
        number = f"{entry.number}{' serves' if serves else ''}{', pinned' if entry.pinned else ''}"
        number += "" if entry.canary is None else f", canary {entry.canary.number}"
        cells = (entry.released_at[:19], number, entry.action, entry.slice, entry.version, entry.why)
        table.add_row(*map(escape, cells))
    console.print(table)


def _show(work: Workspace, student: Student, given: argparse.Namespace, console: Console) -> None:
    from pipeline.releases.choosing import release_named

    release = release_named(work, student, given.release) if given.release else _serving(work, student)
    manifest = release_manifest(work, student, release.version) or {}
    path = work.state.release(student.name) / release.version / "release.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    console.print(f"student {student.name}, release {release.number}, version {release.version}")
    served = [entry for entry in history_of(work, student) if entry.version == release.version]
    for entry in served:
        console.print(escape(f"  {entry.released_at[:19]} {entry.action}{f': {entry.why}' if entry.why else ''}"))
    for name in SHOWN:
        if manifest.get(name) not in (None, [], {}):
            console.print(escape(f"  {name}: {json.dumps(manifest[name]).strip(chr(34))}"))
    gate = kept.get("gate")
    console.print(escape(f"  gate: {gate['outcome']}: {gate['reason']}" if gate else "  gate: not kept with it"))
    if "exfm" in kept:
        console.print(f"  exfm: {kept['exfm']}")


def _compare(work: Workspace, student: Student, given: argparse.Namespace, console: Console) -> None:
    from pipeline.gate.comparing import compare
    from pipeline.releases.choosing import release_named

    first = release_named(work, student, given.first)
    second = release_named(work, student, given.second) if given.second else _serving(work, student)
    found = compare(work, student, first, second, work.device)
    console.print(
        f"student {student.name}, {found.rows:,} labelled rows of {found.over}, which neither has learnt from"
    )
    table = Table()
    for column in ("release", "slice", "NE", "calibration"):
        table.add_column(column, justify="right")
    for release, ne, calibration in zip((first, second), found.ne, found.calibration, strict=True):
        table.add_row(str(release.number), release.slice, f"{ne:.4f}", f"{calibration:.3f}")
    console.print(table)
    value, low, high = (100 * bound for bound in (found.difference.value, found.difference.low, found.difference.high))
    word = "better" if high < 0 else "worse" if low > 0 else "not shown to differ"
    console.print(
        f"release {second.number} against {first.number}: NE {value:+.2f} % ({low:+.2f} to {high:+.2f} at "
        f"{student.gate.confidence:g}, one-sided): {word}"
    )


def _serving(work: Workspace, student: Student) -> Released:
    history = history_of(work, student)
    if not history:
        raise DeclarationError(f"student {student.name!r}: nothing of it was ever released")
    return numbered(history)[history[-1].number]


def _decided(choose: Callable[[Workspace, Student, argparse.Namespace], Released]) -> "Action":
    """A decision, done, recorded in Dagster and said."""

    def act(work: Workspace, student: Student, given: argparse.Namespace, console: Console) -> None:
        released = choose(work, student, given)
        with chdir(ROOT), dg.DagsterInstance.from_config(str(dagster_home())) as instance:
            instance.report_runless_asset_event(materialization(student, released))
        console.print(escape(sentence(student, released)))

    return act


def materialization(student: Student, released: Released) -> dg.AssetMaterialization:
    """The record of a change in Dagster."""
    metadata: dict[str, Any] = {
        "release": released.number,
        "slice": released.slice,
        "action": released.action,
        "why": released.why,
    }
    tags = {"dagster/data_version": released.version}
    return dg.AssetMaterialization(student_key(student, "release"), metadata=metadata, tags=tags)


def sentence(student: Student, released: Released) -> str:
    """What serves now, for a person."""
    holds = "it is pinned: nothing newer is released until `exfm releases unpin`" if released.pinned else "not pinned"
    ended = f"; {released.dropped} is not released again by itself" if released.dropped else ""
    return (
        f"student {student.name} serves release {released.number} ({released.version}, slice {released.slice}); "
        f"{holds}{ended}"
    )


def _promote(work: Workspace, student: Student, given: argparse.Namespace) -> Released:
    from pipeline.releases.choosing import promote

    return promote(work, student, str(given.release), why=given.why, pin=given.pin)


def _roll_back(work: Workspace, student: Student, given: argparse.Namespace) -> Released:
    from pipeline.releases.choosing import roll_back

    return roll_back(work, student, why=given.why, pin=not given.no_pin)


def _unpin(work: Workspace, student: Student, given: argparse.Namespace) -> Released:
    from pipeline.releases.choosing import unpin

    return unpin(work, student, why=given.why)


Action = Callable[[Workspace, Student, argparse.Namespace, Console], None]
ACTIONS: dict[str, Action] = {
    "list": _list, "show": _show, "compare": _compare, "promote": _decided(_promote), "rollback": _decided(_roll_back),
    "unpin": _decided(_unpin),
}  # fmt: skip


class Decision(dg.Config):
    """What a person decides: a student, why, and for ``promote`` a release's number or version."""

    student: str
    why: str
    release: str = ""
    pin: bool = True


def release_jobs(project: Project) -> list[dg.JobDefinition]:
    """``promote``, ``rollback`` and ``unpin`` for the launchpad."""
    if not project.students:
        return []
    first, jobs = project.students[0].name, []
    for name, choose, words in (
        ("promote", _promote, "Serve a release that was made before: its number or version, see exfm releases list."),
        ("rollback", _roll_back, "Serve the release before the one that serves, and keep it until it is unpinned."),
        ("unpin", _unpin, "Let the gate decide again what serves."),
    ):
        given: dict[str, object] = {"student": first, "why": ""}
        given |= {"release": "1", "pin": False} if name == "promote" else {}
        config = dg.RunConfig(ops={f"{name}_release": {"config": given}})
        jobs.append(_op(name, choose, words).to_job(name=name, description=words, config=config))
    return jobs


def _op(
    name: str, choose: Callable[[Workspace, Student, argparse.Namespace], Released], words: str
) -> dg.GraphDefinition:
    @dg.op(name=f"{name}_release", description=words)
    def decide(context: dg.OpExecutionContext, config: Decision, work: dg.ResourceParam[Workspace]) -> None:
        student = work.project.student(config.student)
        given = argparse.Namespace(release=config.release, why=config.why, pin=config.pin, no_pin=not config.pin)
        released = choose(work, student, given)
        context.log_event(materialization(student, released))
        context.log.info(sentence(student, released))

    @dg.graph(name=name, description=words)
    def one() -> None:
        decide()

    return one
