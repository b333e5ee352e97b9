"""Verdicts of the gate, as they are stored beside a student's releases.

Belongs here: what a verdict says, writing and reading it, whether it is of what is stored now.
Not here: judging (gate/judging.py), publishing (publishing.py).
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from exfm.atomic_write import atomic_write
from exfm.learning import Student
from exfm.project import MOST_TRIES
from pipeline.workspace import Workspace

GATE = "gate.json"
PASSED, REFUSED, TOO_LITTLE, NOT_JUDGED = "passed", "refused", "too little data", "not judged"


@dataclass(frozen=True)
class Compared:
    """The candidate against another model on some rows: a relative difference of NE, above 0 where it is worse.

    Args:
        against: ``control`` or ``served``.
        where: ``all``, a surface, or ``new users``.
        low, high: one-sided bounds at ``confidence``.
        allowed: it is refused if ``low`` is above.
    """

    against: str
    where: str
    rows: int
    difference: float
    low: float
    high: float
    confidence: float
    allowed: float

    @property
    def is_worse(self) -> bool:
        return self.low > self.allowed

    def __str__(self) -> str:
        whose = "its control" if self.against == "control" else "what serves"
        of = "" if self.where == "all" else f" {'of' if self.where == 'new users' else 'on surface'} {self.where}"
        if self.difference == self.low == self.high == 0:
            return f"NE{of} level with {whose}"
        # As many digits as tell the lower bound from what is allowed.
        digits = 2 if abs(self.low - self.allowed) >= 5e-5 or not self.is_worse else 5
        values = [f"{100 * value:+.{digits}f}" for value in (self.difference, self.low, self.high)]
        return f"NE{of} {values[0]} % against {whose} ({values[1]} to {values[2]})"


@dataclass(frozen=True)
class JudgedSegment:
    """The candidate against its control on a segment of the judged rows, for the eye: the gate does not ask for it.

    Args:
        where: ``known users``, ``new items``, ``<column> <value>``.
        ne: of the candidate.
        difference, low, high: of its NE relative to the control's, with bounds that all segments share; ``None``
            without a control.
    """

    where: str
    rows: int
    ne: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a checkpoint may be released, and why.

    Args:
        outcome: ``passed``, ``refused``, ``too little data`` or ``not judged``.
        reason: in a sentence.
        candidate: version of the checkpoint, ``slice`` the one it learnt from last; ``None`` where there is none.
        slices: keys of those that it was judged on, ``rows`` how many labelled rows.
        ne: of ``student``, ``control`` and ``served``, on those rows.
        calibration: of the candidate, with its bounds.
        segments: figures of parts of those rows.
        refused: slice and version of the candidates that this gate refused by comparing, oldest first; the newest ones.
        gate: digest of the declared gate, ``made_of`` of all that the verdict follows from.
    """

    outcome: str
    reason: str
    candidate: str | None = None
    slice: str | None = None
    slices: tuple[str, ...] = ()
    rows: int = 0
    ne: dict[str, float] | None = None
    calibration: tuple[float, float, float] | None = None
    compared: tuple[Compared, ...] = ()
    segments: tuple[JudgedSegment, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    gate: str = ""
    made_of: str = ""
    judged_at: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == PASSED


def refused_with(verdict: Verdict, before: Verdict | None) -> tuple[tuple[str, str], ...]:
    """The candidates that a gate has refused, with a verdict's own; one that is judged again is the same one.

    One that was refused for a fault of the data was not compared, and is judged anew once the data are sound.
    """
    known = () if before is None or before.gate != verdict.gate else before.refused
    if verdict.outcome != REFUSED or verdict.ne is None or verdict.slice is None or verdict.candidate is None:
        return known
    mine = (verdict.slice, verdict.candidate)
    return (*(each for each in known if each != mine), mine)[-MOST_TRIES:]


def write_verdict(work: Workspace, student: Student, verdict: Verdict) -> None:
    """Keep the newest verdict."""
    with atomic_write(work.state.release(student.name) / GATE) as file:
        file.write(json.dumps(asdict(verdict), indent=1).encode())


def read_verdict(work: Workspace, student: Student) -> Verdict | None:
    """The newest verdict; ``None`` if there is none, or none that can be read."""
    try:
        plain = json.loads((work.state.release(student.name) / GATE).read_text(encoding="utf-8"))
        looked_at = {"segments": [], "refused": [], **plain}  # an earlier exfm did not look at them
        known = {field.name: looked_at[field.name] for field in fields(Verdict)}
        compared = tuple(Compared(**each) for each in known["compared"])
        segments = tuple(JudgedSegment(**each) for each in known["segments"])
        bounds = known["calibration"]
        verdict = Verdict(
            **{
                **known,
                "slices": tuple(known["slices"]),
                "compared": compared,
                "segments": segments,
                "refused": tuple((str(slice_), str(version)) for slice_, version in known["refused"]),
                "calibration": None if bounds is None else tuple(bounds),
            }
        )
        return replace(verdict, refused=refused_with(verdict, verdict))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def verdict_of(work: Workspace, student: Student) -> Verdict:
    """The newest verdict, if its candidate is still what is stored for its slice (importing no torch for it)."""
    verdict = read_verdict(work, student)
    asset = f"student/{student.name}/release"
    if verdict is None:
        return Verdict(NOT_JUDGED, f"no checkpoint has been judged yet: materialise {asset}")
    if verdict.candidate is not None and verdict.slice is not None:
        stored = stored_version(work, student, verdict.slice)
        if stored != verdict.candidate:
            reason = (
                f"the checkpoint of slice {verdict.slice} that was judged is not the present one (the declaration or "
                f"the data changed since): materialise student/{student.name}/* again"
            )
            return Verdict(NOT_JUDGED, reason)
    return verdict


def stored_version(work: Workspace, student: Student, slice_key: str) -> str | None:
    """The version of the checkpoint that is stored for a slice; ``None`` if there is none that can be read."""
    slice_ = work.project.stream.slice_of(slice_key)
    path = work.state.checkpoints(f"student/{student.name}") / slice_.folder / "manifest.json"
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return str(plain["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged one is said where it is read
