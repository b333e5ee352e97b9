"""Segments of the judged rows: on whom, on what and where a candidate is better or worse than its control.

Belongs here: which segments there are, and their figures. Not here: what the gate refuses for (judging.py).
"""

from collections.abc import Iterator

import numpy as np

from exfm.learning import Student
from pipeline.gate.comparison import Interval, Resampled
from pipeline.gate.judged_rows import Seen
from pipeline.gate.scoring import Scored
from pipeline.releases.verdict import JudgedSegment
from pipeline.workspace import Workspace

CANDIDATE, CONTROL = "student", "control"
# Relative NE. A student that was not taught is its control, but beside others its products round differently.
ROUNDING = 1e-6
MOST_VALUES = 12  # of a context column whose values are segments
LEAST_POSITIVES = 20  # of a segment, and negatives: below that an interval says nothing


def segments_of(
    work: Workspace, student: Student, scored: Scored, seen: Seen, resampled: Resampled
) -> tuple[JudgedSegment, ...]:
    """The figures of each segment with enough positives and negatives.

    Intervals are of the same resamples as those of all rows, at the gate's confidence, which all segments share
    (Bonferroni): the worst of many is else worse than it is.
    """
    parts = {
        where: rows
        for where, rows in _masks(work, student, scored, seen)
        if LEAST_POSITIVES <= scored.labels[rows].sum() <= rows.sum() - LEAST_POSITIVES
    }
    found: list[Interval | None] = [None] * len(parts)
    if CONTROL in scored.logits:
        base = scored.losses[CONTROL]
        confidence = 1 - (1 - student.gate.confidence) / max(len(parts), 1)
        found = [*resampled.ratios(scored.losses[CANDIDATE] - base, base, list(parts.values()), confidence)]
    return tuple(
        JudgedSegment(where, int(rows.sum()), scored.ne(CANDIDATE, rows), *_bounds(interval))
        for (where, rows), interval in zip(parts.items(), found, strict=True)
    )


def _bounds(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    if interval is None:
        return None, None, None
    level = abs(interval.value) < ROUNDING
    return (0.0, 0.0, 0.0) if level else (interval.value, interval.low, interval.high)


def _masks(work: Workspace, student: Student, scored: Scored, seen: Seen) -> Iterator[tuple[str, np.ndarray]]:
    """Names of segments, and which rows are theirs, (N,) bool."""
    stream = work.project.stream
    for what, name in (("users", stream.user.name), ("items", stream.item.name)):
        if name in seen:
            known = scored.shown[name].is_in(seen[name].implode()).fill_null(False).to_numpy()
            yield f"known {what}", known
            yield f"new {what}", ~known
    surface = [stream.surface.name] if student.surface is None else []
    for name in (*surface, *(column.name for column in stream.context)):
        values = scored.shown[name].unique().sort()
        for value in values if len(values) <= MOST_VALUES else ():
            yield f"{name} {'null' if value is None else value}", scored.shown[name].eq_missing(value).to_numpy()
