"""Cohorts: models that read the same rows through the same network pass over a slice together.

Belongs here: who trains beside whom, reusing what is stored, training, saving; alike for teachers and students.
Not here: the order of work on a slice (teacher_walk.py, student_walk.py), the learner itself (models/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from exfm.stream import Slice
from models.batch import SliceTensors
from models.checkpoint import save_checkpoint
from models.errors import LearningError
from models.learner import Learner
from models.manifest import Manifest
from models.members import FitReport, abreast
from models.state import learner_state, load_states, steps_of
from pipeline.registry.incremental_model import UNTRAINED, IncrementalModel


@dataclass(frozen=True)
class TrainResult:
    """What one slice added to a chain; ``fit`` is ``None`` where the stored checkpoint was reused."""

    manifest: Manifest
    fit: FitReport | None


@dataclass(frozen=True)
class TrainRequest:
    """One chain's part in a slice.

    Args:
        rows: which rows of the slice they are: equal names, equal rows.
        data: the digests of all that is read, by table.
        labelled: whether any label of its task is known; without, nothing is learnt.
        lead: teacher -> share of its distillation that is given, and what was measured, asked for only if it trains.
        again: train it even if it is stored: its weights were dropped and are needed.
    """

    model: IncrementalModel
    rows: str
    data: Mapping[str, str]
    labelled: Callable[[], bool]
    teacher_checkpoints: Callable[[], tuple[str, ...]] = tuple
    lead: "Callable[[], DistillationShares] | None" = None
    again: bool = False


@dataclass(frozen=True)
class DistillationShares:
    """Shares of a student's distillation by teacher, and what this slice says of it, by measure."""

    shares: Mapping[str, float]
    measured: Mapping[str, float]


@dataclass
class JointTrainer:
    """Learners of chains that train beside each other, in memory from one slice to the next.

    Members share rows and order, never a parameter. Who is beside whom follows from what is asked for, not from what
    is stored: a run that was killed and is started again trains the same members together, so it ends in the same bits.
    """

    _held: dict[tuple[str, ...], tuple[int, Learner]] = field(default_factory=dict)

    def train(
        self,
        requests: Sequence[TrainRequest],
        slice_: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[TrainResult | LearningError]:
        """Train each chain on a slice and save it, or find that this very checkpoint is stored already.

        A chain whose loss is not finite gets its error; those that trained beside it are not touched by it.

        Args:
            tensors: rows, teachers -> what they learn from; asked for only if somebody trains.
            newest: rows -> the newest impression among them, ``None`` if there are none.
        """
        stored = [_stored(study, slice_) for study in requests]
        if all(one is not None for one in stored):
            return [one for one in stored if one is not None]
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, study in enumerate(requests):
            if stored[place] is None or _can_continue(study, slice_):
                groups.setdefault(_key(study), []).append(place)
        done: dict[int, TrainResult | LearningError | None] = dict(enumerate(stored))
        for places in (part for group in groups.values() for part in _passes(requests, group)):
            if any(stored[place] is None for place in places):
                group = [requests[place] for place in places]
                trained = self._trained(group, slice_, tensors, newest)
                done.update({place: done[place] or one for place, one in zip(places, trained, strict=True)})
        return [one for one in done.values() if one is not None]

    def _trained(
        self,
        group: list[TrainRequest],
        slice_: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[TrainResult | LearningError | None]:
        """A pass that can't be made is the trouble of those in it, not of the other passes."""
        try:
            return self._train(group, slice_, tensors, newest)
        except LearningError as error:
            return [LearningError(f"{study.model.checkpoints.name}: {error}") for study in group]

    def check(self, study: TrainRequest, slice_: Slice) -> None:
        """Whether the chain can train on a slice, found out before others train beside it.

        Raises:
            DataError, CheckpointError: if it can't be continued, or its lead can't be measured.
        """
        if _stored(study, slice_) is not None:
            return
        before = study.model.checkpoints.work.project.stream.index_at(slice_.start) - 1
        name = study.model.checkpoints.name
        if not any(at == before and name in names for names, (at, _) in self._held.items()):
            study.model.learner_at(before)
        if study.lead is not None:
            study.lead()

    def _train(
        self,
        group: list[TrainRequest],
        slice_: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[TrainResult | LearningError | None]:
        index = group[0].model.checkpoints.work.project.stream.index_at(slice_.start)
        led = [study.lead() if study.lead is not None else DistillationShares({}, {}) for study in group]
        trained: dict[int, TrainResult | LearningError | None] = {}
        for places, learner in self._learners([study.model for study in group], index - 1):
            part = [group[place] for place in places]
            teachers = dict.fromkeys(name for study in part for name in study.model.member.spec.teachers)
            rows = tensors(part[0].rows, tuple(teachers))
            fit = learner.fit(rows, order_seed=slice_.key, shares=[led[place].shares for place in places])
            for member, place in enumerate(places):
                if _stored(group[place], slice_) is not None:
                    continue  # it only kept the others company
                if (error := fit.of(member).error) is not None:
                    trained[place] = LearningError(f"{group[place].model.checkpoints.name}: {error}")
                    continue
                seen = newest(part[0].rows)
                manifest = _save(group[place], learner, member, slice_, fit.of(member), led[place], seen)
                trained[place] = TrainResult(manifest, fit.of(member))
            self._keep([study.model for study in part], index, learner)
        return [trained.get(place) for place in range(len(group))]

    def _learners(self, models: list[IncrementalModel], index: int) -> list[tuple[list[int], Learner]]:
        """Learners that trained last on slice ``index``, each with the places of its members."""
        names = tuple(model.checkpoints.name for model in models)
        everybody = list(range(len(models)))
        if len(models) == 1:
            return [(everybody, models[0].take(index))]
        at, learner = self._held.pop(names, (None, None))
        if learner is not None and at == index:
            return [(everybody, learner)]
        if index == UNTRAINED:
            return [(everybody, self._built(models))]
        states = [learner_state(model.take(index)) for model in models]
        by_steps: dict[int, list[int]] = {}
        for place, state in enumerate(states):
            by_steps.setdefault(steps_of(state), []).append(place)
        built = []
        for places in by_steps.values():
            together = self._built([models[place] for place in places])
            load_states(together, [states[place] for place in places], " and ".join(names))
            built.append((places, together))
        return built

    @staticmethod
    def _built(models: list[IncrementalModel]) -> Learner:
        return Learner([model.member for model in models], models[0].training, models[0].device)

    def _keep(self, models: list[IncrementalModel], index: int, learner: Learner) -> None:
        if len(models) == 1:
            models[0].keep(learner, index)
        else:
            self._held[tuple(model.checkpoints.name for model in models)] = (index, learner)


def _stored(study: TrainRequest, slice_: Slice) -> TrainResult | None:
    """The slice's checkpoint, if it is stored already, made of the same."""
    model = study.model
    if study.again and not model.checkpoints.has_weights(slice_):
        return None
    index = model.checkpoints.work.project.stream.index_at(slice_.start)
    held = model.checkpoints.holds(slice_, model.version(index, study.data))
    return TrainResult(model.checkpoints.manifest(slice_), None) if held else None


def _can_continue(study: TrainRequest, slice_: Slice) -> bool:
    """Are the weights of the slice before still there, so that it can keep others company?"""
    stream = study.model.checkpoints.work.project.stream
    index = stream.index_at(slice_.start)
    return index - 1 == UNTRAINED or study.model.checkpoints.has_weights(stream.slice_at(index - 1))


def _key(study: TrainRequest) -> tuple[object, ...]:
    """Chains with equal keys can train together."""
    model = study.model
    return model.member.spec.shape, model.training, study.rows, study.labelled(), model.device


def _passes(requests: Sequence[TrainRequest], group: list[int]) -> list[list[int]]:
    """The places of a group, by the passes over the slice that they share."""
    model = requests[group[0]].model
    return abreast(group, model.member.spec, model.training.batch_size, model.device)


def _save(
    study: TrainRequest,
    learner: Learner,
    member: int,
    slice_: Slice,
    fit: FitReport,
    led: DistillationShares,
    newest: datetime | None,
) -> Manifest:
    model = study.model
    index = model.checkpoints.work.project.stream.index_at(slice_.start)
    parent = model.parent(index)
    earlier = parent.trained_until if parent is not None else None
    shares = {f"share/{name}": share for name, share in led.shares.items()}
    return save_checkpoint(
        model.checkpoints.folder(slice_),
        learner,
        member,
        version=model.version(index, study.data),
        model=model.checkpoints.name,
        slice=slice_.key,
        declaration=model.checkpoints.declaration,
        parent=parent.version if parent is not None else None,
        trained_until=newest.isoformat() if newest is not None and fit.steps else earlier,
        rows=fit.labelled[0],
        data_versions=dict(study.data),
        teacher_checkpoints=list(study.teacher_checkpoints()),
        metrics={"loss": fit.loss, **shares, **led.measured},
    )
