"""The shelf of one model's checkpoints: one folder a slice, found by the slice, never by file time.

Belongs here: which checkpoint trained on which slice, continuing from one, keeping and dropping.
Not here: a checkpoint's files (models/checkpoint.py), what it is made of (lineage.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exfm_assets.learning.lineage import declaration_digest
from exfm_assets.resources import Workspace
from exfm_assets.tables import DataError
from models.checkpoint import drop_weights, load_checkpoint
from models.learner import Learner
from models.manifest import Manifest, load_manifest
from projects.learning import Student, Teacher
from projects.stream import Slice


@dataclass(frozen=True)
class Shelf:
    """Checkpoints of a teacher, a student or a control.

    Args:
        name: ``teacher/<name>``, ``student/<name>`` or ``control/<name>``.
        declaration: what they must have been trained under; others are refused.
    """

    work: Workspace
    name: str
    declaration: str

    @classmethod
    def of(cls, work: Workspace, model: Teacher | Student, *, control: bool = False) -> "Shelf":
        kind = "teacher" if isinstance(model, Teacher) else "control" if control else "student"
        return cls(work, f"{kind}/{model.name}", declaration_digest(work.project, model, control=control))

    def folder(self, piece: Slice) -> Path:
        return self.work.state.checkpoints(self.name) / piece.folder

    def has(self, piece: Slice) -> bool:
        return (self.folder(piece) / "manifest.json").is_file()

    def manifest(self, piece: Slice) -> Manifest:
        return load_manifest(self.folder(piece), declaration=self.declaration)

    def load(self, piece: Slice, device: str) -> tuple[Learner, Manifest]:
        """The checkpoint that trained last on a slice.

        Raises:
            DataError: if there is none.
            CheckpointError: if it is damaged, or was trained under another declaration.
        """
        if not self.has(piece):
            raise DataError(
                f"{self.name}: no checkpoint trained on slice {piece.key}: "
                f"materialise {self.name}/checkpoint for it first"
            )
        return load_checkpoint(self.folder(piece), device=device, declaration=self.declaration)

    def keep_only(self, kept: Iterable[str]) -> int:
        """Drop the weights of all checkpoints but those versions; manifests stay. Gives back how many were dropped."""
        versions = set(kept)
        holding = sorted(self.work.state.checkpoints(self.name).glob("slice=*/weights.safetensors"))
        others = [path.parent for path in holding if load_manifest(path.parent).version not in versions]
        for folder in others:
            drop_weights(folder)
        return len(others)
