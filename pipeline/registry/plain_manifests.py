"""Manifests of checkpoints as plain JSON: read without torch, for looks at many of them.

Belongs here: finding and reading them. Not here: manifests as what they are (models/manifest.py), what follows from
them.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from exfm.stream import Slice
from pipeline.workspace import Workspace


def manifests_of(work: Workspace, model: str) -> dict[Slice, dict[str, Any] | None]:
    """The manifests of a model's checkpoints by slice, oldest first; ``None`` for one that can't be read."""
    stream, folder = work.project.stream, work.state.checkpoints(model)
    there = {path.name for path in folder.glob("slice=*") if path.is_dir()}
    slices = [slice_ for slice_ in stream.slices(stream.first_slice, work.now()) if slice_.folder in there]
    return {slice_: read_manifest(work, model, slice_) for slice_ in slices}


def has_weights(work: Workspace, model: str, slice_: Slice) -> bool:
    """Are a checkpoint's weights there, with all that they are changes of? Its manifest stays when they are dropped."""
    folder = work.state.checkpoints(model) / slice_.folder
    if (folder / "weights.safetensors").is_file():
        return True
    manifest = read_manifest(work, model, slice_) if (folder / "changes.safetensors").is_file() else None
    parts = [] if manifest is None else manifest.get("parts", ())
    return bool(parts) and all((folder.parent / "parts" / f"{part['weights']}.safetensors").is_file() for part in parts)


def dropped_before(work: Workspace, model: str, index: int) -> tuple[int, ...]:
    """Slices right before one whose checkpoints have no weights (any more): to continue them, they are trained again.

    Args:
        index: of the first slice that is to be trained.
    """
    stream, found, at = work.project.stream, list[int](), index - 1
    while at >= 0 and read_manifest(work, model, stream.slice_at(at)) is not None:
        if has_weights(work, model, stream.slice_at(at)):
            break
        found.insert(0, at)
        at -= 1
    return tuple(found)


def read_manifest(work: Workspace, model: str, slice_: Slice) -> dict[str, Any] | None:
    """A checkpoint's manifest as plain JSON; ``None`` if it is missing or damaged."""
    path = work.state.checkpoints(model) / slice_.folder / "manifest.json"
    try:
        stat = path.stat()
    except OSError:
        return None
    return _parsed(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=20_000)
def _parsed(path: Path, identity: tuple[int, ...]) -> dict[str, Any] | None:
    """Callers share it: none of them changes it."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {**plain} if {"version", "declaration", "parent", "weights"} <= set(plain) else None
    except (OSError, ValueError, TypeError):
        return None
