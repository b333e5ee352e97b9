"""Releases: which checkpoint of a student is served.

Belongs here: reading what is served now. Not here: what was served before (history.py), publishing (publishing.py), the
gate before it (gate/), when that happens (exfm_assets/automation.py).

A release is a folder a version (``serving.safetensors``, ``manifest.json``, ``release.json``); ``current.json`` names
the served one. It is replaced in one step, so a server that reads it never sees half a release. Its version is its
checkpoint's; where its table is kept otherwise than in float32, that stands behind it: ``598cf0f3dfec-int8``.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from exfm.learning import Student
from exfm.serving import FLOAT32, TABLES
from pipeline.workspace import Workspace

CURRENT = "current.json"
RELEASED, PROMOTED, ROLLED_BACK, UNPINNED, MENDED = "released", "promoted", "rolled back", "unpinned", "mended"
TAKEN_BACK = "taken back"
CANARY, DROPPED = "canary", "canary dropped"


@dataclass(frozen=True)
class Canary:
    """A release that only a share of users gets, until it is judged on slices that came since.

    Args:
        since: ISO moment.
        number: of the release, as it will have when it serves.
    """

    version: str
    slice: str
    trained_until: str | None
    since: str
    number: int = 0


@dataclass(frozen=True)
class Released:
    """What is served since a moment, and why.

    Args:
        released_at: ISO moment.
        number: of the release, from 1 on; the same whenever it is served. 0: an earlier exfm did not count.
        change: which change of what is served this is, from 1 on.
        action: ``released`` (by its gate), ``promoted``, ``unpinned`` (by a person), ``rolled back`` (by a person, or
            by itself: then ``dropped`` says from what), ``mended``, ``taken back`` (what served before was touched by
            a withdrawal), ``canary``, ``canary dropped`` (what serves all others stayed the same).
        pinned: nothing newer is released until a person unpins it.
        canary: what a share of users gets in its place.
        dropped: version of a release or a canary that this change ended; it is not released again by itself.
    """

    version: str
    slice: str
    trained_until: str | None
    released_at: str
    number: int = 0
    change: int = 0
    action: str = RELEASED
    why: str = ""
    pinned: bool = False
    canary: Canary | None = None
    dropped: str = ""

    @property
    def checkpoint(self) -> str:
        """The version of the checkpoint that it was made of."""
        return checkpoint_of(self.version)

    @property
    def table(self) -> str:
        """How its embedding table is kept."""
        return _parts(self.version)[1]

    @property
    def hold(self) -> str:
        """Why nothing newer is released, if a person said so; else empty."""
        if not self.pinned:
            return ""
        because = f" ({self.action}: {self.why})" if self.why else f" ({self.action})"
        return f"release {self.number} is pinned since {self.released_at[:16]}{because}: exfm releases unpin lets it go"


def release_version(checkpoint: str, table: str) -> str:
    """The version of a checkpoint's release whose table is kept in a way."""
    return checkpoint if table == FLOAT32 else f"{checkpoint}-{table}"


def checkpoint_of(version: str) -> str:
    """The checkpoint of a release."""
    return _parts(version)[0]


def _parts(version: str) -> tuple[str, str]:
    checkpoint, _, table = version.rpartition("-")
    return (checkpoint, table) if table in TABLES else (version, FLOAT32)


def current_release(work: Workspace, student: Student) -> Released | None:
    """What is served now, ``None`` before the first release, or where ``current.json`` can't be read."""
    return read_released(work.state.release(student.name) / CURRENT)


def read_released(path: Path) -> Released | None:
    """A change of what is served; ``None`` if it is not there or can't be read."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if (canary := plain.get("canary")) is not None:
            plain["canary"] = Canary(**{field.name: canary[field.name] for field in fields(Canary)})
        return Released(**{field.name: plain[field.name] for field in fields(Released) if field.name in plain})
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


def released_checkpoints(work: Workspace, student: Student) -> set[str]:
    """Versions of checkpoints that releases were made of."""
    return {checkpoint_of(version) for version in released_versions(work, student)}
