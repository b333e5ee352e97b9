"""Checkpoints on disk: a folder with ``weights.safetensors`` and ``manifest.json``, whole or not there.

Belongs here: writing in one step, and building the learner again.
Not here: files of weights (weights.py), what a state holds (state.py), what a manifest says (manifest.py).
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from exfm.atomic_write import sync_folder, unfinished_path
from exfm.serving import FLOAT32
from exfm.writing import refusal, unwritable
from models.changes import State
from models.errors import CheckpointError
from models.export import exported_files
from models.learner import Learner
from models.manifest import FILE, Manifest, called, load_manifest
from models.parts import CHANGES, SERVING, WEIGHTS
from models.state import learner_state, load_states, serving_state
from models.tables import kept, whole
from models.weights import changes_on, read_state, sha256


def save_checkpoint(
    folder: Path,
    learner: Learner,
    member: int = 0,
    after: Path | None = None,
    table: State | None = None,
    **fields: Any,
) -> Manifest:
    """Write a member of a learner and what is known of it; a checkpoint that was there is replaced.

    Args:
        after: folder of the checkpoint that it continues: where little changed, only that is written.
        table: that checkpoint's ``table_of``, where it is in memory still; else it is read.
        fields: the manifest's fields but for those that the learner itself knows.

    Raises:
        CheckpointError: if the system refuses to write.
    """
    state = learner_state(learner, member)
    found = changes_on(after, state, fields.get("parent"), table) if after is not None else None
    if found is None:
        return _save(folder, WEIGHTS, state, lambda weights: manifest_of(learner, member, weights, **fields))
    changed, parts = found
    return _save(folder, CHANGES, changed, lambda weights: manifest_of(learner, member, weights, parts=parts, **fields))


def save_serving(folder: Path, learner: Learner, manifest: Manifest, table: str = FLOAT32) -> Manifest:
    """Write only what serves, its table as ``Serving.table`` says: no auxiliary head, no adapter, no optimiser."""
    served = replace(manifest, distillation=None, parts=[], spec=replace(manifest.spec, teachers=()))
    exported, state = exported_files(learner, served), kept(serving_state(learner), table)
    return _save(folder, SERVING, state, lambda weights: replace(served, weights=weights), exported)


def _save(
    folder: Path,
    name: str,
    state: State,
    manifest_of: Callable[[str], Manifest],
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> Manifest:
    try:
        return _put(folder, name, state, manifest_of, beside)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished_path(folder), ignore_errors=True)
        refused = refusal(error)
        if refused is None:
            raise
        raise CheckpointError(f"checkpoint {unwritable(folder, refused)}") from error


def _put(
    folder: Path, name: str, state: State, manifest_of: Callable[[str], Manifest], beside: Mapping[str, bytes]
) -> Manifest:
    unfinished = unfinished_path(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(_apart(state), unfinished / name)
    manifest = manifest_of(sha256(unfinished / name))
    (unfinished / FILE).write_text(manifest.to_json(), encoding="utf-8")
    for other, content in beside.items():
        (unfinished / other).write_bytes(content)
    for path in unfinished.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(unfinished)
    if folder.exists():
        # A folder can't replace one in a single step: the old one goes first, and until then nothing is half there.
        old = unfinished_path(folder.with_name(f"{folder.name}.old"))
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        unfinished.rename(folder)
        shutil.rmtree(old)
    else:
        unfinished.rename(folder)
    sync_folder(folder.parent)
    return manifest


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the host that share no memory, as safetensors wants them; only what does share is copied."""
    saved, seen = {}, set()
    for key, value in state.items():
        host = value.detach().cpu().contiguous()
        memory = host.untyped_storage()
        saved[key] = host.clone() if memory.data_ptr() in seen else host
        seen.add(memory.data_ptr())
    return saved


def manifest_of(learner: Learner, member: int, weights: str, seconds: float | None = None, **fields: Any) -> Manifest:
    """What a checkpoint of a member says of itself.

    Args:
        weights: sha256 of its file.
        seconds: the member's share of the time that training on the slice took.
        fields: the manifest's fields but for those that the learner itself knows.
    """
    own = {"spec": learner.specs[member], "distillation": learner.members[member].distillation}
    device = torch.cuda.get_device_name() if learner.device.startswith("cuda") else "cpu"
    precision, now = "bf16" if learner.bf16 else "fp32", datetime.now(UTC).isoformat()
    made_with = {"torch": torch.__version__, "device": device, "precision": precision, "created": now}
    made_with |= {} if seconds is None else {"seconds": f"{seconds:.3f}"}
    return Manifest(**{**own, **fields}, training=learner.training, weights=weights, made_with=made_with)


def load_checkpoint(folder: Path, device: str = "cpu", declaration: str | None = None) -> tuple[Learner, Manifest]:
    """A learner that goes on where the checkpoint stopped, or, of a release, one that scores.

    Raises:
        CheckpointError: if files are missing or damaged, or of another declaration or network.
    """
    manifest = load_manifest(folder, declaration)
    learner = Learner.create(manifest.spec, manifest.training, manifest.distillation, device)
    load_states(learner, [whole(read_state(folder, manifest))], f"checkpoint {called(folder)}")
    return learner, manifest
