"""What served when, and how well: a slice's metrics for student, control, teacher and the best possible.

Belongs here: which checkpoint would have been serving, and the rows of the evaluation table.
Not here: metrics (models/metrics.py), training (student_walk.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from models.manifest import Manifest
from models.means import chunks, mean_of
from models.metrics import evaluate
from pipeline.evaluation.groups import NO_GROUPS, Groups
from pipeline.evaluation.schema import DISAGREEMENT, HISTOGRAM, METRICS, SCHEMA


@dataclass(frozen=True)
class Judged:
    """One model's scores of a slice's rows: logits (N,), and where they come from."""

    model: str
    logits: np.ndarray
    checkpoint: str | None
    trained_until: datetime | None

    @classmethod
    def by(cls, model: str, logits: np.ndarray, manifest: Manifest) -> "Judged":
        until = datetime.fromisoformat(manifest.trained_until) if manifest.trained_until else None
        return cls(model, logits, manifest.version, until)


def evaluation_rows(
    student: Student,
    slice_: Slice,
    labels: np.ndarray,
    judged: list[Judged],
    evaluation: str,
    weights: np.ndarray | None = None,
    groups: Groups = NO_GROUPS,
) -> pl.DataFrame:
    """One row a model, over the rows whose label is known and that every model scored.

    All models are judged on the same rows, or their differences would not be theirs.

    Args:
        labels: (N,) float32, NaN where not known.
        judged: models with logits (N,), NaN where a row has no score.
        evaluation: what this evaluation is made of, as a digest.
        weights: (N,) how many rows each stands for; ``None``: one each.
        groups: users and requests of the rows.
    """
    both = all_or(known_to_all(labels, [scored.logits for scored in judged]))
    known, stands_for = labels[both], None if weights is None else weights[both]
    of = groups.take(both)
    rows = []
    for scored in judged:
        logits = scored.logits[both]
        metrics = evaluate(logits, known, stands_for) | of.metrics(logits, known, stands_for)
        about = {
            "student": student.name,
            "slice": slice_.key,
            "slice_start": slice_.start,
            "model": scored.model,
            "checkpoint": scored.checkpoint,
            "trained_until": scored.trained_until,
            "rows": int(known.size),
            "positives": int(known.sum()),
            "evaluation": evaluation,
        }
        rows.append({**about, **{name: metrics[name] for name in METRICS}})
    return pl.DataFrame(rows, schema=dict(SCHEMA))


@dataclass(frozen=True)
class Evaluation:
    """Who was judged on a slice.

    Args:
        labels: (N,) float32 of the student's rows, NaN where not known.
        judged: models with logits (N,).
        made_of: what it depends on, as a digest.
        weights: (N,) how many rows each stands for; ``None``: one each.
        groups: users and requests of the rows.
    """

    student: Student
    slice: Slice
    labels: np.ndarray
    judged: tuple[Judged, ...]
    made_of: str
    weights: np.ndarray | None = None
    groups: Groups = NO_GROUPS

    def measured(self) -> "Measured":
        """What is stored of it."""
        return Measured(self.rows(), self.notes(), self.made_of)

    def rows(self) -> pl.DataFrame:
        """As the evaluation table has them."""
        judged = list(self.judged)
        return evaluation_rows(self.student, self.slice, self.labels, judged, self.made_of, self.weights, self.groups)

    def notes(self) -> dict[str, object]:
        """What is kept beside them: the student's predictions by bin, and how far they are from the teacher's."""
        logits = {scored.model: scored.logits for scored in self.judged}
        if "student" not in logits:
            return {}
        notes: dict[str, object] = {HISTOGRAM: prediction_histogram(logits["student"])}
        if "teacher" in logits:
            both = np.isfinite(logits["teacher"]) & np.isfinite(logits["student"])
            if both.any():
                mine, theirs = (logits[name][all_or(both)] for name in ("student", "teacher"))
                apart = mean_of(lambda x, y: np.abs(_chances(x) - _chances(y)), mine, theirs)
                of = mean_of(lambda _, y: _chances(y), mine, theirs)
                notes[DISAGREEMENT] = apart / of if of > 0 else float("nan")
        return notes


@dataclass(frozen=True)
class Measured:
    """What is stored of an evaluation: rows of its table, notes, and what it was made of. It holds no scores."""

    rows: pl.DataFrame
    notes: dict[str, object]
    made_of: str


def _chances(logits: np.ndarray) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return chances


def prediction_histogram(logits: np.ndarray) -> dict[str, int]:
    """Rows by half units of their logit, from -10 to 10: (N,) logits."""
    found: Counter[int] = Counter()
    for rows in chunks(logits.size):
        known = logits[rows][np.isfinite(logits[rows])]
        bins, counts = np.unique(np.clip(np.floor(2 * known), -20, 20).astype(int), return_counts=True)
        found.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))
    return {str(name): found[name] for name in sorted(found)}


def all_or(mask: np.ndarray) -> np.ndarray | slice:
    """A mask (N,), or all rows where it is true of all: what is taken by that is not copied."""
    return slice(None) if mask.all() else mask


def known_to_all(labels: np.ndarray, logits: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) bool: rows whose label is known and that every model scored."""
    known: np.ndarray = np.isfinite(labels)
    for values in logits:
        known &= np.isfinite(values)
    return known


def true_logits(log: Path, shown: Iterable[pl.DataFrame], slice_: Slice, task: str) -> np.ndarray | None:
    """The simulator's true logits of a slice's rows, in their order; ``None`` for a real log.

    Args:
        shown: ``impression_id``, part by part.
    """
    days = {f"day={moment:%Y-%m-%d}" for moment in (slice_.start, slice_.end - timedelta(microseconds=1))}
    files = [path for day in sorted(days) for path in sorted((log / "truth" / day).glob("*.parquet"))]
    if not files:
        return None
    truth = pl.scan_parquet(files, glob=False, hive_partitioning=False).select("impression_id", task)
    return np.concatenate([_true_logits(truth, part["impression_id"], task) for part in shown])


def _true_logits(truth: pl.LazyFrame, ids: pl.Series, task: str) -> np.ndarray:
    near = truth.filter(pl.col(ids.name).is_between(ids.min(), ids.max())).collect()  # ids rise, so these are few
    matched = ids.to_frame().join(near, on=ids.name, how="left", maintain_order="left")
    probability = matched[task].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    logits: np.ndarray = np.log(probability) - np.log1p(-probability)
    return logits
