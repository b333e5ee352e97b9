"""Growing: a trained learner goes on with more inputs, its weights where they belong, the new ones read by nothing yet.

Belongs here: a state of the old network placed in a larger one. Not here: which position of a weight is whose (axes.py,
and each trunk), when that is done (pipeline/registry/).

The grown network gives what the old one gave, to rounding, until it has learnt: weights that read a new input are zero.
What is new beside those (embedding rows, attention, statistics, what crosses make of a new input) begins as in a fresh
network, and so do the optimisers' moments of all that is new.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.axes import Axes, InputNames, Labels, below
from models.errors import LearningError
from models.learner import Learner
from models.members import Member
from models.network_spec import NetworkSpec
from models.state import learner_state, load_states
from models.trunk_parts import NUMBERS

State = dict[str, Tensor]


def reads_the_same(spec: NetworkSpec, other: NetworkSpec) -> bool:
    """Do two networks read the same inputs, in the same order?"""
    return _reads(spec) == _reads(other)


def _reads(spec: NetworkSpec) -> tuple[tuple[object, ...], ...]:
    return spec.ids, spec.numbers, spec.histories, spec.bags, spec.vectors, spec.sides, spec.quantiles


def added_inputs(before: NetworkSpec, after: NetworkSpec) -> list[str]:
    """The columns that one network reads and an earlier one did not."""
    known = {*before.fields, *before.numbers, *(side.name for side in before.sides)}
    beside = (side.name for side in after.sides)
    return [name for name in (*after.fields, *after.numbers, *beside) if name not in known]


@torch.no_grad()
def grown(learner: Learner, member: Member) -> Learner:
    """A learner of one member that goes on with the inputs of ``member``: those it has, and more, in any order.

    Raises:
        LearningError: if an input is gone, or is another than it was.
    """
    old, wanted = learner.spec, member.spec
    gone = {each for kind in _reads(old) for each in kind} - {each for kind in _reads(wanted) for each in kind}
    if gone:
        raise LearningError(f"grow: {sorted(map(str, gone))[0]} is no input any more: train from the first slice again")
    if not learner.adam.has_stepped:  # it has learnt nothing yet
        return Learner([member], learner.training, learner.device)
    trunk = learner.networks.trunk
    grown_spec = replace(wanted, late=_late(old, wanted) if trunk.keeps_late_apart else ())
    if trunk.implied() and not grown_spec.late and old.fields != wanted.fields:
        raise LearningError("grow: a residual keeps fields where they are: leave them in their order")
    larger = Learner([replace(member, spec=grown_spec)], learner.training, learner.device)
    load_states(larger, [_grown_state(learner, larger)], "warm start")
    return larger


def _late(old: NetworkSpec, wanted: NetworkSpec) -> tuple[str, ...]:
    first_numbers = {NUMBERS} if wanted.numbers and not old.numbers else set()
    return tuple(sorted({*old.late, *(set(wanted.fields) - set(old.fields)), *first_numbers}))


def _grown_state(learner: Learner, larger: Learner) -> State:
    old, fresh = _named_as_in(larger.spec, learner), learner_state(larger)
    before, after = _axes(learner), _axes(larger)
    # What came beside a list that is read already is not read yet.
    unread = {
        f"network.sides.projections.{each.name}.weight"
        for each in larger.spec.sides
        if each.list in learner.spec.fields
    }
    state = {name: tensor for name, tensor in old.items() if name.startswith(("bent.", "adam."))}
    for name, drawn in fresh.items():
        if name.startswith("table."):
            state[name] = _rows_of_columns(old[name], drawn, learner.spec, larger.spec)
            continue
        axes = (before.get(name, Axes()), after.get(name, Axes()))
        begins = torch.zeros_like(drawn) if name in unread else drawn
        state[name] = _placed(old[name], drawn, *axes) if name in old else begins
        for moment in ("exp_avg", "exp_avg_sq"):
            if (moments := f"adam.{name}.{moment}") in old:
                state[moments] = _placed(old[moments], torch.zeros_like(drawn), *axes)
    return state


def _rows_of_columns(old: Tensor, drawn: Tensor, before: NetworkSpec, after: NetworkSpec) -> Tensor:
    """The table's rows of the columns that were there, and as drawn those of new ones."""
    was, now = dict(before.table), dict(after.table)
    learnt = dict(zip(was, old.split(list(was.values())), strict=True))
    parts = zip(now, drawn.split(list(now.values())), strict=True)
    return torch.cat([learnt.get(column, part) for column, part in parts])


def _named_as_in(spec: NetworkSpec, learner: Learner) -> State:
    """A learner's state with each history's attention under its place in another network, and what it does without."""
    implied = learner.networks.trunk.implied()
    state = learner_state(learner) | {name: each[0] for name, each in below("network.trunk", implied).items()}
    places = {name: index for index, (name, _) in enumerate(spec.histories)}
    moved = {str(at): places[name] for at, (name, _) in enumerate(learner.spec.histories)}
    renamed = {}
    for name, tensor in state.items():
        head, attention, rest = name.partition("network.attention.")
        place, _, weight = rest.partition(".")
        renamed[f"{head}{attention}{moved[place]}.{weight}" if attention else name] = tensor
    return renamed


def _axes(learner: Learner) -> dict[str, Axes]:
    """Of a learner's tensors by name, but for the table's."""
    spec = learner.spec
    names = InputNames(spec.fields, spec.numbers, spec.network.embedding)
    statistics = dict.fromkeys(learner.normalizer.state(), Axes(makes=(*spec.numbers, *spec.positions)))
    trunk = learner.networks.trunk.axes(names)
    return {**below("normalizer", statistics), **below("network.trunk", trunk)}


def _placed(old: Tensor, drawn: Tensor, before: Axes, after: Axes) -> Tensor:
    """An old tensor's values at their places in a larger one; where something new is read, zero."""
    placed = drawn.clone()
    places = [torch.arange(size) for size in old.shape]
    if before.reads is not None and after.reads is not None:
        places[0] = _places(before.reads, after.reads)
        placed[_places(tuple(set(after.reads) - set(before.reads)), after.reads)] = 0
    if before.makes is not None and after.makes is not None:
        places[-1] = _places(before.makes, after.makes)
    placed[torch.meshgrid(*places, indexing="ij")] = old.to(placed.device)
    return placed


def _places(labels: Labels, among: Labels) -> Tensor:
    at = {label: place for place, label in enumerate(among)}
    return torch.tensor([at[label] for label in labels], dtype=torch.int64)
