"""Why a student is to be trained on what has come since it was trained last.

Belongs here: the reasons. Not here: which slices that is and when they are asked for (exfm_assets/automation.py).
"""

import polars as pl

from exfm.learning import Student
from pipeline.releases.release import current_release
from pipeline.tables import UNREADABLE
from pipeline.upkeep.ages import ages_of
from pipeline.workspace import Workspace


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
    path = work.state.reports / "drift.parquet"
    if not path.is_file():
        return None
    try:
        rows = pl.read_parquet(path).filter(pl.col("student") == student.name, pl.col("drifted"))
    except (*UNREADABLE, OSError, pl.exceptions.ColumnNotFoundError):
        return None  # damaged: that is said where it is looked at
    return f"it drifted: {rows['reason'][0]}" if rows.height else None
