"""Supervision: a teacher's predictions of a slice as students learn from them, read through Feast.

Belongs here: reading by the clock of now, with leaks masked. Not here: writing predictions (predictions.py), the leak
rules (feature_repo/guards.py), the slice that they supervise (supervised_slice.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from exfm.columns import FeatureColumn, ScoreColumns
from exfm.learning import Teacher
from exfm.stream import Slice
from feature_repo.guards import mask_leaks
from pipeline.slices.predictions import check_predictions, sound_files
from pipeline.tables import naming_damage
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Supervision:
    """A teacher's predictions for a slice, as known when they were read.

    Args:
        tasks: T tasks of the teacher, in order.
        logits: (N, T) float32 in the order of the slice's impressions, NaN where there is none.
        staleness: (N,) float32, hours from the newest impression that the scorer had seen to this one, NaN if none.
        checkpoints: which checkpoints they come from.
        leaks: rows that a leak rule masked although they were stored.
        coverage: share of impressions with a prediction.
    """

    tasks: tuple[str, ...]
    logits: np.ndarray
    staleness: np.ndarray
    checkpoints: tuple[str, ...]
    leaks: int
    coverage: float


def no_supervision(tasks: tuple[str, ...], rows: int) -> Supervision:
    """Of a slice that a teacher did not score."""
    nothing = np.full((rows, len(tasks)), np.nan, dtype=np.float32)
    unknown = np.full(rows, np.nan, dtype=np.float32)
    return Supervision(tasks, logits=nothing, staleness=unknown, checkpoints=(), leaks=0, coverage=0.0)


def stored_supervision(work: Workspace, teacher: Teacher, slice_: Slice, services: Sequence[str]) -> Supervision:
    """Read a slice's supervision through Feast, part by part, by the clock of this moment.

    Args:
        services: the supervision services of the students that will learn from it; joined once for all.
    """
    from feature_repo.store import read_supervision

    logged, now = work.table("logged_inputs"), work.now()
    unknown = no_supervision(teacher.tasks, logged.rows(slice_))
    if teacher.scorer_of(slice_.index) < 0 or not sound_files(work, teacher, slice_):
        return unknown
    tasks = [FeatureColumn(teacher.view, ScoreColumns(task).logit).name for task in teacher.tasks]
    checkpoint, until = (FeatureColumn(teacher.view, name).name for name in ("checkpoint", "trained_until"))
    logits, hours, versions = unknown.logits, unknown.staleness, set[str]()
    leaks = scored = start = 0
    for impressions in logged.parts(slice_, ["impression_id", "event_timestamp"]):
        shown = pl.col("event_timestamp")
        ends = impressions.select(first=shown.min(), last=shown.max()).row(0) if impressions.height else None
        with naming_damage(lambda: check_predictions(work, teacher)):
            read = pl.DataFrame(read_supervision(work.store, impressions.to_arrow(), now, services, ends))
        masked, leaked = mask_leaks(read, teacher.view)
        rows = slice(start, start + masked.height)
        logits[rows] = masked.select(_logit(masked, name) for name in tasks).to_numpy()
        hours[rows] = staleness(masked, pl.col(until))
        versions |= set(masked[checkpoint].drop_nulls().unique())
        scored += masked.height - masked[checkpoint].null_count()
        leaks, start = leaks + leaked, rows.stop
    coverage = scored / max(len(hours), 1)
    return Supervision(teacher.tasks, logits, hours, tuple(sorted(versions)), leaks, coverage)


def staleness(frame: pl.DataFrame, trained_until: pl.Expr) -> np.ndarray:
    """(N,) float32 hours from the newest impression that a scorer had seen to each impression, NaN if it saw none."""
    age = (pl.col("event_timestamp") - trained_until).dt.total_seconds() / 3600
    return frame.select(age.cast(pl.Float32).fill_null(float("nan"))).to_series().to_numpy(writable=True)


def _logit(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A task that no asked student learns is not read: all unknown."""
    column = pl.col(name) if name in frame.columns else pl.lit(None)
    return column.cast(pl.Float32).fill_null(float("nan")).alias(name)
