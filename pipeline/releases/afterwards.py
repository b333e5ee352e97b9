"""How a release did after its gate, as it is stored: a canary beside what serves, what serves beside what did before.

Belongs here: what is known, writing and reading it. Not here: looking, and what follows (gate/afterwards.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from exfm.atomic_write import atomic_write
from exfm.learning import Student
from pipeline.workspace import Workspace

FILE = "afterwards.json"
CANARY, SERVED = "canary", "served"  # who is looked at
WAITS, NEITHER, NOT_WORSE, WORSE = "waits", "neither", "not worse", "worse"


@dataclass(frozen=True)
class Afterwards:
    """A release against another one, on slices that came after its own gate.

    Args:
        who: ``canary`` or ``served``.
        version: of the release; ``against``: of the other.
        outcome: ``worse``, ``not worse``, ``neither`` where both are worse than a constant, or ``waits`` for more rows.
        reason: in a sentence.
        slices: keys of those that both were compared on, ``rows`` how many labelled rows.
        made_of: a digest of all that it follows from.
    """

    who: str
    version: str
    against: str
    outcome: str
    reason: str
    slices: tuple[str, ...] = ()
    rows: int = 0
    made_of: str = ""


def write_afterwards(work: Workspace, student: Student, found: Afterwards) -> None:
    """Keep the newest of its kind."""
    kept = {**read_afterwards(work, student), found.who: found}
    with atomic_write(work.state.release(student.name) / FILE) as file:
        file.write(json.dumps([asdict(each) for each in kept.values()], indent=1).encode())


def read_afterwards(work: Workspace, student: Student) -> Mapping[str, Afterwards]:
    """The newest of each kind; none if there is none, or none that can be read."""
    try:
        plain = json.loads((work.state.release(student.name) / FILE).read_text(encoding="utf-8"))
        known = [{field.name: each[field.name] for field in fields(Afterwards)} for each in plain]
        return {each["who"]: Afterwards(**{**each, "slices": tuple(each["slices"])}) for each in known}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
