"""The state of all that upkeep keeps, for somebody on call: what serves, since when, why not newer, what is next.

Belongs here: gathering it, red first. Not here: showing it (exfm_assets/status.py), measuring (upkeep/, gate/, drift/).
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from exfm.learning import Student
from pipeline.drift.report import drifted, stored_drift
from pipeline.evaluation.summary import summary
from pipeline.releases.history import history_of
from pipeline.releases.release import CANARY, DROPPED, Released, current_release
from pipeline.releases.verdict import NOT_JUDGED, TOO_LITTLE, verdict_of
from pipeline.slices.teaching import read_takeover
from pipeline.slices.withdrawals import Withdrawal, withdrawals
from pipeline.studies.freshness_worth import stored_advice
from pipeline.upkeep.ages import Age, ages_of
from pipeline.upkeep.refresh import BY_DRIFT, refresh_of
from pipeline.workspace import Workspace

Tone = Literal["bad", "warn", "good"]
ORDER: tuple[Tone, ...] = ("bad", "warn", "good")
SHOWN = ("bad", "warn", "none", "good")
BETTER, WORSE, CHANCE = "better", "worse", "may be chance"
NO_GAIN, FEW, UNJUDGED = "is its own control", "too little data", "not judged yet"


@dataclass(frozen=True)
class Figures:
    """What the sentences on a student are made of.

    Args:
        version: of what serves; ``None``: nothing does.
        age: of its data; ``data_until``: when that ends.
        slices: over how many the means are.
        gain, gain_error: a share of the control's NE; ``gain_says`` what can be said of it.
        outcome: of the newest verdict.
        drifted: what serves has not learnt from some change; ``None``: nobody looked yet.
        held: a person keeps what serves.
    """

    version: str | None
    number: int
    since: str | None
    data_until: datetime | None
    age: timedelta
    freshness: Tone
    slices: int
    ne: float | None
    gain: float | None
    gain_error: float | None
    gain_says: str
    calibration: float | None
    outcome: str
    drifted: bool | None
    held: bool


@dataclass(frozen=True)
class StudentStatus:
    """One student.

    Args:
        tone: ``bad`` where nothing serves or its data is older than promised, ``warn`` where something wants looking
            at.
        serves, quality, gate, drift, next: a sentence each.
    """

    name: str
    tone: Tone
    serves: str
    quality: str
    gate: str
    drift: str
    next: str
    figures: Figures

    @property
    def shown(self) -> str:
        """The tone that people see: ``none`` where nothing is wrong, and nobody could tell whether all is well."""
        undecided = self.figures.outcome in (TOO_LITTLE, NOT_JUDGED) or self.figures.ne is None
        return "none" if self.tone == "good" and undecided else self.tone


@dataclass(frozen=True)
class Status:
    """All of a project, what is worst first.

    Args:
        others: sentences on teachers, labels and the online store, of those that are late first.
        notes: takeovers, withdrawals, and where declared freshness is not worth what it costs.
    """

    students: tuple[StudentStatus, ...]
    others: tuple[tuple[Tone, str], ...]
    notes: tuple[str, ...]

    @property
    def tone(self) -> Tone:
        """The worst of all."""
        tones = [student.tone for student in self.students] + [tone for tone, _ in self.others]
        return min(tones, key=ORDER.index, default="good")

    @property
    def counts(self) -> dict[str, int]:
        """How many students and others are shown in each tone, worst first."""
        counted = Counter([*(student.shown for student in self.students), *(tone for tone, _ in self.others)])
        return {tone: counted[tone] for tone in SHOWN}


def status_of(work: Workspace, summed: pl.DataFrame | None = None) -> Status:
    """What is known now, by what is stored.

    Args:
        summed: the project's ``summary``, where it was made already.
    """
    aged = ages_of(work)
    rows = {row["student"]: row for row in (summary(work) if summed is None else summed).iter_rows(named=True)}
    students = [_student(work, student, aged[f"student/{student.name}/release"](), rows[student.name])
                for student in work.project.students]  # fmt: skip
    others = [age() for asset, age in aged.items() if not asset.startswith("student/")]
    told = [(tone_of(age), str(age)) for age in others]
    heirs = [(teacher, read_takeover(work, teacher)) for teacher in work.project.teachers]
    notes = [f"teacher/{teacher.name}: {takeover.reason}" for teacher, takeover in heirs if takeover is not None]
    notes += [_withdrawn(each) for each in withdrawals(work)]
    notes += [f"{each.verdict}: {each.says}" for each in stored_advice(work) if each.disagrees]
    return Status(
        tuple(sorted(students, key=lambda student: SHOWN.index(student.shown))),
        tuple(sorted(told, key=lambda line: ORDER.index(line[0]))),
        tuple(notes),
    )


def _withdrawn(each: Withdrawal) -> str:
    back = f"; given back at {each.restored[:16]}: {each.why_restored}" if each.restored else ""
    return f"{each.model} {each.slice} was withdrawn at {each.at[:16]}: {each.why}{back}"


def tone_of(age: Age) -> Tone:
    tones: dict[str, Tone] = {"pass": "good", "warn": "warn", "fail": "bad"}
    return tones[age.state]


def _student(work: Workspace, student: Student, age: Age, row: dict[str, Any]) -> StudentStatus:
    served, verdict, report = current_release(work, student), verdict_of(work, student), stored_drift(work)
    drift = None if report is None else drifted(report, f"student/{student.name}")
    held = served is not None and bool(served.hold)
    judged = verdict.passed or verdict.outcome in (TOO_LITTLE, NOT_JUDGED)
    tone = "bad" if served is None else tone_of(age)
    if tone == "good" and (drift is not None or held or not judged):
        tone = "warn"
    since = None if served is None else _since(work, student, served)
    figures = Figures(
        version=None if served is None else served.version,
        number=0 if served is None else served.number,
        since=None if since is None else since.released_at,
        data_until=age.newest,
        age=age.age,
        freshness=tone_of(age),
        slices=row["slices"],
        ne=row["ne_student"],
        gain=row["gain"],
        gain_error=row["gain_error"],
        gain_says=gain_says(student, row),
        calibration=row["calibration_student"],
        outcome=verdict.outcome,
        drifted=None if report is None else drift is not None,
        held=held,
    )
    return StudentStatus(
        student.name,
        tone,
        f"nothing serves, {age}" if since is None else _serves(since, age),
        _quality(figures),
        served.hold if served is not None and served.hold else f"{verdict.outcome}: {verdict.reason}",
        "not looked at yet" if report is None else drift or "none",
        _next(work, student, age),
        figures,
    )


def _since(work: Workspace, student: Student, served: Released) -> Released:
    """The same, since it has served without a break: unpinning changes nothing of that, nor do canaries beside it."""
    for entry in reversed(history_of(work, student)):
        if entry.version != served.version:
            break
        served = replace(served, released_at=entry.released_at)
        if served.action in (CANARY, DROPPED):
            served = replace(served, action=entry.action, why=entry.why)
    return served


def _serves(served: Released, age: Age) -> str:
    number = f"release {served.number}" if served.number else "a release"  # an earlier exfm did not count them
    since = f"{number} ({served.version}) since {served.released_at[:16]}, {served.action}"
    why = f": {served.why}" if served.why and served.action != "released" else ""
    canary = f"; canary {served.canary.number} since {served.canary.since[:16]}" if served.canary is not None else ""
    return f"{since}{why}{canary}; {str(age).partition(': ')[2]}"


def gain_says(student: Student, row: Mapping[str, Any]) -> str:
    """What can be said of a gain: within two standard errors it may be chance, and of one slice nobody knows those."""
    gain, error = row["gain"], row["gain_error"]
    if row["ne_student"] is None:
        return UNJUDGED
    if not student.is_taught:
        return NO_GAIN
    if gain is None or error is None or not math.isfinite(gain) or not math.isfinite(error):
        return FEW
    if abs(gain) <= error:
        return CHANCE
    return BETTER if gain > 0 else WORSE


def _quality(figures: Figures) -> str:
    """How well what served did, over the slices that were judged."""
    if figures.ne is None:
        return UNJUDGED
    said = f"NE {figures.ne:.4f} over {figures.slices} slices"
    if figures.gain is not None:
        bound = f" ±{figures.gain_error:.2%}" if figures.gain_error is not None else ""
        doubt = f" ({figures.gain_says})" if figures.gain_says in (CHANCE, FEW) else ""
        said += f", {figures.gain:+.2%}{bound} against its control{doubt}"
    return said if figures.calibration is None else f"{said}, calibration {figures.calibration:.3f}"


def _next(work: Workspace, student: Student, age: Age) -> str:
    reason = refresh_of(work, student)
    if reason is not None and reason.startswith(BY_DRIFT):
        return "it trains on what has come since, for it drifted"  # what drifted is said above
    if reason is not None:
        return f"it trains on what has come since: {reason}"
    stream = work.project.stream
    if stream.until is not None and work.now() >= stream.until:
        return "the log is closed: nothing more comes"
    due = (age.newest or stream.shown_since) + age.limits.warn - stream.slice_length
    return f"it trains on what has come since at {due:%Y-%m-%d %H:%M} UTC, or when it drifts"
