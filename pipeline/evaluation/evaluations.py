"""The stored evaluations of a student.

Belongs here: reading them all. Not here: how they are made (slice_metrics.py), what is concluded (gate.py, drift.py).
"""

from collections.abc import Sequence
from functools import partial

import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.evaluation.schema import SCHEMA
from pipeline.tables import SliceTable, naming_damage
from pipeline.workspace import Workspace


def evaluations_of(work: Workspace, student: Student) -> pl.DataFrame:
    """All evaluations of a student, oldest slice first; an empty frame before the first."""
    table = work.evaluations(student.name)
    return read_evaluations(table, table.stored(work.project.stream))


def read_evaluations(table: SliceTable, slices: Sequence[Slice]) -> pl.DataFrame:
    """Those of some slices, one after the other; a metric that an earlier exfm did not have is null.

    Raises:
        DataError: if a slice is missing, or its file is not whole.
    """
    files = [table.sound_path(slice_) for slice_ in slices]
    if not files:
        return pl.DataFrame(schema=dict(SCHEMA))
    with naming_damage(*(partial(table.read, [slice_]) for slice_ in slices)):
        return pl.read_parquet(
            files, schema=dict(SCHEMA), missing_columns="insert", glob=False, hive_partitioning=False
        )
