"""Releases: which checkpoint of a student is served.

Belongs here: reading what is served now. Not here: publishing it (publishing.py), the gate before it
(gate/), when that happens (exfm_assets/automation.py).

A release is a folder a version (``serving.safetensors``, ``manifest.json``) and ``current.json``, which names the
served one. It is replaced in one step, so a server that reads it never sees half a release.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

from exfm.learning import Student
from pipeline.workspace import Workspace

CURRENT = "current.json"


@dataclass(frozen=True)
class Released:
    """What is served now."""

    version: str
    slice: str
    trained_until: str | None
    released_at: str


def current_release(work: Workspace, student: Student) -> Released | None:
    """What is served now, ``None`` before the first release, or where ``current.json`` can't be read."""
    path = work.state.release(student.name) / CURRENT
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Released(**{field.name: plain[field.name] for field in fields(Released)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def release_manifest(work: Workspace, student: Student, version: str) -> dict[str, Any] | None:
    """What a release says of itself, as plain JSON; ``None`` if it can't be read."""
    path = work.state.release(student.name) / version / "manifest.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def released_versions(work: Workspace, student: Student) -> set[str]:
    return {path.parent.name for path in work.state.release(student.name).glob("*/manifest.json")}
