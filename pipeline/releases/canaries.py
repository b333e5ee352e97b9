"""Canaries: releases that a share of users gets first. Beginning one, letting it serve, ending it.

Belongs here: the changes, each one step of the history. Not here: judging a canary (gate/afterwards.py), who gets it
(serving/arms.py).
"""

from dataclasses import replace

from exfm.learning import Student
from exfm.stream import Slice
from models.manifest import load_manifest
from pipeline.releases.history import record
from pipeline.releases.publishing import name_served, save_release
from pipeline.releases.release import CANARY, DROPPED, Canary, Released, current_release
from pipeline.releases.verdict import Verdict
from pipeline.workspace import Workspace


def begin_canary(
    work: Workspace, student: Student, slice_: Slice, version: str, device: str, verdict: Verdict
) -> Released:
    """Write a checkpoint's serving part, and name it as what a share of users gets; within ``changing``.

    Raises:
        DataError: if the checkpoint is damaged, or by now another one than ``version``.
    """
    served = current_release(work, student)
    assert served is not None
    manifest = save_release(work, student, slice_, version, device, verdict)
    at = work.now().isoformat()
    canary = Canary(manifest.version, manifest.slice, manifest.trained_until, at)
    entry = replace(served, released_at=at, action=CANARY, why=verdict.reason, canary=canary, dropped="")
    return record(work, student, entry)


def serve_canary(work: Workspace, student: Student, why: str) -> Released:
    """Let the canary serve all users; within ``changing``."""
    served = current_release(work, student)
    assert served is not None and served.canary is not None
    manifest = load_manifest(work.state.release(student.name) / served.canary.version)
    return name_served(work, student, manifest, why=why)


def end_canary(work: Workspace, student: Student, why: str) -> Released:
    """Let what serves serve all users again; the canary is not released again. Within ``changing``."""
    served = current_release(work, student)
    assert served is not None and served.canary is not None
    at, gone = work.now().isoformat(), served.canary.version
    entry = replace(served, released_at=at, action=DROPPED, why=why, canary=None, dropped=gone)
    return record(work, student, entry)
