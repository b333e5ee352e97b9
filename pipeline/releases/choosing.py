"""What a person decides about what serves: promote a release, go back to the one before, pin, let go.

Belongs here: the decisions, by number or version. Not here: their record (history.py), the command (exfm_assets/).
"""

from exfm.errors import DeclarationError
from exfm.learning import Student
from models.manifest import load_manifest
from pipeline.releases.history import changing, history_of, numbered, served_once
from pipeline.releases.publishing import name_served
from pipeline.releases.release import PROMOTED, ROLLED_BACK, UNPINNED, Released
from pipeline.releases.whole import whole_releases
from pipeline.releases.withdrawing import touched_by
from pipeline.workspace import Workspace


def release_named(work: Workspace, student: Student, name: str) -> Released:
    """A release by its number or its version.

    Raises:
        DeclarationError: if there is no such release.
    """
    known = numbered(history_of(work, student))
    for number, release in known.items():
        if name in (str(number), release.version):
            return release
    there = f"use one of 1 to {max(known)}, or a version" if known else "nothing of it was ever released"
    raise DeclarationError(f"release: {name!r} is not one of student {student.name!r}: {there}")


def promote(work: Workspace, student: Student, name: str, *, why: str, pin: bool = False) -> Released:
    """Serve a release that was made before, whatever the gate says of newer ones; a canary ends, or is what serves.

    Args:
        pin: keep it until somebody unpins it; else the next candidate that passes its gate takes over.

    Raises:
        DeclarationError: if there is no such release, its files are not whole, or a withdrawal touched it.
    """
    with changing(work, student):
        chosen = release_named(work, student, name)
        if chosen.version not in whole_releases(work, student):
            raise DeclarationError(f"release {chosen.number}: its files are missing or damaged: choose another one")
        if (gone := touched_by(work, student, chosen)) is not None:
            raise DeclarationError(
                f"release {chosen.number}: it learnt from {gone.model} {gone.slice}, which was withdrawn: {gone.why}"
            )
        manifest = load_manifest(work.state.release(student.name) / chosen.version)
        return name_served(work, student, manifest, action=PROMOTED, why=why, pinned=pin)


def roll_back(work: Workspace, student: Student, *, why: str, pin: bool = True) -> Released:
    """Serve the newest whole release before the one that serves now, which no withdrawal touched.

    It is pinned, or the automation would release again what comes after it. A canary ends.

    Raises:
        DeclarationError: if there is none.
    """
    with changing(work, student):
        history = history_of(work, student)
        if not history:
            raise DeclarationError(f"student {student.name!r}: nothing of it was ever released")
        known, whole, now = served_once(history), whole_releases(work, student), history[-1]
        before = [
            number
            for number, release in known.items()
            if number < now.number and release.version in whole and touched_by(work, student, release) is None
        ]
        if not before:
            raise DeclarationError(
                f"student {student.name!r}: no whole release is older than {now.number}, which serves: promote another"
            )
        manifest = load_manifest(work.state.release(student.name) / known[max(before)].version)
        return name_served(work, student, manifest, action=ROLLED_BACK, why=why, pinned=pin)


def unpin(work: Workspace, student: Student, *, why: str = "") -> Released:
    """Let the gate decide again what serves.

    Raises:
        DeclarationError: if nothing is pinned.
    """
    with changing(work, student) as served:
        if served is None or not served.pinned:
            raise DeclarationError(f"student {student.name!r}: nothing is pinned, so there is nothing to let go")
        manifest = load_manifest(work.state.release(student.name) / served.version)
        return name_served(work, student, manifest, action=UNPINNED, why=why)
