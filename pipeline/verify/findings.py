"""A finding: did it hold, in one sentence, with the numbers behind it.

Belongs here: the shape of an answer. Not here: looking (tables_sound.py, predictions_sound.py, checkpoints_sound.py).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from exfm.stream import Slice
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    passed: bool
    message: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)


CheckFn = Callable[[Workspace, list[Slice]], Finding]  # what a check looks at: the slices of a run


def all_hold(faults: Iterable[str], otherwise: str, **numbers: float | int | str) -> Finding:
    """Passed if there is no fault; else the first faults are named, and all are counted."""
    listed = list(faults)
    if not listed:
        return Finding(True, otherwise, numbers)
    more = f" (and {len(listed) - 3} more)" if len(listed) > 3 else ""
    return Finding(False, "; ".join(listed[:3]) + more, {**numbers, "faults": len(listed)})
