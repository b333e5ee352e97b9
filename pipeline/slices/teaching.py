"""Who teaches: the teacher that students name, or one that has taken over from it.

Belongs here: the record of a takeover, and who teaches a slice by it. Not here: judging whether the lead is proven
(gate/succession.py), predictions (predictions.py).
"""

import json
from dataclasses import asdict, dataclass, fields

from exfm.atomic_write import atomic_write
from exfm.learning import Teacher
from pipeline.workspace import Workspace

TAKES_OVER, WAITS = "takes over", "waits"


@dataclass(frozen=True)
class Compared:
    """Old and new teacher on one task: a relative difference of NE, below 0 where the new one is better.

    Args:
        low, high: one-sided bounds at ``confidence``.
    """

    task: str
    rows: int
    difference: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        percent = f"{100 * self.difference:+.2f} % ({100 * self.low:+.2f} to {100 * self.high:+.2f})"
        return f"NE of {self.task} {percent}"


@dataclass(frozen=True)
class Takeover:
    """What is known of a teacher that may take over from another.

    Args:
        outcome: ``takes over`` or ``waits``.
        reason: in a sentence.
        teacher: whom it succeeds.
        since: key of the first slice that it teaches; ``None`` while it waits. It never changes.
        slices: keys of those that both were judged on.
        made_of: digest of all that this follows from.
        decided_at: ISO moment.
    """

    outcome: str
    reason: str
    teacher: str
    since: str | None = None
    slices: tuple[str, ...] = ()
    compared: tuple[Compared, ...] = ()
    made_of: str = ""
    decided_at: str = ""


def write_takeover(work: Workspace, teacher: Teacher, takeover: Takeover) -> None:
    with atomic_write(work.state.takeover(teacher.name)) as file:
        file.write(json.dumps(asdict(takeover), indent=1).encode())


def read_takeover(work: Workspace, teacher: Teacher) -> Takeover | None:
    """What was written last of a teacher, if it still succeeds the same one; ``None`` if nothing that can be read."""
    if teacher.succeeds is None:
        return None
    try:
        plain = json.loads(work.state.takeover(teacher.name).read_text(encoding="utf-8"))
        known = {field.name: plain[field.name] for field in fields(Takeover)}
        compared = tuple(Compared(**each) for each in known["compared"])
        takeover = Takeover(**{**known, "slices": tuple(known["slices"]), "compared": compared})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return takeover if takeover.teacher == teacher.succeeds.teacher else None


def teaching(work: Workspace, name: str, index: int) -> Teacher:
    """The teacher whose predictions supervise a slice where students name one: it, or who has taken over from it.

    Args:
        name: as students name it.
        index: of the slice.
    """
    line = work.project.line_of(name)
    chosen = line[0]
    for heir in line[1:]:
        takeover = read_takeover(work, heir)
        if takeover is None or takeover.since is None or work.project.stream.slice_at(index).key < takeover.since:
            break  # keys sort as their slices do
        chosen = heir
    return chosen
