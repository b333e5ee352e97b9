"""An incremental model: a chain of checkpoints, each of which continues the one of the slice before.

Belongs here: one model's versions, and its learner alone (to score, to judge).
Not here: training (training/joint_training.py), the order of work on a slice (training/), the learner itself (models/).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exfm.encoding import Encoding
from exfm.learning import Training
from exfm.stream import Slice, Stream
from models.growth import grown, reads_the_same
from models.learner import Learner
from models.manifest import Manifest
from models.members import Member
from pipeline.registry.checkpoints import Checkpoints
from pipeline.registry.lineage import Data, Recorded, lineage_version

UNTRAINED = -1


@dataclass
class IncrementalModel:
    """One model over the slices, holding the learner that was asked for last.

    Args:
        checkpoints: where they are kept.
        member, training: what a learner is built from.
        encoder: of its inputs, which its manifests keep.
        device: ``cpu`` or ``cuda``.
    """

    checkpoints: Checkpoints
    stream: Stream
    member: Member
    training: Training
    encoder: Mapping[str, Encoding]
    device: str
    _learner: Learner | None = field(default=None, init=False)
    _index: int = field(default=UNTRAINED, init=False)

    def learner_at(self, index: int) -> Learner:
        """The learner that trained last on slice ``index``; ``UNTRAINED``: a fresh one.

        Raises:
            DataError: if that checkpoint does not exist.
            CheckpointError: if it can't be read.
        """
        if self._learner is None or self._index != index:
            if index == UNTRAINED:
                self._learner = Learner([self.member], self.training, self.device)
            else:
                self._learner, _ = self.checkpoints.load(self._slice(index), self.device)
            self._index = index
        return self._learner

    def take(self, index: int) -> Learner:
        """The same, to train it: a failed fit must not leave a half-trained learner behind for the next slice.

        One that was trained on fewer inputs than are declared now is warm-started: it goes on with all of them.

        Raises:
            LearningError: if it can't be.
        """
        learner = self.learner_at(index)
        self._learner = None
        return learner if reads_the_same(learner.spec, self.member.spec) else grown(learner, self.member)

    def keep(self, learner: Learner, index: int) -> None:
        """Hold a learner that trained last on slice ``index``."""
        self._learner, self._index = learner, index

    def _slice(self, index: int) -> Slice:
        return self.stream.slice_at(index)

    def has(self, index: int) -> bool:
        """Did it train on slice ``index``?"""
        return self.checkpoints.has(self._slice(index))

    def manifest(self, index: int) -> Manifest:
        """Of the checkpoint that trained last on slice ``index``."""
        return self.checkpoints.manifest(self._slice(index))

    def parent(self, index: int) -> Manifest | None:
        """The manifest that slice ``index`` continues; ``None`` for the stream's first slice."""
        return None if index == 0 else self.manifest(index - 1)

    def version(self, index: int, data: Data) -> str:
        """What the checkpoint of slice ``index`` is called that would be trained now."""
        return lineage_version(self.checkpoints.declaration, self._before(index), data(None), self._slice(index).key)

    def holds(self, index: int, data: Data) -> bool:
        """Is a checkpoint of slice ``index`` kept that stands: whole, and made of what it would be made of now?

        One of the declaration that the present one has grown from is judged by its own: by the columns that it read.

        Raises:
            DataError, CheckpointError: as ``manifest``, of the slice before.
        """
        slice_, before = self._slice(index), self._before(index)
        stored = self.checkpoints.standing(slice_)
        if stored is None:
            return False
        version = lineage_version(stored.declaration, before, data(Recorded.of(stored)), slice_.key)
        return self.checkpoints.holds(slice_, version)

    def _before(self, index: int) -> str | None:
        parent = self.parent(index)
        return parent.version if parent is not None else None
