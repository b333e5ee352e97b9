"""The learner: one loop that trains teachers and students on resident slices, and scores with them.

Belongs here: steps, optimisers, and the state that resumes them bit for bit.
Not here: networks and losses, files (checkpoint.py), which slice is next (exfm_assets/learning/).
"""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.batch import SliceTensors, pick
from models.distillation import Adapter, adapter_loss, student_loss
from models.embedding import EmbeddingTable
from models.errors import LearningError
from models.network import DCN, NetworkSpec
from models.normalizer import Normalizer
from models.optimisers import Adam
from projects.learning import AuxiliaryHead, Distillation, Training

SCORING_ROWS = {"cpu": 4_096, "cuda": 65_536}  # what fits a core's caches is twice as fast there


@dataclass(frozen=True)
class FitReport:
    """What a pass over a slice did; ``loss`` is the mean over its steps, ``None`` if there was nothing to learn."""

    rows: int
    steps: int
    loss: float | None
    seconds: float

    @property
    def examples_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-9)


class Learner:
    """A network with its table, normaliser and optimisers.

    Args:
        spec: the network; ``distillation`` must be the one it was declared with.
        precision: ``auto`` (bf16 autocast on a GPU, fp32 elsewhere), ``bf16`` or ``fp32``.
    """

    def __init__(
        self, spec: NetworkSpec, training: Training, distillation: Distillation, device: str, precision: str = "auto"
    ) -> None:
        self.spec, self.training, self.distillation, self.device = spec, training, distillation, device
        self.bf16 = precision == "bf16" or (precision == "auto" and device.startswith("cuda"))
        generator = torch.Generator().manual_seed(training.seed)
        self.table = EmbeddingTable([rows for _, rows in spec.ids], spec.embedding, generator, device)
        self.normalizer = Normalizer(len(spec.numbers), device)
        self.network = DCN(spec, training.seed).to(device)
        self.adam = Adam(self.network, training.learning_rate)
        declared = distillation.adapter if isinstance(distillation, AuxiliaryHead) else None
        self.adapter = Adapter(declared, training.seed).to(device) if declared is not None else None
        self.adapter_adam = Adam(self.adapter, declared.learning_rate) if self.adapter and declared else None

    @classmethod
    def create(
        cls, spec: NetworkSpec, training: Training, distillation: Distillation, device: str, precision: str = "auto"
    ) -> "Learner":
        """An untrained learner; the same seed begins with the same bits on every device."""
        return cls(spec, training, distillation, device, precision)

    def fit(self, piece: SliceTensors, order_seed: str) -> FitReport:
        """One pass over the rows with a known label, in an order that follows from ``order_seed``.

        Raises:
            LearningError: if the slice lacks a column, or the loss is not finite; the learner is of no use then.
        """
        started = time.perf_counter()
        ids = self.table.rows_of(pick(piece.ids, piece.id_names, tuple(name for name, _ in self.spec.ids), "id"))
        numbers = pick(piece.numbers, piece.number_names, self.spec.numbers, "number")
        labels = pick(piece.labels, piece.task_names, self.spec.tasks, "task")
        teacher = self._teacher(piece)
        known = labels.isfinite().any(dim=1).nonzero().squeeze(1)
        if not len(known):
            return FitReport(0, 0, None, time.perf_counter() - started)
        self.normalizer.update(numbers[known])
        self._begin_at_the_base_rate(labels)
        total, steps = torch.zeros((), device=self.device), 0
        for rows in self._batches(known, order_seed):
            taught = None if teacher is None else teacher[rows]
            total += self._step(ids[rows], numbers[rows], labels[rows], taught)
            steps += 1
        loss = float(total) / steps
        weights = torch.stack([parameter.detach().sum() for parameter in self.network.parameters()]).sum()
        if not math.isfinite(loss) or not bool(weights.isfinite()):
            raise LearningError(f"fit: the mean loss is {loss} after {steps} steps: lower Training.learning_rate")
        return FitReport(len(known), steps, loss, time.perf_counter() - started)

    @torch.no_grad()
    def _begin_at_the_base_rate(self, labels: Tensor) -> None:
        """Before the very first step the heads predict the mean label: what the first slices would spend on finding."""
        if self.adam.has_stepped:
            return
        rate = labels.nanmean(dim=0).nan_to_num(0.5).clamp(1e-4, 1 - 1e-4)  # (T,)
        for name, parameter in self.network.named_parameters():
            if name == "serving.bias" or (name.startswith("heads.") and name.endswith(".bias")):
                parameter.copy_(torch.logit(rate))

    def _teacher(self, piece: SliceTensors) -> Tensor | None:
        if self.distillation is None or self.spec.teacher is None:
            return None
        if self.spec.teacher not in piece.teachers:
            raise LearningError(
                f"fit: the slice has no logits of teacher {self.spec.teacher!r}: pass them, NaN if none"
            )
        return pick(piece.teachers[self.spec.teacher], piece.task_names, self.spec.tasks, "task")

    def _batches(self, known: Tensor, order_seed: str) -> Iterator[Tensor]:
        named = f"{self.training.seed}/{order_seed}"
        seed = int.from_bytes(hashlib.blake2b(named.encode(), digest_size=7).digest(), "little")
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)).to(known.device)
        batches = -(-len(known) // self.training.batch_size)  # even ones: no step for a stray handful of last rows
        yield from known[order].tensor_split(batches)

    def _step(self, ids: Tensor, numbers: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        if self.adapter is not None and self.adapter_adam is not None and teacher is not None:
            self.adapter_adam.step(adapter_loss(self.adapter, teacher, labels))
        touched = self.table.touch(ids)
        with self._autocast():
            hidden = self.network(touched.embedded, self.normalizer.apply_(numbers))
        loss = student_loss(self.network, hidden.float(), labels, teacher, self.distillation, self.adapter)
        self.adam.step(loss)
        self.table.update(touched, self.training.table_learning_rate)
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16, enabled=self.bf16)

    @torch.inference_mode()
    def predict(self, piece: SliceTensors) -> Tensor:
        """Logits of the serving heads, (N, T) float32; changes nothing."""
        ids = self.table.rows_of(pick(piece.ids, piece.id_names, tuple(name for name, _ in self.spec.ids), "id"))
        numbers = pick(piece.numbers, piece.number_names, self.spec.numbers, "number")
        scored = [torch.empty(0, len(self.spec.tasks), device=self.device)]
        size = SCORING_ROWS[self.device.partition(":")[0]]
        for first in range(0, len(ids), size):
            rows = slice(first, first + size)
            with self._autocast():
                hidden = self.network(self.table.lookup(ids[rows]), self.normalizer.apply_(numbers[rows].clone()))
            scored.append(self.network.serving(hidden.float()))
        return torch.cat(scored)
