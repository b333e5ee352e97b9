"""Scores of several models on the same labelled rows.

However many there are, no more than about ``MOST_ROWS`` are judged: of more, rows are drawn.

Belongs here: reading rows, predicting, which rows are resampled together. Not here: who is scored (judging.py,
comparing.py), intervals (comparison.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch

from exfm.learning import Student
from exfm.stream import Slice
from models.batch import SliceTensors
from models.checkpoint import load_checkpoint
from models.learner import Learner
from models.metrics import normalised_entropy, row_losses
from pipeline.gate.candidate import user_codes
from pipeline.gate.comparison import Resampled
from pipeline.gate.drawing import drawn
from pipeline.gate.judged_rows import JudgedRows
from pipeline.slices.beside import ID, beside
from pipeline.slices.scores import scores_of
from pipeline.slices.slice_inputs import students_columns
from pipeline.slices.supervised_slice import SupervisedSlice, rows_name
from pipeline.workspace import Workspace

MOST_ROWS = 2**22  # some 200 bytes each
LEAST_DRAWN = 300  # of a part that is judged apart


@dataclass(frozen=True)
class Scored:
    """Labelled rows of the judged slices, or those that were drawn of them.

    Args:
        labels: (N,) in [0, 1].
        logits: of each model, (N,).
        shown: (N,) rows with the log's categorical columns.
        user, surface: which of them say who saw it, and where.
        weights: (N,) how many rows each stands for; ``None``: one each.
        of: how many labelled rows there are.
    """

    labels: np.ndarray
    logits: Mapping[str, np.ndarray]
    shown: pl.DataFrame
    user: str
    surface: str
    weights: np.ndarray | None = None
    of: int = 0

    @property
    def share(self) -> float:
        """Of the labelled rows, of those that are here."""
        return len(self.labels) / self.of if self.of else 1.0

    def least(self, judged_rows: int) -> float:
        """How many of these rows stand for so many labelled ones; not so few that an interval of them says nothing."""
        return min(judged_rows, max(judged_rows * self.share, LEAST_DRAWN))

    @property
    def said(self) -> str:
        """That they were drawn, where they were."""
        return "" if len(self.labels) >= self.of else f"drawn by chance from {self.of:,} rows"

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
    labelled = sum(
        int(np.isfinite(rows.of(student, slice_).labels(student.task, rows_name(student.surface))).sum())
        for slice_ in slices
    )
    share = min(1.0, max(MOST_ROWS, student.gate.judged_rows) / max(labelled, 1))
    parts = [_scored_slice(rows, student, slice_, models, share) for slice_ in slices]
    return Scored(
        np.concatenate([part.labels for part in parts]),
        {name: np.concatenate([part.logits[name] for part in parts]) for name in models},
        pl.concat([part.shown for part in parts]),
        parts[0].user,
        parts[0].surface,
        None if parts[0].weights is None else np.concatenate([np.asarray(part.weights) for part in parts]),
        labelled,
    )


def _scored_slice(
    judged: JudgedRows, student: Student, slice_: Slice, models: Mapping[str, Learner], share: float
) -> Scored:
    """A share of its labelled rows."""
    rows, stream = rows_name(student.surface), judged.work.project.stream
    supervised = judged.of(student, slice_)
    labels, weights = supervised.labels(student.task, rows), supervised.weights(rows)
    labelled = np.zeros(supervised.inputs.rows, dtype=bool)
    labelled[supervised.at(rows)] = np.isfinite(labels)
    shown, mine = _shown(judged.work, supervised, labelled, share)
    known = mine[supervised.at(rows)]
    parts = supervised.parts(rows) if share == 1 else _taken(supervised, rows, mine)
    logits = scores_of(list(models.values()), parts)
    scores = {name: (each[known] if share == 1 else each)[:, 0] for name, each in zip(models, logits, strict=True)}
    of_known = None if weights is None else weights[known].astype(np.float64)
    return Scored(labels[known], scores, shown, stream.user.name, stream.surface.name, of_known)


def _shown(
    work: Workspace, supervised: SupervisedSlice, labelled: np.ndarray, share: float
) -> tuple[pl.DataFrame, np.ndarray]:
    """What the log says of a share of the labelled rows, and which those are: (N,) bool of the slice's."""
    stream, inputs = work.project.stream, supervised.inputs
    columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
    found, mine = list[pl.DataFrame](), labelled.copy()
    told = beside(work.table("impressions"), supervised.slice, inputs.shown(), columns)
    for span, part in zip(inputs.spans, told, strict=True):
        if share < 1:
            mine[span] &= drawn(part[ID], share)
        found.append(part.select(columns).filter(pl.Series(mine[span])))
    return pl.concat(found), mine


def _taken(supervised: SupervisedSlice, rows: str, mine: np.ndarray) -> Iterator[SliceTensors]:
    """The parts of some rows, and of those the ones of a mask, (N,) of the slice."""
    at = supervised.at(rows)
    for span, part in zip(supervised.inputs.spans, supervised.parts(rows), strict=True):
        of_rows = mine[span] if isinstance(at, slice) else mine[span][at[span]]
        yield part.take(torch.from_numpy(np.flatnonzero(of_rows)).to(supervised.inputs.device))


def resamples_of(student: Student, users: pl.Series, seed: int) -> Resampled:
    """Resamples of rows, by what the student's gate says."""
    groups = user_codes(users).to_numpy() if student.gate.by == "user" else np.arange(len(users))
    return Resampled(groups, seed)
