"""A model's chain of checkpoints: each continues the one of the slice before.

Belongs here: continuing, reusing and saving, alike for teachers, students and controls.
Not here: the order of work on a slice (teaching.py, studying.py), the learner itself (models/).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from exfm_assets.learning.lineage import lineage_version
from exfm_assets.learning.shelf import Shelf
from models.batch import SliceTensors
from models.checkpoint import save_checkpoint
from models.learner import FitReport, Learner
from models.manifest import Manifest
from models.network import NetworkSpec
from projects.learning import Distillation, Training
from projects.stream import Slice

UNTRAINED = -1


@dataclass(frozen=True)
class Advanced:
    """What one slice added to the chain; ``fit`` is ``None`` where the stored checkpoint was reused."""

    manifest: Manifest
    fit: FitReport | None


@dataclass
class Chain:
    """Walks one model over slices in order, holding its newest learner in memory.

    Args:
        shelf: where its checkpoints are.
        spec, training, distillation: what a learner is built from.
        device: ``cpu`` or ``cuda``.
    """

    shelf: Shelf
    spec: NetworkSpec
    training: Training
    distillation: Distillation
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
                self._learner = Learner.create(self.spec, self.training, self.distillation, self.device)
            else:
                self._learner, _ = self.shelf.load(self._slice(index), self.device)
            self._index = index
        return self._learner

    def _slice(self, index: int) -> Slice:
        return self.shelf.work.project.stream.slice_at(index)

    def parent(self, index: int) -> Manifest | None:
        """The manifest that slice ``index`` continues; ``None`` for the stream's first slice."""
        if index == 0:
            return None
        piece = self._slice(index - 1)
        return self.shelf.manifest(piece)

    def advance(
        self,
        piece: Slice,
        rows: Callable[[], SliceTensors],
        newest: Callable[[], datetime | None],
        data: Mapping[str, str],
        teacher_checkpoints: tuple[str, ...] = (),
    ) -> Advanced:
        """Train on a slice and save, or find that this very checkpoint is stored already.

        Args:
            rows: the slice's tensors, asked for only if they are trained on.
            newest: the newest impression among them, ``None`` if there are none.
            data: the digests of all that is read, by table.
        """
        index = self.shelf.work.project.stream.index_at(piece.start)
        parent = self.parent(index)
        before = parent.version if parent is not None else None
        version = lineage_version(self.shelf.declaration, before, data, piece.key)
        if self.shelf.holds(piece, version):
            return Advanced(manifest=self.shelf.manifest(piece), fit=None)
        learner = self.learner_at(index - 1)
        # A failed fit must not leave a half-trained learner behind for the next slice.
        self._learner = None
        fit = learner.fit(rows(), order_seed=piece.key)
        seen = newest()
        earlier = parent.trained_until if parent is not None else None
        manifest = save_checkpoint(
            self.shelf.folder(piece),
            learner,
            version=version,
            model=self.shelf.name,
            slice=piece.key,
            declaration=self.shelf.declaration,
            parent=before,
            trained_until=seen.isoformat() if seen is not None and fit.steps else earlier,
            rows=fit.rows,
            data_versions=dict(data),
            teacher_checkpoints=list(teacher_checkpoints),
            metrics={"loss": fit.loss},
        )
        self._learner, self._index = learner, index
        return Advanced(manifest=manifest, fit=fit)
