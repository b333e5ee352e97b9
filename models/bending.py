"""What bends the teachers' predictions of a learner: one adapter or recalibration for each pair that declares one.

Belongs here: when each is fitted and asked. Not here: the maps (adapters.py, recalibration.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.adapters import FittedAdapter
from models.batch import SliceTensors, pick
from models.network import NetworkSpec
from models.pairs import ADAPTER, Pairs
from models.recalibration import Recalibrator
from projects.distillation import SURFACE, AuxiliaryHead, StudentAdapter


class Benders:
    """The maps of A pairs, in the order of the ``adapter`` term.

    A student adapter steps on each batch's labels before it is asked; a recalibration knows earlier slices only.
    """

    def __init__(self, pairs: Pairs, specs: Sequence[NetworkSpec], seed: int, device: str) -> None:
        term = pairs.terms.get(ADAPTER)
        self.places: list[int] = term.pairs.tolist() if term is not None else []
        self.pairs = [pairs.all[place] for place in self.places]
        self.surfaces = [specs[pair.member].surface for pair in self.pairs]
        self.maps = [self._map(pair.declared, len(specs[0].tasks), seed, device) for pair in self.pairs]
        self._told: list[Tensor | None] = []

    @staticmethod
    def _map(declared: object, tasks: int, seed: int, device: str) -> FittedAdapter | Recalibrator:
        assert isinstance(declared, AuxiliaryHead) and declared.adapter is not None
        if isinstance(declared.adapter, StudentAdapter):
            return FittedAdapter(declared.adapter, seed, device)
        return Recalibrator(declared.adapter, tasks, device)

    def begin(self, piece: SliceTensors, taught: Tensor | None) -> None:
        """Before a slice's first step: what adapters are told (N, C), what recalibrations say (N, T)."""
        self._told = []
        for place, pair, surface, each in zip(self.places, self.pairs, self.surfaces, self.maps, strict=True):
            assert taught is not None
            if isinstance(each, Recalibrator):
                self._told.append(each.apply(taught[place]))
            elif each.adapter.is_told:
                ids = pick(piece.ids, piece.id_names, (surface,), "id") if self._needs_surface(each) else None
                surfaces = ids[:, 0] if ids is not None else None
                self._told.append(each.adapter.told_of(piece.staleness.get(pair.teacher), surfaces))
            else:
                self._told.append(None)

    @staticmethod
    def _needs_surface(each: FittedAdapter) -> bool:
        return SURFACE in each.adapter.declared.told

    def step(self, rows: Tensor, taught: Tensor | None, labels: Tensor) -> Tensor | None:
        """Of a batch: (P, B, T) logits and (S, B, T) labels -> (A, B, T) probabilities; ``None`` without maps."""
        if not self.maps or taught is None:
            return None
        bent = []
        for place, pair, each, told in zip(self.places, self.pairs, self.maps, self._told, strict=True):
            if isinstance(each, Recalibrator):
                assert told is not None
                bent.append(told[rows])
            else:
                bent.append(each.step(taught[place], labels[pair.member], None if told is None else told[rows]))
        return torch.stack(bent)

    def end(self, taught: Tensor | None, labels: Tensor) -> None:
        """After a slice's last step: recalibrations remember it. (P, N, T), (S, N, T)"""
        for place, pair, each in zip(self.places, self.pairs, self.maps, strict=True):
            if isinstance(each, Recalibrator) and taught is not None:
                each.remember(taught[place], labels[pair.member])
        self._told = []
