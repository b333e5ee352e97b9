"""The maps that recalibrate teachers' predictions: one adapter or recalibration for each pair that declares one.

Belongs here: when each is fitted and applied. Not here: the maps (adapters.py, recalibration.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from exfm.distillation import SURFACE, AuxiliaryHead, StudentAdapter
from models.adapters import FittedAdapter
from models.batch import SliceTensors, pick
from models.network_spec import NetworkSpec
from models.recalibration import Recalibrator
from models.supervision_pairs import ADAPTER, SupervisionPairs


class TeacherCalibrators:
    """The maps of A pairs, in the order of the ``adapter`` term.

    A student adapter steps on each batch's labels before it is applied; a recalibration knows earlier slices only.
    """

    def __init__(self, pairs: SupervisionPairs, specs: Sequence[NetworkSpec], seed: int, device: str) -> None:
        term = pairs.terms.get(ADAPTER)
        self.indices: list[int] = term.pairs.tolist() if term is not None else []
        self.pairs = [pairs.all[index] for index in self.indices]
        self.surfaces = [specs[pair.member].surface for pair in self.pairs]
        self.maps = [self._map(pair.declared, len(specs[0].tasks), seed, device) for pair in self.pairs]
        self._context: list[Tensor | None] = []
        self._begins = True

    @staticmethod
    def _map(declared: object, tasks: int, seed: int, device: str) -> FittedAdapter | Recalibrator:
        assert isinstance(declared, AuxiliaryHead) and declared.adapter is not None
        if isinstance(declared.adapter, StudentAdapter):
            return FittedAdapter(declared.adapter, seed, device)
        return Recalibrator(declared.adapter, tasks, device)

    def begin(self, tensors: SliceTensors, teacher_logits: Tensor | None) -> None:
        """Before a slice's first step: contexts of adapters (N, C), probabilities of recalibrations (N, T)."""
        self._context, self._begins = [], tensors.begins
        for index, pair, surface, each in zip(self.indices, self.pairs, self.surfaces, self.maps, strict=True):
            assert teacher_logits is not None
            if isinstance(each, Recalibrator):
                self._context.append(each.apply(teacher_logits[index]))
            elif each.adapter.has_context:
                ids = pick(tensors.ids, tensors.id_names, (surface,), "id") if self._needs_surface(each) else None
                surfaces = ids[:, 0] if ids is not None else None
                self._context.append(each.adapter.context_of(tensors.staleness.get(pair.teacher), surfaces))
            else:
                self._context.append(None)

    @staticmethod
    def _needs_surface(each: FittedAdapter) -> bool:
        return SURFACE in each.adapter.declared.context

    def step(
        self, rows: Tensor, teacher_logits: Tensor | None, labels: Tensor, weights: Tensor | None = None
    ) -> Tensor | None:
        """(P, B, T) logits, (S, B, T) labels, (B,) weights -> (A, B, T) probabilities; ``None`` without maps."""
        if not self.maps or teacher_logits is None:
            return None
        calibrated = []
        for index, pair, each, context in zip(self.indices, self.pairs, self.maps, self._context, strict=True):
            if isinstance(each, Recalibrator):
                assert context is not None
                calibrated.append(context[rows])
            else:
                mine = None if context is None else context[rows]
                calibrated.append(each.step(teacher_logits[index], labels[pair.member], mine, weights))
        return torch.stack(calibrated)

    def end(self, teacher_logits: Tensor | None, labels: Tensor, weights: Tensor | None = None) -> None:
        """After a slice's last step: recalibrations remember it. (P, N, T), (S, N, T), (N,)"""
        for index, pair, each in zip(self.indices, self.pairs, self.maps, strict=True):
            if isinstance(each, Recalibrator) and teacher_logits is not None:
                each.remember(teacher_logits[index], labels[pair.member], weights, fade=self._begins)
        self._context = []
