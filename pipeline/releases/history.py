"""What served when: one immutable file a change, and the numbers of releases.

Belongs here: recording changes one at a time, reading them. Not here: a release's files (publishing.py), which one is
to be served (gate/, choosing.py).

A change is written as ``history/<change>.json`` first, then as ``current.json``: a process that is killed in between
has changed nothing, and the next change takes its number.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.learning import Student
from pipeline.releases.release import (
    CANARY,
    CURRENT,
    Released,
    checkpoint_of,
    current_release,
    read_released,
    release_manifest,
)
from pipeline.workspace import Workspace

FOLDER = "history"
RECORD = "release.json"  # what a release's gate said; an earlier exfm kept none


@contextmanager
def changing(work: Workspace, student: Student) -> Iterator[Released | None]:
    """What is served now, which nobody else changes meanwhile: a person and the automation may want to at once."""
    folder = work.state.release(student.name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".changing").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield current_release(work, student)


def history_of(work: Workspace, student: Student, *, new: str | None = None) -> list[Released]:
    """Every change of what a student serves, oldest first.

    Where an earlier exfm released, which kept no history, its releases are numbered in the order in which they were
    written.

    Args:
        new: version of a release that is only being made.
    """
    folder, current = work.state.release(student.name), current_release(work, student)
    read = (read_released(path) for path in sorted((folder / FOLDER).glob("*.json")))
    kept = [entry for entry in read if entry is not None]
    if current is not None:
        kept = [entry for entry in kept if entry.change <= current.change]  # of a later one its writer was stopped
    return kept or list(_before_history(work, student, current, new))


def _before_history(work: Workspace, student: Student, current: Released | None, new: str | None) -> Iterator[Released]:
    folder = work.state.release(student.name)
    paths = {
        path.parent.name: path.stat().st_mtime
        for path in folder.glob("*/manifest.json")
        if path.parent.name != new or not (path.parent / RECORD).is_file()
    }
    order = sorted(paths, key=lambda version: (current is not None and version == current.version, paths[version]))
    for number, version in enumerate(order, 1):
        if (manifest := release_manifest(work, student, version)) is None:
            continue
        at = datetime.fromtimestamp(paths[version], UTC).isoformat()
        yield Released(version, manifest["slice"], manifest.get("trained_until"), at, number, number)


def record(work: Workspace, student: Student, released: Released) -> Released:
    """Let something be served from now on; within ``changing``.

    Args:
        released: its number and change are given here.
    """
    new = released.version if released.canary is None else released.canary.version
    folder, before = work.state.release(student.name), history_of(work, student, new=new)
    for entry in before:
        path = folder / FOLDER / f"{entry.change:06}.json"
        if read_released(path) != entry:
            _write(path, entry)  # of an earlier exfm, or what a stopped writer left
    known = {release.version: number for number, release in numbered(before).items()}
    next_one = 1 + max(known.values(), default=0)
    change = 1 + max((entry.change for entry in before), default=0)
    entry = replace(released, number=known.get(released.version, next_one), change=change)
    if entry.canary is not None:
        entry = replace(entry, canary=replace(entry.canary, number=known.get(entry.canary.version, next_one)))
    _write(folder / FOLDER / f"{change:06}.json", entry)
    _write(folder / CURRENT, entry)
    return entry


def _write(path: Path, entry: Released) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(entry), indent=1).encode())


def numbered(history: list[Released]) -> dict[int, Released]:
    """Number -> the release, as it was served first, be it as a canary."""
    found: dict[int, Released] = {}
    for entry in history:
        found.setdefault(entry.number, entry)
        if (canary := entry.canary) is not None:
            of = (canary.version, canary.slice, canary.trained_until, canary.since, canary.number, entry.change)
            found.setdefault(canary.number, Released(*of, action=CANARY, why=entry.why))
    return found


def served_once(history: list[Released]) -> dict[int, Released]:
    """Those that served all users, and were not dropped since: what can be gone back to."""
    served, gone = {entry.version for entry in history}, dropped(history)
    return {
        number: release
        for number, release in numbered(history).items()
        if release.version in served and release.checkpoint not in gone
    }


def dropped(history: list[Released]) -> dict[str, str]:
    """Checkpoint -> why, of releases that are not made again by themselves; what a person serves again is none."""
    found: dict[str, str] = {}
    for entry in history:
        if entry.dropped:
            found[checkpoint_of(entry.dropped)] = entry.why
        found.pop(entry.checkpoint, None)
    return found
