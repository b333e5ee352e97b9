"""A learner's state as named tensors: all that resumes it bit for bit, or only what serves.

Belongs here: names and shapes of the tensors in a checkpoint. Not here: files (checkpoint.py).
"""

from torch import Tensor

from models.errors import CheckpointError
from models.learner import Learner


def serving_state(learner: Learner) -> dict[str, Tensor]:
    """What scoring needs: table, normaliser, backbone and serving head; no auxiliary head, adapter or optimiser."""
    network = {f"network.{name}": value for name, value in learner.network.state_dict().items()}
    served = {name: value for name, value in network.items() if not name.startswith("network.heads.")}
    normalizer = {f"normalizer.{name}": value for name, value in learner.normalizer.state().items()}
    return {"table.weight": learner.table.weight, **normalizer, **served}


def learner_state(learner: Learner) -> dict[str, Tensor]:
    """What resuming needs: all of it."""
    state = serving_state(learner)
    state |= {f"network.{name}": value for name, value in learner.network.state_dict().items()}
    state["table.accumulator"] = learner.table.accumulator
    state |= {f"adam.{name}": value for name, value in learner.adam.state().items()}
    if learner.adapter is not None and learner.adapter_adam is not None:
        state |= {f"adapter.{name}": value for name, value in learner.adapter.state_dict().items()}
        state |= {f"adapter_adam.{name}": value for name, value in learner.adapter_adam.state().items()}
    return state


def load_state(learner: Learner, state: dict[str, Tensor], where: str) -> None:
    """Take over a state.

    Raises:
        CheckpointError: if a tensor is missing or has another shape than the learner's.
    """
    parameters = {
        "table.weight": learner.table.weight,
        "table.accumulator": learner.table.accumulator,
        **{f"normalizer.{name}": value for name, value in learner.normalizer.state().items()},
        **{f"network.{name}": value for name, value in learner.network.state_dict().items()},
    }
    if learner.adapter is not None:
        parameters |= {f"adapter.{name}": value for name, value in learner.adapter.state_dict().items()}
    serving = "table.accumulator" not in state
    for name, mine in parameters.items():
        if serving and name not in serving_state(learner):
            continue
        if name not in state or state[name].shape != mine.shape:
            found = tuple(state[name].shape) if name in state else "missing"
            raise CheckpointError(
                f"{where}: {name} is {found}, not {tuple(mine.shape)}: it was saved by another network"
            )
        mine.copy_(state[name])
    learner.normalizer.load({name: state[f"normalizer.{name}"] for name in learner.normalizer.state()})
    learner.adam.load(_under(state, "adam."))
    if learner.adapter_adam is not None:
        learner.adapter_adam.load(_under(state, "adapter_adam."))


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
