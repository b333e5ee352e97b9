"""Has a declaration only grown since a checkpoint was made: is it the same model, with more inputs?

Belongs here: comparing two declarations in their canonical form. Not here: making them (lineage.py), growing weights
(models/growth.py).
"""

from collections.abc import Mapping
from typing import Any

Form = Mapping[str, Any]
MAY_GROW = ("views", "ids", "inputs")  # lists of named parts, of which each that was there must be as it was


def has_grown(then: Form, now: Form) -> bool:
    """Is all that was declared still declared, and nothing else but inputs beside it?

    Inputs may be added anywhere among the old ones, which stay in their order. A view is the same or it is another one:
    a window more may change what its rows mean.

    Args:
        then, now: canonical forms of what a model's weights depend on; an empty one is of an earlier exfm.
    """
    if not then or not now.keys() - then.keys() <= {"inputs"} or then.keys() - now.keys():
        return False
    fixed = [name for name in then if name not in ("model", *MAY_GROW)]
    return (
        all(then[name] == now[name] for name in fixed)
        and _but_inputs(then["model"]) == _but_inputs(now["model"])
        and _in_order(then["model"].get("inputs", []), now["model"]["inputs"])
        and all(_keeps(then.get(name, []), now.get(name, [])) for name in MAY_GROW)
    )


def _but_inputs(model: Form) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name != "inputs"}


def _in_order(then: list[str], now: list[str]) -> bool:
    """Are the old inputs among the new ones, in their order?"""
    later = iter(now)
    return all(name in later for name in then)


def _keeps(then: list[Form], now: list[Form]) -> bool:
    """Is every part that was there still there, and the same?"""
    by_name = {part["name"]: part for part in now}
    return all(by_name.get(part.get("name")) == part for part in then)
