"""The weights of a checkpoint: a whole state in a file of its own, or changes on top of the slices before it.

Belongs here: reading with suspicion, what changes lie on, dropping. Not here: which rows changed (changes.py), writing
a checkpoint in one step (checkpoint.py).

A file that later slices are changes of is also known by its digest, in the folder ``parts`` beside the slices (a hard
link, so it takes no room): a slice that is trained again, or dropped, leaves those after it whole.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from exfm.atomic_write import sync_folder, unfinished_path
from models.changes import State, applied, changes
from models.errors import CheckpointError, DamagedError
from models.manifest import Manifest, called, load_manifest
from models.parts import CHANGES, SERVING, WEIGHTS, Part

PARTS = "parts"
WHOLE_EVERY = 16  # slices: how many files are read at most to resume


def weights_file(folder: Path) -> Path | None:
    """A checkpoint's own file of weights; ``None`` where retention dropped it."""
    return next((folder / name for name in (WEIGHTS, CHANGES, SERVING) if (folder / name).is_file()), None)


def part_file(folder: Path, part: Part) -> Path:
    """The file of a part, of a checkpoint in ``folder``."""
    return folder.parent / PARTS / f"{part.weights}.safetensors"


def read_state(folder: Path, manifest: Manifest) -> State:
    """The tensors of a checkpoint, or of a release.

    Raises:
        CheckpointError: if they are missing.
        DamagedError: if they are not what was written.
    """
    name, path = called(folder), weights_file(folder)
    if path is None:
        remedy = "raise Retention.last, or train from the first slice"
        raise CheckpointError(f"checkpoint {name}: its weights were dropped by retention: {remedy}")
    state = _tensors(path, manifest.weights, name)
    if not manifest.parts:
        return state
    whole: State | None = None
    for part in manifest.parts:
        file, where = part_file(folder, part), f"{name.rpartition('/')[0]}/slice={part.slice}"
        if not file.is_file():
            raise DamagedError(
                f"checkpoint {where}: its weights are missing, and {name} is changes of them: train it again"
            )
        tensors = _tensors(file, part.weights, where)
        whole = tensors if whole is None else applied(whole, tensors)
    assert whole is not None
    return applied(whole, state)


def _tensors(path: Path, digest: str, name: str) -> State:
    if sha256(path) != digest:
        raise DamagedError(f"checkpoint {name}: {path.name} is damaged (sha256 differs): train it again")
    try:
        return load_file(path)
    except SafetensorError as broken:
        raise DamagedError(f"checkpoint {name}: {path.name} can't be read ({broken}): train it again") from broken


def changes_on(
    before: Path, state: State, parent: str | None, table: State | None = None
) -> tuple[State, list[Part]] | None:
    """What a state changed on top of the checkpoint before it, and the parts that this lies on.

    Args:
        before: that checkpoint's folder.
        parent: its version.
        table: its table, if that is known; else it is read.

    Returns:
        ``None`` where a whole state is to be written: it is time for one, most of it changed, or that checkpoint
        can't be read.
    """
    with suppress(CheckpointError):
        manifest = load_manifest(before)
        parts = [*manifest.parts, Part(slice=manifest.slice, weights=manifest.weights)]
        own = weights_file(before)
        if manifest.version != parent or own is None or len(parts) >= WHOLE_EVERY:
            return None
        found = changes(table if table is not None else read_state(before, manifest), state)
        if found is not None:
            _keep(own, part_file(before, parts[-1]))
            return found, parts
    return None


def _keep(own: Path, part: Path) -> None:
    """Let a file be known by its digest as well; a copy where the disk has no hard links."""
    if part.is_file() and sha256(part) == part.stem:
        return
    part.parent.mkdir(exist_ok=True)
    unfinished = unfinished_path(part)
    unfinished.unlink(missing_ok=True)
    try:
        os.link(own, unfinished)
    except OSError:
        shutil.copyfile(own, unfinished)
    unfinished.replace(part)
    sync_folder(part.parent)


def drop_weights(folder: Path) -> None:
    """Retention: the weights go, the manifest stays, and what others are changes of stays as a part."""
    for name in (WEIGHTS, CHANGES):
        (folder / name).unlink(missing_ok=True)


def drop_parts(model: Path, folders: Iterable[Path]) -> None:
    """Drop the parts that no checkpoint of a model needs any more.

    Args:
        model: the folder that holds its slices.
        folders: of all its checkpoints.
    """
    kept = set()
    for folder in folders:
        if (folder / CHANGES).is_file():
            try:
                kept |= {part.weights for part in load_manifest(folder).parts}
            except CheckpointError:
                return  # what it needs can't be told: all stay until it is made again
    for path in (model / PARTS).glob("*.safetensors"):
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
