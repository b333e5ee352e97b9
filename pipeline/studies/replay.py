"""Replays: a project's slices walked in memory, as often as a comparison needs; nothing is stored.

Belongs here: teachers and students learning slice by slice, each score by the checkpoint that would have been there.
Not here: which comparisons (teacher_lag_study.py, benchmarks/), the walk that materialises assets (training/).

A model that trained last on slice s scores slice s + lag at once: as its kept checkpoint would have, in one pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch

from exfm.distillation import LeadAware
from exfm.learning import Training
from exfm.project import Columns
from exfm.stream import Slice
from models.batch import SliceTensors
from models.learner import Learner
from models.members import Member
from models.metrics import evaluate
from pipeline.slices.slice_inputs import SliceInputs
from pipeline.slices.supervised_slice import EVERY
from pipeline.training.teacher_lead import lead_of
from pipeline.workspace import Workspace

Scores = list[np.ndarray | None]  # of each slice: logits, None where nobody was there to score


@dataclass
class Replay:
    """Slices with inputs and labels, resident on the host.

    Args:
        slices: adjacent slices, oldest first, the stream's first among them: nobody knows anything before it.
    """

    work: Workspace
    slices: Sequence[Slice]
    device: str
    columns: Columns

    @classmethod
    def of(cls, work: Workspace, device: str, columns: Columns) -> "Replay":
        """Every slice whose tables are stored: inputs, labels, and teacher features where the columns name any."""
        tables = ["logged_inputs", "labels", *(["logged_teacher_features"] if columns.of_teachers else [])]
        stored = [{slice_.key for slice_ in work.table(name).stored(work.project.stream)} for name in tables]
        whole = set.intersection(*stored)
        slices = [slice_ for slice_ in work.table("labels").stored(work.project.stream) if slice_.key in whole]
        return cls(work, slices, device, columns)

    @cached_property
    def _read(self) -> list[tuple[SliceTensors, pl.DataFrame]]:
        kept = ["impression_id", "event_timestamp", self.work.project.stream.surface.name]
        read_ahead = [SliceInputs(self.work, slice_, self.device, True, self.columns) for slice_ in self.slices]
        return [(inputs.tensors, inputs.frame.select(kept)) for inputs in read_ahead]

    def __len__(self) -> int:
        return len(self.slices)

    def frame(self, place: int) -> pl.DataFrame:
        """A slice's impressions: id, time, surface."""
        return self._read[place][1]

    def rows(self, place: int, surface: int | str | None) -> np.ndarray:
        """Places of a surface's impressions in a slice."""
        frame = self.frame(place)
        if surface is None:
            return np.arange(frame.height)
        return np.flatnonzero((frame[self.work.project.stream.surface.name] == surface).fill_null(False).to_numpy())

    def tensors(self, place: int, surface: int | str | None = None) -> SliceTensors:
        """A slice, or a surface's part of it."""
        whole = self._read[place][0]
        if surface is None:
            return whole
        return whole.take(torch.from_numpy(self.rows(place, surface)).to(self.device))

    def labels(self, place: int, surface: int | str | None, task: str) -> np.ndarray:
        """(N,) labels of a task, NaN where not known."""
        tensors = self.tensors(place, surface)
        return tensors.labels[:, tensors.task_names.index(task)].cpu().numpy()

    def staleness(self, place: int, lag: int) -> np.ndarray:
        """(N,) hours from the newest impression of the slice ``lag`` before to each of this slice."""
        frame = self.frame(place).select("event_timestamp")
        newest = self.frame(max(place - lag, 0))["event_timestamp"].max()
        age = pl.col("event_timestamp") - pl.lit(newest, pl.Datetime("us", "UTC"))
        return frame.select(age.dt.total_seconds() / 3600).to_series().to_numpy()


def teach(replay: Replay, member: Member, training: Training, lags: Sequence[int]) -> dict[int, Scores]:
    """A teacher's scores of every slice, for each lag: (N, T of the stream) logits, NaN for tasks it does not have."""
    learner = Learner([member], training, replay.device)
    scores: dict[int, Scores] = {lag: [None] * len(replay) for lag in lags}
    for place, slice_ in enumerate(replay.slices):
        learner.fit(replay.tensors(place), slice_.key)
        for lag in lags:
            if place + lag < len(replay):
                scores[lag][place + lag] = _of_all_tasks(learner, replay.tensors(place + lag))
    return scores


def _of_all_tasks(learner: Learner, tensors: SliceTensors) -> np.ndarray:
    scored = learner.predict(tensors).cpu().numpy()
    logits = np.full(tensors.labels.shape, np.nan, dtype=np.float32)
    for place, task in enumerate(learner.spec.tasks):
        logits[:, tensors.task_names.index(task)] = scored[:, place]
    return logits


@dataclass(frozen=True)
class Taught:
    """A teacher as students meet it: its scores of every slice, and by how many slices its snapshots lag."""

    scores: Scores
    lag: int = 1


def study(
    replay: Replay,
    surface: int | str | None,
    members: Sequence[Member],
    training: Training,
    lag: int,
    teachers: Mapping[str, Taught] | None = None,
    leads: Sequence[LeadAware | None] = (),
) -> Scores:
    """Students side by side over a surface: each slice's (S, N) logits, by what trained ``lag`` slices before it.

    Args:
        leads: of each member; with any, the first member is the control that leads are measured against.
    """
    learner = Learner(members, training, replay.device)
    leading = Leading(replay, surface, members, teachers or {}, leads)
    scores: Scores = [None] * len(replay)
    for place, slice_ in enumerate(replay.slices):
        tensors = _supervised(replay, place, surface, teachers or {})
        shares = leading.shares(place, learner, tensors)
        learner.fit(tensors, slice_.key, shares)
        if place + lag < len(replay):
            scores[place + lag] = learner.predict_all(replay.tensors(place + lag, surface))[:, :, 0].cpu().numpy()
    return scores


def _supervised(replay: Replay, place: int, surface: int | str | None, teachers: Mapping[str, Taught]) -> SliceTensors:
    tensors, rows = replay.tensors(place, surface), replay.rows(place, surface)
    logits, staleness = {}, {}
    for name, taught in teachers.items():
        scored = taught.scores[place]
        known = np.full(tensors.labels.shape, np.nan, dtype=np.float32) if scored is None else scored[rows]
        logits[name] = torch.from_numpy(known).to(replay.device)
        hours = replay.staleness(place, taught.lag)[rows].astype(np.float32)
        staleness[name] = torch.from_numpy(hours).to(replay.device)
    return replace(tensors, teachers=logits, staleness=staleness)


@dataclass
class Leading:
    """Leads of teachers and members over the first, measured before a slice is learnt, used on later slices."""

    replay: Replay
    surface: int | str | None
    members: Sequence[Member]
    teachers: Mapping[str, Taught]
    leads: Sequence[LeadAware | None]

    def __post_init__(self) -> None:
        self._seen: dict[str, list[float]] = {name: [] for name in self.teachers}
        self._gains: list[list[float]] = [[] for _ in self.members]

    def shares(self, place: int, learner: Learner, tensors: SliceTensors) -> list[dict[str, float]] | None:
        """Each member's shares on a slice; then this slice is measured, for those that come after."""
        if not any(self.leads):
            return None
        given = [
            {name: lead.share(seen, gains) for name, seen in self._seen.items()} if lead else {}
            for lead, gains in zip(self.leads, self._gains, strict=True)
        ]
        if place:
            task = self.members[0].spec.tasks[0]
            labels = self.replay.labels(place, self.surface, task)
            base, *own = learner.predict_all(tensors)[:, :, 0].cpu().numpy()
            for seen, logits in zip(self._gains[1:], own, strict=True):
                _append(seen, lead_of(logits, base, labels))
            for name, logits in tensors.teachers.items():
                theirs = logits[:, tensors.task_names.index(task)].cpu().numpy()
                _append(self._seen[name], lead_of(theirs, base, labels))
        return given


def _append(seen: list[float], measured: float) -> None:
    if np.isfinite(measured):
        seen.append(measured)


def judged(replay: Replay, surface: int | str | None, task: str, scores: Mapping[str, Scores]) -> pl.DataFrame:
    """NE, AUC, log loss and calibration of several models, a row a slice and model, all on the same rows.

    Args:
        scores: by model; a slice that one of them did not score, or without both classes, is left out for all.
    """
    rows = []
    for place, slice_ in enumerate(replay.slices):
        logits = {name: each[place] for name, each in scores.items()}
        labels = replay.labels(place, surface, task)
        known = [np.isfinite(one) for one in logits.values() if one is not None]
        if len(known) < len(logits):
            continue
        both = np.isfinite(labels) & np.logical_and.reduce(known)
        if not 0 < labels[both].sum() < both.sum():
            continue
        for name, one in logits.items():
            assert one is not None
            metrics = evaluate(one[both], labels[both])
            rows.append({"slice": slice_.key, "place": place, "model": name, "rows": int(both.sum()), **metrics})
    return pl.DataFrame(rows)


def rows_name(surface: int | str | None) -> str:
    """How a surface is called in tables."""
    return EVERY if surface is None else str(surface)


def of_surface(replay: Replay, scores: Scores, surface: int | str | None, task: str) -> Scores:
    """A teacher's scores of one task on one surface."""
    tasks = replay.tensors(0).task_names
    return [None if s is None else s[replay.rows(p, surface), tasks.index(task)] for p, s in enumerate(scores)]
