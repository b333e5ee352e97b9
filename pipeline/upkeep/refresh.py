"""Why a student is to be trained on what has come since it was trained last.

Belongs here: the reasons. Not here: which slices that is and when they are asked for (exfm_assets/automation.py).
"""

from exfm.learning import Student
from pipeline.drift.report import asks, stored_drift
from pipeline.releases.release import current_release
from pipeline.upkeep.ages import ages_of
from pipeline.workspace import Workspace

BY_DRIFT = "it drifted"


def refresh_of(work: Workspace, student: Student) -> str | None:
    """The reason in a sentence; ``None`` if what is served may stay as it is."""
    if current_release(work, student) is None:
        return "it was never released"
    if (drift := _drift(work, student)) is not None:
        return drift
    age = ages_of(work)[f"student/{student.name}/release"]()
    # The last chance before it is yellow: what closes next closes a slice later.
    if age.age + work.project.stream.slice_length > age.limits.warn:
        return str(age)
    return None


def _drift(work: Workspace, student: Student) -> str | None:
    """What the newest drift report says of a student that it asks to be trained again."""
    rows = stored_drift(work)  # a damaged one is said where it is looked at
    reason = None if rows is None else asks(work, student, rows)
    return None if reason is None else f"{BY_DRIFT}: {reason}"
