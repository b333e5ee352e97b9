"""Joint training: models that read the same rows through the same network pass over a slice together.

Belongs here: who trains beside whom, reusing what is kept, training, saving; alike for teachers and students.
Not here: the order of work on a slice (teacher_walk.py, student_walk.py), the learner itself (models/).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, islice

import torch

from exfm.stream import Slice
from models.batch import SliceTensors
from models.errors import LearningError
from models.growth import added_inputs
from models.learner import Learner
from models.manifest import Manifest
from models.members import FitReport, abreast
from models.state import learner_state, load_states, steps_by_weight
from models.supervision_pairs import Shares
from pipeline.registry.incremental_model import UNTRAINED, IncrementalModel
from pipeline.registry.lineage import Data
from pipeline.slices.supervised_slice import SupervisedSlice


@dataclass(frozen=True)
class TrainResult:
    """What one slice added to a model; ``fit`` is ``None`` where the kept checkpoint was reused."""

    manifest: Manifest
    fit: FitReport | None


@dataclass(frozen=True)
class DistillationShares:
    """Shares of a student's distillation by teacher, and what this slice says of it, by measure."""

    shares: Mapping[str, float]
    measured: Mapping[str, float]


NO_SHARES = DistillationShares({}, {})


@dataclass(frozen=True)
class TrainRequest:
    """One model's part in a slice.

    Args:
        rows: which rows of the slice they are: equal names, equal rows.
        data: the digests of all that is read, by table, as a checkpoint names it.
        labelled: whether any label of its task is known; without, nothing is learnt.
        teacher_checkpoints: whose predictions supervise it.
        lead: the shares of its distillation, asked for only if it trains.
        again: train it even if it is kept: its weights were dropped and are needed.
        withdrawn: it learns nothing of the slice, for what it learnt of it was withdrawn.
    """

    model: IncrementalModel
    rows: str
    data: Data
    labelled: Callable[[], bool]
    teacher_checkpoints: Callable[[], tuple[str, ...]] = tuple
    lead: Callable[[], DistillationShares] | None = None
    again: bool = False
    withdrawn: bool = False

    @property
    def name(self) -> str:
        return self.model.checkpoints.name

    @property
    def key(self) -> tuple[object, ...]:
        """Models with equal keys can train together."""
        model = self.model
        known = not self.withdrawn and self.labelled()
        return model.member.spec.shape, model.training, self.rows, known, self.withdrawn, model.device

    def kept(self, slice_: Slice) -> TrainResult | None:
        """The slice's checkpoint, if it is there already, made of the same."""
        checkpoints = self.model.checkpoints
        if self.again and not checkpoints.has_weights(slice_):
            return None
        held = self.model.holds(slice_.index, self.data)
        return TrainResult(checkpoints.manifest(slice_), None) if held else None

    def can_keep_company(self, kept: Manifest, slice_: Slice) -> bool:
        """Would it be trained to what is kept, beside others, and are the weights of the slice before still there?"""
        before, checkpoints = slice_.index - 1, self.model.checkpoints
        if kept.declaration != checkpoints.declaration:
            return False  # it read fewer inputs then
        return before == UNTRAINED or checkpoints.has_weights(self.model.stream.slice_at(before))


@dataclass
class JointTrainer:
    """Learners of models that train beside each other, in memory from one slice to the next.

    Members share rows and order, never a parameter. Who is beside whom follows from what is requested, not from what
    is kept: a run that was killed and is started again trains the same members together, so it ends in the same bits.
    """

    _held: dict[tuple[str, ...], tuple[int, Learner]] = field(default_factory=dict)

    def train(self, requests: Sequence[TrainRequest], supervised: SupervisedSlice) -> list[TrainResult | LearningError]:
        """Train each model on a slice and save it, or find that this very checkpoint is kept already.

        A model whose loss is not finite gets its error; those that trained beside it are not touched by it.
        """
        slice_ = supervised.slice
        kept = [request.kept(slice_) for request in requests]
        if all(result is not None for result in kept):
            return [result for result in kept if result is not None]
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, request in enumerate(requests):
            result = kept[index]
            if result is None or request.can_keep_company(result.manifest, slice_):
                groups.setdefault(request.key, []).append(index)
        done: dict[int, TrainResult | LearningError | None] = dict(enumerate(kept))
        for indices in (part for group in groups.values() for part in _passes(requests, group)):
            if any(kept[index] is None for index in indices):
                trained = self._pass([requests[index] for index in indices], supervised)
                done.update({index: done[index] or result for index, result in zip(indices, trained, strict=True)})
        return [result for result in done.values() if result is not None]

    def check(self, request: TrainRequest, slice_: Slice) -> None:
        """Whether the model can train on a slice, found out before others train beside it.

        Raises:
            DataError, CheckpointError: if it can't be continued, or its lead can't be measured.
        """
        if request.kept(slice_) is not None:
            return
        before = slice_.index - 1
        if not any(at == before and request.name in names for names, (at, _) in self._held.items()):
            request.model.learner_at(before)
        if request.lead is not None:
            request.lead()

    def _pass(self, group: list[TrainRequest], supervised: SupervisedSlice) -> list[TrainResult | LearningError | None]:
        """A pass that can't be made is the trouble of those in it, not of the other passes."""
        try:
            return self._train(group, supervised)
        except LearningError as error:
            return [LearningError(f"{request.name}: {error}") for request in group]

    def _train(
        self, group: list[TrainRequest], supervised: SupervisedSlice
    ) -> list[TrainResult | LearningError | None]:
        slice_ = supervised.slice
        shares = [request.lead() if request.lead is not None else NO_SHARES for request in group]
        done: dict[int, TrainResult | LearningError | None] = {}
        for indices, learner in self._learners([request.model for request in group], slice_.index - 1):
            part = [group[index] for index in indices]
            rows = _rows_of(part, supervised)
            fit = fit_parts(learner, rows, slice_.key, [shares[index].shares for index in indices])
            for member, index in enumerate(indices):
                if group[index].kept(slice_) is not None:
                    continue  # it only kept the others company
                if (error := fit.of(member).error) is not None:
                    done[index] = LearningError(f"{group[index].name}: {error}")
                    continue
                mine = fit.of(member)
                mine = replace(mine, seconds=mine.seconds / len(indices))
                done[index] = _save(group[index], learner, member, supervised, mine, shares[index])
            self._keep([request.model for request in part], slice_.index, learner)
        return [done.get(index) for index in range(len(group))]

    def _learners(self, models: list[IncrementalModel], before: int) -> list[tuple[list[int], Learner]]:
        """Learners that trained last on slice ``before``, each with the positions of its members."""
        names = tuple(model.checkpoints.name for model in models)
        everybody = list(range(len(models)))
        if len(models) == 1:
            return [(everybody, models[0].take(before))]
        at, learner = self._held.pop(names, (None, None))
        if learner is not None and at == before:
            return [(everybody, learner)]
        if before == UNTRAINED:
            members = [model.member for model in models]
            return [(everybody, Learner(members, models[0].training, models[0].device))]
        alone = [model.take(before) for model in models]
        alike: dict[tuple[object, ...], list[int]] = {}
        for index, learner in enumerate(alone):
            # What came late in one of them came with others in another, or has taken other numbers of steps there.
            steps = frozenset(steps_by_weight(learner_state(learner)).items())
            alike.setdefault((learner.spec.shape, steps), []).append(index)
        built = []
        for indices in alike.values():
            members = [alone[index].members[0] for index in indices]
            together = Learner(members, models[0].training, models[0].device)
            load_states(together, [learner_state(alone[index]) for index in indices], " and ".join(names))
            built.append((indices, together))
        return built

    def _keep(self, models: list[IncrementalModel], index: int, learner: Learner) -> None:
        if len(models) == 1:
            models[0].keep(learner, index)
        else:
            self._held[tuple(model.checkpoints.name for model in models)] = (index, learner)


def fit_parts(
    learner: Learner, parts: Iterable[SliceTensors], slice_key: str, shares: Shares | None = None
) -> FitReport:
    """Train on a slice, part by part: within each of them, rows are in random order."""
    orders = chain([slice_key], (f"{slice_key}/{part}" for part in count(1)))
    return FitReport.of_parts([learner.fit(part, order, shares) for part, order in zip(parts, orders, strict=False)])


def _rows_of(requests: Sequence[TrainRequest], supervised: SupervisedSlice) -> Iterator[SliceTensors]:
    """What models that train together read, part by part: none of the rows if what they learnt of it was withdrawn."""
    first = requests[0]
    teachers = dict.fromkeys(name for request in requests for name in request.model.member.spec.teachers)
    parts = supervised.parts(first.rows, tuple(teachers))
    if not first.withdrawn:
        return parts
    return (part.take(torch.arange(0, device=part.labels.device)) for part in islice(parts, 1))


def _passes(requests: Sequence[TrainRequest], group: list[int]) -> list[list[int]]:
    """The positions of a group, by the passes over the slice that they share."""
    model = requests[group[0]].model
    return abreast(group, model.member.spec, model.training.batch_size, model.device)


def _save(
    request: TrainRequest,
    learner: Learner,
    member: int,
    supervised: SupervisedSlice,
    fit: FitReport,
    shares: DistillationShares,
) -> TrainResult:
    model, slice_ = request.model, supervised.slice
    parent, newest = model.parent(slice_.index), supervised.newest(request.rows)
    earlier = parent.trained_until if parent is not None else None
    given = {f"share/{name}": share for name, share in shares.shares.items()}
    manifest = model.checkpoints.save(
        slice_,
        learner,
        member,
        version=model.version(slice_.index, request.data),
        model=request.name,
        slice=slice_.key,
        declaration=model.checkpoints.declaration,
        parent=parent.version if parent is not None else None,
        trained_until=newest.isoformat() if newest is not None and fit.steps else earlier,
        rows=fit.labelled[0],
        data_versions=dict(request.data(None)),
        grown_by=added_inputs(parent.spec, learner.specs[member]) if parent is not None else [],
        encoder=dict(model.encoder),
        teacher_checkpoints=[] if request.withdrawn else list(request.teacher_checkpoints()),
        metrics={"loss": fit.loss, **given, **shares.measured},
        seconds=fit.seconds,
    )
    return TrainResult(manifest, fit)
