"""Withdrawing a checkpoint: what it touched, and releases that go back to before it.

Belongs here: finding predictions, students and releases that come from it. Not here: the record
(slices/withdrawals.py), making again what is touched: it is out of date then, and made as after any change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exfm.columns import views_of
from exfm.errors import DeclarationError, choose_from
from exfm.learning import Student, Teacher
from exfm.stream import Slice
from models.manifest import load_manifest
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.canaries import end_canary
from pipeline.releases.history import changing, history_of, numbered, served_once
from pipeline.releases.publishing import name_served
from pipeline.releases.release import TAKEN_BACK, Released, current_release, release_manifest
from pipeline.releases.whole import whole_releases
from pipeline.slices.predictions import PredictionFile, files_of, scored_slices
from pipeline.slices.withdrawals import Withdrawal, add, touching, withdrawn
from pipeline.workspace import Workspace

Manifests = dict[Slice, dict[str, Any]]


@dataclass(frozen=True)
class Touched:
    """What became of a student's release.

    Args:
        was: what served; ``now``: what serves; the same where it is not touched, or nothing older is left to serve.
        is_touched: does what serves now come from what was withdrawn?
    """

    student: str
    was: Released | None
    now: Released | None
    is_touched: bool


def withdraw(work: Workspace, model: str, which: str, *, why: str) -> Withdrawal:
    """Take back what a model learnt of a slice. It holds from now on; releases go back when ``settle`` is called.

    Args:
        model: ``teacher/<name>`` or ``student/<name>``.
        which: a checkpoint's version, or the key of its slice.

    Returns:
        the record; that of the first time where it was withdrawn already.

    Raises:
        DeclarationError: if there is no such checkpoint, or no reason.
    """
    if not why:
        raise DeclarationError("withdraw: say why: it is kept with the withdrawal, and shown wherever it matters")
    kind, _, name = model.partition("/")
    choose_from("withdraw", kind, ("teacher", "student"), what="kind of model")
    declared = work.project.teacher(name) if kind == "teacher" else work.project.student(name)
    manifests = _manifests(work, model)
    chosen = next((slice_ for slice_, plain in manifests.items() if which in (slice_.key, plain["version"])), None)
    if chosen is None:
        keys = [slice_.key for slice_ in manifests]
        there = f"{keys[0]} to {keys[-1]}" if keys else "none"
        raise DeclarationError(f"withdraw: {which!r} is no checkpoint of {model}: use a version, or a slice of {there}")
    if (before := withdrawn(work, model, chosen.key)) is not None:
        return before  # so that what was interrupted can be finished
    tainted = {plain["version"] for slice_, plain in manifests.items() if slice_.index >= chosen.index}
    scored: tuple[str, ...] = ()
    if isinstance(declared, Teacher):
        scored = tuple(_scored(work, declared, tainted))
        students = dict(_taught(work, declared, tainted, scored))
    else:
        students = {declared.name: chosen.key}
    at = datetime.now(UTC).isoformat()
    versions = tuple(sorted(tainted)) if isinstance(declared, Teacher) else ()
    version = manifests[chosen]["version"]
    return add(work, Withdrawal(model, chosen.key, version, why, at, scored, students, versions))


def _manifests(work: Workspace, model: str) -> Manifests:
    return {slice_: plain for slice_, plain in manifests_of(work, model).items() if plain is not None}


def _scored(work: Workspace, teacher: Teacher, tainted: set[str]) -> Iterator[str]:
    """Slices whose newest predictions are by one of some checkpoints."""
    for slice_ in scored_slices(work, teacher):
        if PredictionFile.of(files_of(work, teacher, slice_)[-1]).checkpoint in tainted:
            yield slice_.key


def _taught(work: Workspace, teacher: Teacher, tainted: set[str], scored: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Students that learnt from them, each with the first slice: as supervision, or as features of predictions."""
    views = {view.name for view in work.project.prediction_views if view.teacher == teacher.name}
    for student in work.project.students:
        learnt = _manifests(work, f"student/{student.name}")
        slices = [slice_.key for slice_, plain in learnt.items() if tainted & set(plain.get("teacher_checkpoints", ()))]
        columns = work.project.columns_of(student.inputs, where=student.name)
        if scored and views & set(views_of(columns.of_teachers)):
            after = work.project.stream.slice_of(min(scored)).index + 1  # a view is of the slices before
            slices += [slice_.key for slice_ in learnt if slice_.index >= after][:1]
        if slices:
            yield student.name, min(slices)


def settle(work: Workspace, student: Student) -> Touched:
    """Let a student whose release was touched serve the newest one that was not; safe to do again.

    Where there is none, what serves goes on: a touched model may still be better than none, and who asks is told.
    """
    _settle_canary(work, student)
    was = current_release(work, student)
    if was is None or touched_by(work, student, was) is None:
        return Touched(student.name, was, was, is_touched=False)
    with changing(work, student) as served:
        gone = None if served is None else touched_by(work, student, served)
        if served is None or gone is None:
            return Touched(student.name, was, served, is_touched=False)
        whole = whole_releases(work, student)
        sound = [
            release
            for release in served_once(history_of(work, student)).values()
            if release.version in whole and touched_by(work, student, release) is None
        ]
        if not sound:
            return Touched(student.name, was, served, is_touched=True)
        older = [release for release in sound if release.number < served.number]
        chosen = max(older or sound, key=lambda release: release.number)
        manifest = load_manifest(work.state.release(student.name) / chosen.version)
        why = f"{gone.model} {gone.slice} was withdrawn: {gone.why}"
        now = name_served(work, student, manifest, action=TAKEN_BACK, why=why, canary_goes_on=True)
        return Touched(student.name, was, now, is_touched=False)


def _settle_canary(work: Workspace, student: Student) -> None:
    """End a canary that comes from what was withdrawn."""
    served = current_release(work, student)
    if served is None or served.canary is None:
        return
    with changing(work, student) as served:
        known = {} if served is None else numbered(history_of(work, student))
        canary = None if served is None or served.canary is None else known[served.canary.number]
        if canary is not None and (gone := touched_by(work, student, canary)) is not None:
            end_canary(work, student, f"{gone.model} {gone.slice} was withdrawn: {gone.why}")


def touched_by(work: Workspace, student: Student, release: Released) -> Withdrawal | None:
    """The withdrawal that touches a release, if one does."""
    manifest = release_manifest(work, student, release.version) or {}
    created = str(manifest.get("made_with", {}).get("created", release.released_at))
    return touching(work, student.name, release.slice, created, manifest.get("teacher_checkpoints", ()))
