"""Scores of several models on the same labelled rows.

Belongs here: reading rows, predicting, which rows are resampled together. Not here: who is scored (judging.py,
comparing.py), intervals (comparison.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from models.checkpoint import load_checkpoint
from models.learner import Learner
from models.metrics import normalised_entropy, row_losses
from pipeline.gate.candidate import user_codes
from pipeline.gate.comparison import Resampled
from pipeline.gate.judged_rows import JudgedRows
from pipeline.slices.beside import beside
from pipeline.slices.scores import scores_of
from pipeline.slices.slice_inputs import students_columns
from pipeline.slices.supervised_slice import rows_name
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Scored:
    """Labelled rows of the judged slices.

    Args:
        labels: (N,) in [0, 1].
        logits: of each model, (N,).
        shown: (N,) rows with the log's categorical columns.
        user, surface: which of them say who saw it, and where.
        weights: (N,) how many rows each stands for; ``None``: one each.
    """

    labels: np.ndarray
    logits: Mapping[str, np.ndarray]
    shown: pl.DataFrame
    user: str
    surface: str
    weights: np.ndarray | None = None

    def ne(self, name: str, rows: np.ndarray | None = None) -> float:
        """NE of a model, on some of the rows."""
        chosen = slice(None) if rows is None else rows
        weights = None if self.weights is None else self.weights[chosen]
        return normalised_entropy(self.logits[name][chosen], self.labels[chosen], weights)

    def weighted(self, values: np.ndarray) -> np.ndarray:
        """(N,) values of rows, by how many each stands for."""
        return values if self.weights is None else values * self.weights

    @property
    def users(self) -> pl.Series:
        return self.shown[self.user]

    @property
    def surfaces(self) -> pl.Series:
        return self.shown[self.surface]

    @cached_property
    def losses(self) -> dict[str, np.ndarray]:
        """Of each model (N,), by how many rows each stands for."""
        return {name: self.weighted(row_losses(logits, self.labels)) for name, logits in self.logits.items()}


def released_learner(work: Workspace, student: Student, version: str, device: str) -> Learner | str:
    """A release as a learner that predicts, or why it can't read what is stored now, in a few words."""
    try:
        learner, manifest = load_checkpoint(work.state.release(student.name) / version, device)
    except ValueError as error:  # CheckpointError: the release is mended or said to be damaged elsewhere
        return str(error)
    known = work.project.encoder(students_columns(work.project, [student]))
    lacking = sorted(name for name, encoding in manifest.encoder.items() if known.get(name) != encoding)
    if not manifest.encoder or lacking:
        return f"it reads {', '.join(lacking) or 'its inputs'}, declared otherwise now"
    return learner


def score_slices(rows: JudgedRows, student: Student, slices: Sequence[Slice], models: Mapping[str, Learner]) -> Scored:
    """What some models say of the labelled rows of slices.

    Raises:
        DataError: if inputs or labels are damaged.
    """
    parts = [_scored_slice(rows, student, slice_, models) for slice_ in slices]
    return Scored(
        np.concatenate([part.labels for part in parts]),
        {name: np.concatenate([part.logits[name] for part in parts]) for name in models},
        pl.concat([part.shown for part in parts]),
        parts[0].user,
        parts[0].surface,
        None if parts[0].weights is None else np.concatenate([np.asarray(part.weights) for part in parts]),
    )


def _scored_slice(judged: JudgedRows, student: Student, slice_: Slice, models: Mapping[str, Learner]) -> Scored:
    work, rows = judged.work, rows_name(student.surface)
    stream, supervised = work.project.stream, judged.of(student, slice_)
    labels, weights, inputs = supervised.labels(student.task, rows), supervised.weights(rows), supervised.inputs
    known = np.isfinite(labels)
    columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
    mine = np.zeros(inputs.rows, dtype=bool)
    mine[supervised.at(rows)] = known
    shown = pl.concat(
        part.select(columns).filter(pl.Series(mine[span]))
        for span, part in zip(
            inputs.spans, beside(work.table("impressions"), slice_, inputs.shown(), columns), strict=True
        )
    )
    logits = scores_of(list(models.values()), supervised.parts(rows))
    scores = {name: each[known, 0] for name, each in zip(models, logits, strict=True)}
    of_known = None if weights is None else weights[known].astype(np.float64)
    return Scored(labels[known], scores, shown, stream.user.name, stream.surface.name, of_known)


def resamples_of(student: Student, users: pl.Series, seed: int) -> Resampled:
    """Resamples of rows, by what the student's gate says."""
    groups = user_codes(users).to_numpy() if student.gate.by == "user" else np.arange(len(users))
    return Resampled(groups, seed)
