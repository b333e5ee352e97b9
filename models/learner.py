"""The learner: one loop that trains teachers and students on resident slices, and scores with them.

Belongs here: steps, and their order. Not here: networks, losses, states, files, which slice is next.
"""

import math
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from exfm.distillation import Distillation
from exfm.learning import Training
from models.batch import SliceTensors, shuffled
from models.calibrators import TeacherCalibrators
from models.distillation import losses
from models.embedding import EmbeddingTable
from models.errors import LearningError
from models.learner_slice import Inputs, LearnerSlice, inputs_of, learner_slice, weighted_rate
from models.members import FitReport, Member
from models.network import Networks
from models.network_spec import NetworkSpec
from models.normalizer import Normalizer
from models.optimisers import Adam, compiled, repeatable
from models.quantiles import Quantiles
from models.sampling import with_fewer_negatives
from models.supervision_pairs import Shares, SupervisionPairs
from models.threads import multiply_adds, threads_for

SCORING_ROWS = {"cpu": 4_096, "cuda": 65_536}  # what fits a core's caches is twice as fast there


class Learner:
    """S networks of one shape over the same rows, with their table, normaliser and optimisers.

    A student, its control, its siblings of other tasks or other distillations pass over a slice once: rows are
    gathered once, and every operation is batched over members, who share no parameter. Seed and order are common.

    Args:
        members: of one ``NetworkSpec.shape``.

    Raises:
        LearningError: if shapes differ.
    """

    def __init__(self, members: Sequence[Member], training: Training, device: str) -> None:
        self.members, self.training, self.device = tuple(members), training, device
        self.specs = tuple(member.spec for member in members)
        self.spec = self.specs[0]
        if any(spec.shape != self.spec.shape for spec in self.specs):
            raise LearningError("learner: members differ in their inputs or network: give each shape a learner")
        self.bf16 = training.precision == "bf16" or (training.precision == "auto" and device.startswith("cuda"))
        generator, rows = torch.Generator().manual_seed(training.seed), [rows for _, rows in self.spec.table]
        self.table = EmbeddingTable(rows, self.spec.network.embedding, len(members), generator, device)
        self.quantiles = Quantiles(self.spec.quantiles, device)
        self.normalizer = Normalizer(len((*self.spec.numbers, *self.spec.positions)), device, self.spec.loose)
        distillations = [member.distillation for member in members]
        self.pairs = SupervisionPairs([spec.teachers for spec in self.specs], distillations, device)
        sizes = (self.pairs.heads, self.pairs.towers)
        self.networks = Networks(len(members), self.spec, training.seed, *sizes).to(device)
        self._forward = compiled(self.networks, training)
        self.adam = Adam(self.networks, training.learning_rate)
        self.calibrators = TeacherCalibrators(self.pairs, self.specs, training.seed, device)

    @classmethod
    def create(cls, spec: NetworkSpec, training: Training, distillation: Distillation, device: str) -> "Learner":
        """An untrained learner of one member; the same seed begins with the same bits on every device."""
        return cls([Member(spec, distillation)], training, device)

    def fit(self, tensors: SliceTensors, order_seed: str, shares: Shares | None = None) -> FitReport:
        """One pass over the rows with a known label, in an order that follows from ``order_seed``.

        Args:
            shares: of each member's distillation by each teacher that is given, in [0, 1]; ``None`` for all.

        Raises:
            LearningError: if the slice lacks a column, or no member's loss is finite; the learner is of no use then.
                Beside others, a member whose loss is not finite is named in the report (``FitReport.error``).
        """
        started = time.perf_counter()
        tensors = with_fewer_negatives(tensors, self.training.negatives, f"{self.training.seed}/{order_seed}")
        self.quantiles.update(tensors)
        ready = learner_slice(tensors, self.specs, self.table, self.pairs, self.quantiles)
        labelled = tuple(ready.labels.isfinite().any(dim=2).sum(dim=1).tolist())  # (S,)
        if not any(labelled):
            return FitReport(0, 0, labelled, (None,) * len(labelled), time.perf_counter() - started)
        self.normalizer.update(ready.inputs.numbers, ready.known)
        self._begin_at_the_base_rate(ready.labels, ready.weights)
        share = None if shares is None else self.pairs.shares(shares).to(self.device)
        self.calibrators.begin(tensors, ready.teacher_logits)
        total, steps = torch.zeros(len(self.specs), device=self.device), 0
        work = multiply_adds(self.networks, min(self.training.batch_size, len(ready.known)), ready.inputs.listed)
        with repeatable(self.training.deterministic), threads_for(work):
            for rows in shuffled(ready.known, self.training.batch_size, f"{self.training.seed}/{order_seed}"):
                batch = ready.take(rows)
                calibrated = self.calibrators.step(rows, batch.teacher_logits, batch.labels, batch.weights)
                total += self._step(batch, calibrated, share)
                steps += 1
        self.calibrators.end(ready.teacher_logits, ready.labels, ready.weights)
        means = (total / steps).tolist()
        weights = torch.stack([parameter.detach().sum() for parameter in self.networks.parameters()]).sum()
        sound = list(map(math.isfinite, means))
        if not any(sound) or (all(sound) and not bool(weights.isfinite())):
            raise LearningError(f"fit: the mean losses are {means} after {steps} steps: lower Training.learning_rate")
        return FitReport(len(ready.known), steps, labelled, tuple(means), time.perf_counter() - started)

    def _begin_at_the_base_rate(self, labels: Tensor, weights: Tensor | None) -> None:
        """Before the very first step the heads predict the mean label: what the first slices would spend on finding."""
        if self.adam.has_stepped:
            return
        rate = labels.nanmean(dim=1) if weights is None else weighted_rate(labels, weights)
        logit = torch.logit(rate.nan_to_num(0.5).clamp(1e-4, 1 - 1e-4))  # (S, T)
        self.networks.begin_at(logit, {kind: self.pairs.terms[kind].members for kind in self.networks.heads})

    def _step(self, batch: LearnerSlice, calibrated: Tensor | None, share: Tensor | None) -> Tensor:
        touched = self.table.touch(batch.inputs.rows, *(history.values for history in batch.inputs.histories))
        looked_up = [F.embedding(index, touched.values) for index in touched.indices]
        hidden = self._hidden(batch.inputs, looked_up).float()
        told = (batch.labels, batch.teacher_logits, calibrated, share, batch.weights)
        each = losses(self.networks, self.pairs, hidden, *told)  # (S,)
        self.adam.step(each.sum())
        self.table.update(touched, self.training.table_learning_rate)
        return each.detach()

    def _hidden(self, inputs: Inputs, looked_up: Sequence[Tensor]) -> Tensor:
        """The backbone's output (S, B, T or 1, H), from (B, F, S E) and (V, S E) embeddings."""
        members = len(self.specs)
        fields, *keys = (embedded.unflatten(-1, (members, -1)).movedim(-2, 0) for embedded in looked_up)  # (S, ..., E)
        numbers = self.normalizer.apply_(inputs.numbers).expand(members, -1, -1)  # (B, D) -> (S, B, D)
        with torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16, enabled=self.bf16):
            hidden: Tensor = self._forward(fields, numbers, keys, inputs.histories)
        return hidden

    @torch.inference_mode()
    def predict_all(self, tensors: SliceTensors) -> Tensor:
        """Logits of every member's serving heads, (S, N, T) float32; changes nothing."""
        inputs = inputs_of(tensors, self.spec, self.table, self.quantiles)
        scored = [torch.empty(len(self.specs), 0, len(self.spec.tasks), device=self.device)]
        at_once = SCORING_ROWS[self.device.partition(":")[0]]
        for indices in torch.arange(len(tensors), device=self.device).split(at_once):
            part = inputs.take(indices)
            looked_up = list(map(self.table.lookup, (part.rows, *(history.values for history in part.histories))))
            scored.append(self.networks.serving(self._hidden(part, looked_up).float()))
        return torch.cat(scored, dim=1)

    def predict(self, tensors: SliceTensors, member: int = 0) -> Tensor:
        """Logits of a member's serving heads, (N, T) float32; changes nothing."""
        return self.predict_all(tensors)[member]
