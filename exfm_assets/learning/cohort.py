"""Cohorts: models that read the same rows through the same network pass over a slice together.

Belongs here: who trains beside whom, reusing what is stored, training, saving; alike for teachers and students.
Not here: the order of work on a slice (teaching.py, studying.py), the learner itself (models/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from exfm_assets.learning.chain import UNTRAINED, Chain
from models.batch import SliceTensors
from models.checkpoint import save_checkpoint
from models.errors import LearningError
from models.learner import Learner
from models.manifest import Manifest
from models.members import FitReport, abreast
from models.state import learner_state, load_states, steps_of
from projects.stream import Slice


@dataclass(frozen=True)
class Advanced:
    """What one slice added to a chain; ``fit`` is ``None`` where the stored checkpoint was reused."""

    manifest: Manifest
    fit: FitReport | None


@dataclass(frozen=True)
class Study:
    """One chain's part in a slice.

    Args:
        rows: which rows of the slice they are: equal names, equal rows.
        data: the digests of all that is read, by table.
        labelled: whether any label of its task is known; without, nothing is learnt.
        lead: teacher -> share of its distillation that is given, and what was measured, asked for only if it trains.
        again: train it even if it is stored: its weights were dropped and are needed.
    """

    chain: Chain
    rows: str
    data: Mapping[str, str]
    labelled: Callable[[], bool]
    checkpoints: Callable[[], tuple[str, ...]] = tuple
    lead: "Callable[[], Led] | None" = None
    again: bool = False


@dataclass(frozen=True)
class Led:
    """Shares of a student's distillation by teacher, and what this slice says of it, by measure."""

    shares: Mapping[str, float]
    measured: Mapping[str, float]


@dataclass
class Cohorts:
    """Learners of chains that train beside each other, in memory from one slice to the next.

    Members share rows and order, never a parameter. Who is beside whom follows from what is asked for, not from what
    is stored: a run that was killed and is started again trains the same members together, so it ends in the same bits.
    """

    _held: dict[tuple[str, ...], tuple[int, Learner]] = field(default_factory=dict)

    def advance(
        self,
        studies: Sequence[Study],
        piece: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[Advanced | LearningError]:
        """Train each chain on a slice and save it, or find that this very checkpoint is stored already.

        A chain whose loss is not finite gets its error; those that trained beside it are not touched by it.

        Args:
            tensors: rows, teachers -> what they learn from; asked for only if somebody trains.
            newest: rows -> the newest impression among them, ``None`` if there are none.
        """
        stored = [_stored(study, piece) for study in studies]
        if all(one is not None for one in stored):
            return [one for one in stored if one is not None]
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, study in enumerate(studies):
            if stored[place] is None or _can_continue(study, piece):
                groups.setdefault(_key(study), []).append(place)
        done: dict[int, Advanced | LearningError | None] = dict(enumerate(stored))
        for places in (part for group in groups.values() for part in _passes(studies, group)):
            if any(stored[place] is None for place in places):
                group = [studies[place] for place in places]
                trained = self._trained(group, piece, tensors, newest)
                done.update({place: done[place] or one for place, one in zip(places, trained, strict=True)})
        return [one for one in done.values() if one is not None]

    def _trained(
        self,
        group: list[Study],
        piece: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[Advanced | LearningError | None]:
        """A pass that can't be made is the trouble of those in it, not of the other passes."""
        try:
            return self._train(group, piece, tensors, newest)
        except LearningError as error:
            return [LearningError(f"{study.chain.shelf.name}: {error}") for study in group]

    def check(self, study: Study, piece: Slice) -> None:
        """Whether the chain can train on a slice, found out before others train beside it.

        Raises:
            DataError, CheckpointError: if it can't be continued, or its lead can't be measured.
        """
        if _stored(study, piece) is not None:
            return
        before = study.chain.shelf.work.project.stream.index_at(piece.start) - 1
        name = study.chain.shelf.name
        if not any(at == before and name in names for names, (at, _) in self._held.items()):
            study.chain.learner_at(before)
        if study.lead is not None:
            study.lead()

    def _train(
        self,
        group: list[Study],
        piece: Slice,
        tensors: Callable[[str, tuple[str, ...]], SliceTensors],
        newest: Callable[[str], datetime | None],
    ) -> list[Advanced | LearningError | None]:
        index = group[0].chain.shelf.work.project.stream.index_at(piece.start)
        led = [study.lead() if study.lead is not None else Led({}, {}) for study in group]
        advanced: dict[int, Advanced | LearningError | None] = {}
        for places, learner in self._learners([study.chain for study in group], index - 1):
            part = [group[place] for place in places]
            teachers = dict.fromkeys(name for study in part for name in study.chain.member.spec.teachers)
            rows = tensors(part[0].rows, tuple(teachers))
            fit = learner.fit(rows, order_seed=piece.key, shares=[led[place].shares for place in places])
            for member, place in enumerate(places):
                if _stored(group[place], piece) is not None:
                    continue  # it only kept the others company
                if (error := fit.of(member).error) is not None:
                    advanced[place] = LearningError(f"{group[place].chain.shelf.name}: {error}")
                    continue
                seen = newest(part[0].rows)
                manifest = _save(group[place], learner, member, piece, fit.of(member), led[place], seen)
                advanced[place] = Advanced(manifest, fit.of(member))
            self._keep([study.chain for study in part], index, learner)
        return [advanced.get(place) for place in range(len(group))]

    def _learners(self, chains: list[Chain], index: int) -> list[tuple[list[int], Learner]]:
        """Learners that trained last on slice ``index``, each with the places of its members."""
        names = tuple(chain.shelf.name for chain in chains)
        everybody = list(range(len(chains)))
        if len(chains) == 1:
            return [(everybody, chains[0].take(index))]
        at, learner = self._held.pop(names, (None, None))
        if learner is not None and at == index:
            return [(everybody, learner)]
        if index == UNTRAINED:
            return [(everybody, self._built(chains))]
        states = [learner_state(chain.take(index)) for chain in chains]
        by_steps: dict[int, list[int]] = {}
        for place, state in enumerate(states):
            by_steps.setdefault(steps_of(state), []).append(place)
        built = []
        for places in by_steps.values():
            together = self._built([chains[place] for place in places])
            load_states(together, [states[place] for place in places], " and ".join(names))
            built.append((places, together))
        return built

    @staticmethod
    def _built(chains: list[Chain]) -> Learner:
        return Learner([chain.member for chain in chains], chains[0].training, chains[0].device)

    def _keep(self, chains: list[Chain], index: int, learner: Learner) -> None:
        if len(chains) == 1:
            chains[0].keep(learner, index)
        else:
            self._held[tuple(chain.shelf.name for chain in chains)] = (index, learner)


def _stored(study: Study, piece: Slice) -> Advanced | None:
    """The slice's checkpoint, if it is stored already, made of the same."""
    chain = study.chain
    if study.again and not chain.shelf.has_weights(piece):
        return None
    index = chain.shelf.work.project.stream.index_at(piece.start)
    held = chain.shelf.holds(piece, chain.version(index, study.data))
    return Advanced(chain.shelf.manifest(piece), None) if held else None


def _can_continue(study: Study, piece: Slice) -> bool:
    """Are the weights of the slice before still there, so that it can keep others company?"""
    stream = study.chain.shelf.work.project.stream
    index = stream.index_at(piece.start)
    return index - 1 == UNTRAINED or study.chain.shelf.has_weights(stream.slice_at(index - 1))


def _key(study: Study) -> tuple[object, ...]:
    """Chains with equal keys can train together."""
    chain = study.chain
    return chain.member.spec.shape, chain.training, study.rows, study.labelled(), chain.device


def _passes(studies: Sequence[Study], group: list[int]) -> list[list[int]]:
    """The places of a group, by the passes over the slice that they share."""
    chain = studies[group[0]].chain
    return abreast(group, chain.member.spec, chain.training.batch_size, chain.device)


def _save(
    study: Study, learner: Learner, member: int, piece: Slice, fit: FitReport, led: Led, newest: datetime | None
) -> Manifest:
    chain = study.chain
    index = chain.shelf.work.project.stream.index_at(piece.start)
    parent = chain.parent(index)
    earlier = parent.trained_until if parent is not None else None
    shares = {f"share/{name}": share for name, share in led.shares.items()}
    return save_checkpoint(
        chain.shelf.folder(piece),
        learner,
        member,
        version=chain.version(index, study.data),
        model=chain.shelf.name,
        slice=piece.key,
        declaration=chain.shelf.declaration,
        parent=parent.version if parent is not None else None,
        trained_until=newest.isoformat() if newest is not None and fit.steps else earlier,
        rows=fit.labelled[0],
        data_versions=dict(study.data),
        teacher_checkpoints=list(study.checkpoints()),
        metrics={"loss": fit.loss, **shares, **led.measured},
    )
