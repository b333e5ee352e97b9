"""The stored evaluations of a student.

Belongs here: reading them all. Not here: how they are made (slice_metrics.py), what is concluded (gate.py, drift.py).
"""

import polars as pl

from exfm.learning import Student
from pipeline.evaluation.schema import SCHEMA
from pipeline.workspace import Workspace


def evaluations_of(work: Workspace, student: Student) -> pl.DataFrame:
    """All evaluations of a student, oldest slice first; an empty frame before the first."""
    table = work.evaluations(student.name)
    stored = table.stored(work.project.stream)
    return table.read(stored) if stored else pl.DataFrame(schema=dict(SCHEMA))
