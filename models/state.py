"""A member's state as named tensors: all that resumes it bit for bit, or only what serves.

Belongs here: names and shapes of the tensors in a checkpoint: those of one network, whatever learner it was part of.
Not here: files (checkpoint.py).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.errors import CheckpointError
from models.learner import Learner


def _parts(learner: Learner, member: int) -> Iterator[tuple[str, str, int]]:
    """Of each parameter of the networks: its name there, its name in a checkpoint, and the member's place in it."""
    for name, _ in learner.networks.named_parameters():
        group, _, rest = name.partition(".")
        if group not in ("heads", "towers"):
            yield name, f"network.{name}", member
            continue
        kind, _, weight = rest.partition(".")
        for index, pair in enumerate(learner.pairs.terms[kind].pairs.tolist()):
            if learner.pairs.all[pair].member == member:
                yield name, f"network.{group}.{kind}.{learner.pairs.all[pair].teacher}.{weight}", index


def _weights(learner: Learner, member: int) -> dict[str, Tensor]:
    """Views of a member's tensors but for those that optimisers and adapters keep."""
    parameters = dict(learner.networks.named_parameters())
    table = {f"table.{name}": value for name, value in learner.table.state(member).items()}
    normalizer = {f"normalizer.{name}": value for name, value in learner.normalizer.state().items()}
    quantiles = {f"quantiles.{name}": value for name, value in learner.quantiles.state().items()}
    mine = {saved: parameters[name].detach()[index] for name, saved, index in _parts(learner, member)}
    return {**table, **normalizer, **quantiles, **mine}


def _only_serves(name: str) -> bool:
    return name != "table.accumulator" and not name.startswith(("network.heads.", "network.towers."))


def serving_state(learner: Learner, member: int = 0) -> dict[str, Tensor]:
    """What scoring needs: table, normaliser, backbone and serving head; nothing of distillation or optimisers."""
    return {name: value for name, value in _weights(learner, member).items() if _only_serves(name)}


def learner_state(learner: Learner, member: int = 0) -> dict[str, Tensor]:
    """What resuming needs: all of it."""
    state = _weights(learner, member)
    moments = learner.adam.state()
    for name, saved, index in _parts(learner, member):
        if f"{name}.step" in moments:
            state[f"adam.{saved}.step"] = moments[f"{name}.step"]
            state |= {f"adam.{saved}.{m}": moments[f"{name}.{m}"][index] for m in ("exp_avg", "exp_avg_sq")}
    for pair, each in zip(learner.calibrators.pairs, learner.calibrators.maps, strict=True):
        if pair.member == member:
            state |= {f"bent.{pair.teacher}.{name}": value for name, value in each.state().items()}
    return state


def steps_by_weight(state: dict[str, Tensor]) -> dict[str, int]:
    """How many steps each weight of a member's own network has taken; those that came with a new input fewer."""
    of_distillation = ("adam.network.heads.", "adam.network.towers.")
    names = [name for name in state if name.startswith("adam.network.") and name.endswith(".step")]
    return {name: int(state[name]) for name in names if not name.startswith(of_distillation)}


@torch.no_grad()
def load_states(learner: Learner, states: list[dict[str, Tensor]], where: str) -> None:
    """Take over a state for each member, in order.

    Raises:
        CheckpointError: if a tensor is missing or has another shape than the learner's, or if members that have
            taken different numbers of steps are to go on together.
    """
    moments: dict[str, Tensor] = {}
    for member, state in enumerate(states):
        serving = "table.accumulator" not in state
        for name, mine in _weights(learner, member).items():
            if serving and not _only_serves(name):
                continue
            if name not in state or state[name].shape != mine.shape:
                shape = tuple(state[name].shape) if name in state else "missing"
                raise CheckpointError(
                    f"{where}: {name} is {shape}, not {tuple(mine.shape)}: it was saved by another network"
                )
            mine.copy_(state[name])
        _take_moments(learner, member, state, moments, where)
        for pair, each in zip(learner.calibrators.pairs, learner.calibrators.maps, strict=True):
            prefix = f"bent.{pair.teacher}."
            if pair.member == member and not serving:
                try:
                    each.load({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
                except (RuntimeError, KeyError) as error:
                    raise CheckpointError(
                        f"{where}: {prefix}* does not fit: it was saved by another adapter"
                    ) from error
    learner.normalizer.load({name: states[0][f"normalizer.{name}"] for name in learner.normalizer.state()})
    learner.quantiles.load({name: states[0][f"quantiles.{name}"] for name in learner.quantiles.state()})
    learner.adam.load(moments)


def _take_moments(
    learner: Learner, member: int, state: dict[str, Tensor], moments: dict[str, Tensor], where: str
) -> None:
    parameters = dict(learner.networks.named_parameters())
    for name, saved, index in _parts(learner, member):
        if f"adam.{saved}.step" not in state:
            continue
        step = state[f"adam.{saved}.step"]
        if not torch.equal(moments.setdefault(f"{name}.step", step), step):
            raise CheckpointError(f"{where}: members have taken other numbers of steps: train each alone")
        for moment in ("exp_avg", "exp_avg_sq"):
            whole = moments.setdefault(f"{name}.{moment}", torch.zeros_like(parameters[name]))
            whole[index].copy_(state[f"adam.{saved}.{moment}"])
