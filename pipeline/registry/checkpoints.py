"""Checkpoints as a walk asks for them, wherever they are kept; and checkpoints in memory, for walks that store nothing.

Belongs here: the interface, and its form in memory. Not here: the one on disk (checkpoint_store.py).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from exfm.stream import Slice
from models.checkpoint import manifest_of
from models.learner import Learner
from models.manifest import Manifest
from models.state import learner_state, load_states
from pipeline.tables import DataError


class Checkpoints(Protocol):
    """One model's checkpoints, by the slice that each trained on last."""

    @property
    def name(self) -> str:
        """``teacher/<name>``, ``student/<name>`` or ``control/<name>``."""

    @property
    def declaration(self) -> str:
        """Digest of what they are trained under."""

    def has(self, slice_: Slice) -> bool:
        """Was the slice trained on?"""

    def has_weights(self, slice_: Slice) -> bool:
        """Is the checkpoint there with its weights?"""

    def holds(self, slice_: Slice, version: str) -> bool:
        """Is this very version kept for the slice?"""

    def standing(self, slice_: Slice) -> Manifest | None:
        """What the checkpoint says of itself, if there is one that the model as it is declared can go on from."""

    def rows_at(self, slice_: Slice) -> int:
        """Labelled rows of the slice that its checkpoint learnt from."""

    def manifest(self, slice_: Slice) -> Manifest:
        """What the checkpoint says of itself.

        Raises:
            DataError: if there is none.
        """

    def load(self, slice_: Slice, device: str) -> tuple[Learner, Manifest]:
        """The checkpoint as a learner that goes on.

        Raises:
            DataError: if there is none, or its weights are gone.
        """

    def save(self, slice_: Slice, learner: Learner, member: int, **fields: Any) -> Manifest:
        """Keep a member of a learner, with the manifest's fields that the learner does not know."""


@dataclass
class CheckpointsInMemory:
    """Checkpoints of a walk that stores nothing.

    Args:
        weights: of how many of the newest slices they are kept; manifests are kept of all.
    """

    name: str
    weights: int
    declaration: str = ""
    _manifests: dict[int, Manifest] = field(default_factory=dict)
    _states: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def has(self, slice_: Slice) -> bool:
        return slice_.index in self._manifests

    def has_weights(self, slice_: Slice) -> bool:
        return slice_.index in self._states

    def holds(self, slice_: Slice, version: str) -> bool:
        return self.has(slice_) and self._manifests[slice_.index].version == version

    def standing(self, slice_: Slice) -> Manifest | None:
        return self._manifests.get(slice_.index)

    def rows_at(self, slice_: Slice) -> int:
        return self._manifests[slice_.index].rows if self.has(slice_) else 0

    def manifest(self, slice_: Slice) -> Manifest:
        if not self.has(slice_):
            raise DataError(f"{self.name}: no checkpoint trained on slice {slice_.key}: walk over it first")
        return self._manifests[slice_.index]

    def load(self, slice_: Slice, device: str) -> tuple[Learner, Manifest]:
        manifest = self.manifest(slice_)
        if not self.has_weights(slice_):
            raise DataError(f"{self.name}: the weights of slice {slice_.key} are gone: keep more than {self.weights}")
        learner = Learner.create(manifest.spec, manifest.training, manifest.distillation, device)
        load_states(learner, [self._states[slice_.index]], self.name)
        return learner, manifest

    def save(self, slice_: Slice, learner: Learner, member: int, **fields: Any) -> Manifest:
        state = learner_state(learner, member)
        self._states[slice_.index] = {name: value.detach().clone() for name, value in state.items()}
        for old in [index for index in self._states if index <= slice_.index - self.weights]:
            del self._states[old]
        manifest = self._manifests[slice_.index] = manifest_of(learner, member, weights="", **fields)
        return manifest
