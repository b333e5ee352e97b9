"""The state of all that upkeep keeps, for somebody on call: what serves, since when, why not newer, what is next.

Belongs here: gathering it, red first. Not here: showing it (exfm_assets/status.py), measuring (upkeep/, gate/, drift/).
"""

from dataclasses import dataclass, replace
from typing import Literal

from exfm.learning import Student
from pipeline.drift.report import drifted, stored_drift
from pipeline.evaluation.summary import summary
from pipeline.releases.history import history_of
from pipeline.releases.release import Released, current_release
from pipeline.releases.verdict import NOT_JUDGED, TOO_LITTLE, verdict_of
from pipeline.slices.teaching import read_takeover
from pipeline.slices.withdrawals import Withdrawal, withdrawals
from pipeline.studies.freshness_worth import stored_advice
from pipeline.upkeep.ages import Age, ages_of
from pipeline.upkeep.refresh import refresh_of
from pipeline.workspace import Workspace

Tone = Literal["bad", "warn", "good"]
ORDER: tuple[Tone, ...] = ("bad", "warn", "good")


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


def status_of(work: Workspace) -> Status:
    """What is known now, by what is stored."""
    aged = ages_of(work)
    rows = {row["student"]: row for row in summary(work).iter_rows(named=True)} if work.project.students else {}
    students = [_student(work, student, aged[f"student/{student.name}/release"](), rows[student.name])
                for student in work.project.students]  # fmt: skip
    others = [age() for asset, age in aged.items() if not asset.startswith("student/")]
    told = [(_tone_of(age), str(age)) for age in others]
    heirs = [(teacher, read_takeover(work, teacher)) for teacher in work.project.teachers]
    notes = [f"teacher/{teacher.name}: {takeover.reason}" for teacher, takeover in heirs if takeover is not None]
    notes += [_withdrawn(each) for each in withdrawals(work)]
    notes += [f"{each.verdict}: {each.says}" for each in stored_advice(work) if each.disagrees]
    return Status(
        tuple(sorted(students, key=lambda student: ORDER.index(student.tone))),
        tuple(sorted(told, key=lambda line: ORDER.index(line[0]))),
        tuple(notes),
    )


def _withdrawn(each: Withdrawal) -> str:
    back = f"; given back at {each.restored[:16]}: {each.why_restored}" if each.restored else ""
    return f"{each.model} {each.slice} was withdrawn at {each.at[:16]}: {each.why}{back}"


def _tone_of(age: Age) -> Tone:
    tones: dict[str, Tone] = {"pass": "good", "warn": "warn", "fail": "bad"}
    return tones[age.state]


def _student(work: Workspace, student: Student, age: Age, row: dict[str, object]) -> StudentStatus:
    served, verdict, report = current_release(work, student), verdict_of(work, student), stored_drift(work)
    drift = None if report is None else drifted(report, f"student/{student.name}")
    held = served is not None and bool(served.hold)
    judged = verdict.passed or verdict.outcome in (TOO_LITTLE, NOT_JUDGED)
    tone = "bad" if served is None else _tone_of(age)
    if tone == "good" and (drift is not None or held or not judged):
        tone = "warn"
    return StudentStatus(
        student.name,
        tone,
        f"nothing serves, {age}" if served is None else _serves(_since(work, student, served), age),
        _quality(row),
        served.hold if served is not None and served.hold else f"{verdict.outcome}: {verdict.reason}",
        "not looked at yet" if report is None else drift or "none",
        _next(work, student, age),
    )


def _since(work: Workspace, student: Student, served: Released) -> Released:
    """The same, since it has served without a break: unpinning changes nothing of that."""
    for entry in reversed(history_of(work, student)):
        if entry.version != served.version:
            break
        served = replace(served, released_at=entry.released_at)
    return served


def _serves(served: Released, age: Age) -> str:
    number = f"release {served.number}" if served.number else "a release"  # an earlier exfm did not count them
    since = f"{number} ({served.version}) since {served.released_at[:16]}, {served.action}"
    why = f": {served.why}" if served.why and served.action != "released" else ""
    return f"{since}{why}; {str(age).partition(': ')[2]}"


def _quality(row: dict[str, object]) -> str:
    """How well what served did, over the slices that were judged."""
    ne, gain, error = row["ne_student"], row["gain"], row["gain_error"]
    if not isinstance(ne, float):
        return "not judged yet"
    calibration = row["calibration_student"]
    said = f"NE {ne:.4f} over {row['slices']} slices"
    if isinstance(gain, float):
        shown = isinstance(error, float) and abs(gain) > error
        bound = f" ±{error:.2%}" if isinstance(error, float) else ""
        said += f", {gain:+.2%}{bound} against its control{'' if shown else ' (may be chance)'}"
    return f"{said}, calibration {calibration:.3f}" if isinstance(calibration, float) else said


def _next(work: Workspace, student: Student, age: Age) -> str:
    reason = refresh_of(work, student)
    if reason is not None:
        return f"it trains on what has come since: {reason}"
    stream = work.project.stream
    if stream.until is not None and work.now() >= stream.until:
        return "the log is closed: nothing more comes"
    due = (age.newest or stream.first_slice) + age.limits.warn - stream.slice_length
    return f"it trains on what has come since at {due:%Y-%m-%d %H:%M} UTC, or when it drifts"
