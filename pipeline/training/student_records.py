"""What is stored of a student, beside its checkpoints: what they were made of, what is judged, which weights stay.

Belongs here: looking back (is it stored, made of the same?) and ahead (which weights a walk needs, and may drop).
Not here: the order of work on a slice (student_walk.py), which does without any of it in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import polars as pl

from exfm.stream import Slice
from models.errors import CheckpointError
from models.manifest import Manifest
from pipeline.evaluation.evaluations import read_evaluations
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.lineage import Data, Recorded, data_of, evaluation_names
from pipeline.registry.restoring import again, first_new
from pipeline.releases.release import released_checkpoints
from pipeline.sidecar import write_sidecar
from pipeline.slices.withdrawals import withdrawn
from pipeline.tables import DataError
from pipeline.training.student_run import CONTROL, EVALUATION, STUDENT, StudentRun
from pipeline.training.teacher_lead import control_version
from pipeline.workspace import Workspace


class StudentRecords(Protocol):
    """What a walk asks of what was stored before it, and leaves for those after it."""

    def data(self, run: StudentRun, index: int, *, is_taught: bool) -> Data:
        """What a slice's checkpoint of the student, or of its control, is made of: digests by table."""

    def withdrawn(self, run: StudentRun, slice_: Slice) -> bool:
        """Was what it learnt of a slice withdrawn, so that it and its control learn nothing of it?"""

    def made_of(self, run: StudentRun, slice_: Slice, judged: Mapping[str, Manifest]) -> Sequence[str]:
        """What an evaluation depends on, as digests that mean the same: who is judged, on which data."""

    def evaluated(self, run: StudentRun, slice_: Slice, made_of: Sequence[str]) -> pl.DataFrame | None:
        """The slice's evaluation, if it is stored, made of the same."""

    def retain(self, run: StudentRun, slice_: Slice) -> None:
        """Let go of weights that nobody needs after this slice."""


class NoRecords:
    """For walks that store nothing."""

    def data(self, run: StudentRun, index: int, *, is_taught: bool) -> Data:
        return lambda stored: {}

    def withdrawn(self, run: StudentRun, slice_: Slice) -> bool:
        return False

    def made_of(self, run: StudentRun, slice_: Slice, judged: Mapping[str, Manifest]) -> Sequence[str]:
        return ("",)

    def evaluated(self, run: StudentRun, slice_: Slice, made_of: Sequence[str]) -> pl.DataFrame | None:
        return None

    def retain(self, run: StudentRun, slice_: Slice) -> None:
        return None


@dataclass(frozen=True)
class StoredRecords:
    """Those of a workspace: sidecars, evaluations, checkpoint folders."""

    work: Workspace

    def data(self, run: StudentRun, index: int, *, is_taught: bool) -> Data:
        slice_, student = self.work.project.stream.slice_at(index), run.declared
        more = control_version(run.served[CONTROL], index) if is_taught and student.lead is not None else {}

        def read(stored: Recorded | None) -> dict[str, str]:
            return data_of(self.work, slice_, student, supervised=is_taught, stored=stored) | more

        now = read(None)  # before the slice is read
        return lambda stored: now if stored is None else read(stored)

    def withdrawn(self, run: StudentRun, slice_: Slice) -> bool:
        return withdrawn(self.work, f"student/{run.declared.name}", slice_.key) is not None

    def made_of(self, run: StudentRun, slice_: Slice, judged: Mapping[str, Manifest]) -> Sequence[str]:
        versions = {name: manifest.version for name, manifest in judged.items()}
        columns = {name: None for manifest in judged.values() for name in manifest.encoder}
        return evaluation_names(self.work, slice_, run.declared, versions, columns)

    def evaluated(self, run: StudentRun, slice_: Slice, made_of: Sequence[str]) -> pl.DataFrame | None:
        table = self.work.evaluations(run.declared.name)
        if not table.sound(slice_):
            return None
        stored, sidecar = read_evaluations(table, [slice_]), table.sidecar(slice_)
        known = None if sidecar is None else sidecar.made_of.get(EVALUATION)
        if known is not None:
            return stored if known in made_of else None
        names = stored["evaluation"].unique().to_list()
        if len(names) != 1 or names[0] not in made_of:
            return None
        # An older version wrote it, or its writer was stopped: from now on its sidecar says what it was made of.
        write_sidecar(table.path(slice_), stored.height, {EVALUATION: names[0]})
        return stored

    def retain(self, run: StudentRun, slice_: Slice) -> None:
        """Keep the weights that may still serve, be continued or be judged, and those released."""
        index = slice_.index
        project = self.work.project
        last = min(index - project.retention.last + 1, index - project.upkeep.retrain - run.serving_lag + 1)
        judged = _candidate_at(run, index, project.upkeep.look_back)
        kept = min(last, index - run.serving_lag, self._needed_by_pending(run, index), _both_at(run, index), judged)
        for part in (STUDENT, CONTROL):
            checkpoints = run.model(part).checkpoints
            if part in run.request.parts and isinstance(checkpoints, CheckpointStore):
                oldest = self.work.project.stream.slice_at(kept)
                checkpoints.drop_older(oldest, released_checkpoints(self.work, run.declared))

    def _needed_by_pending(self, run: StudentRun, index: int) -> int:
        """The oldest slice whose weights an evaluation up to slice ``index`` needs that is not stored as it would be.

        An evaluation may come long after the training: it waits for labels, was not asked for, or was made of
        checkpoints that have been trained anew since. Those are told from the newest slice down to the first that is
        up to date.
        """
        stream = self.work.project.stream
        judged = {slice_.index for slice_ in self.work.evaluations(run.declared.name).stored(stream)}
        pending = {back for back in range(index + 1) if back not in judged}
        back = index
        while back >= 0 and (back in pending or self._is_outdated(run, back)):
            pending.add(back)
            back -= 1
        served = [run.served_at(back) for back in sorted(pending)]
        return min((at for at in served if at >= 0), default=index)  # nobody's weights are needed below 0

    def _is_outdated(self, run: StudentRun, index: int) -> bool:
        """Was the slice judged by other checkpoints than those that served it by now?"""
        table, slice_ = self.work.evaluations(run.declared.name), self.work.project.stream.slice_at(index)
        if not table.sound(slice_):
            return True
        rows = table.read([slice_], columns=["model", "checkpoint"])
        by = dict(rows.filter(pl.col("model").is_in([STUDENT, CONTROL])).iter_rows())
        served = run.served_at(index)
        at = None if served < 0 else self.work.project.stream.slice_at(served)
        now = {} if at is None else {name: _version_at(run, name, at) for name in run.served}
        return bool(by != now)

    def weights_needed(self, run: StudentRun, slices: Sequence[Slice]) -> dict[str, frozenset[int]]:
        """By part, which stored checkpoints are trained again: looked up before the walk, for it never turns back.

        Raises:
            DataError: if that takes slices or assets that were not asked for.
        """
        student, parts = run.declared, run.request.parts
        indices = [slice_.index for slice_ in slices]
        after = indices[-1] + 1
        new = {CONTROL: after, STUDENT: after}
        try:
            if CONTROL in parts:
                new[CONTROL] = first_new(run.control, partial(self.data, run, is_taught=False), indices)
            # A lead-aware student is made of its control, too: where that is new, so is the student one slice later.
            looked_at = [index for index in indices if student.lead is None or index <= new[CONTROL]]
            if STUDENT in parts and looked_at:
                new[STUDENT] = first_new(run.student, partial(self.data, run, is_taught=student.is_taught), looked_at)
            unjudged = self._first_unjudged(run, indices, min(new.values())) if EVALUATION in parts else after
        except (DataError, CheckpointError):
            return {}  # the walk itself says what is missing, where it is missed
        judging = run.served_at(unjudged) if unjudged < after else after
        needed = {part: min(new[part] - 1, judging) for part in new}
        if student.lead is not None:
            needed[CONTROL] = min(needed[CONTROL], new[STUDENT] - 1)
        asset = f"student/{student.name}"
        return {
            part: again(run.model(part), new[part], needed[part], indices, None if part in parts else asset)
            for part in new
        }

    def _first_unjudged(self, run: StudentRun, indices: Sequence[int], new: int) -> int:
        """The first slice whose evaluation is not stored as it would now be; one after the last if all are."""
        for index in indices:
            served = run.served_at(index)
            if served < 0:
                continue  # nobody's weights are needed
            slice_ = self.work.project.stream.slice_at(index)
            if served >= new:
                return index
            if self.evaluated(run, slice_, self.made_of(run, slice_, run.judged(served))) is None:
                return index
        return indices[-1] + 1


def _version_at(run: StudentRun, name: str, slice_: Slice) -> str | None:
    checkpoints = run.served[name].checkpoints
    return checkpoints.version_at(slice_) if isinstance(checkpoints, CheckpointStore) else None


def _candidate_at(run: StudentRun, index: int, look_back: int) -> int:
    """The slice whose checkpoint the gate judges once slice ``index`` is trained on: by the labelled rows since."""
    gate, rows, slices = run.declared.gate, 0, 0
    stream, checkpoints = run.student.stream, run.student.checkpoints
    for at in range(index, max(index - look_back, 0), -1):
        labelled = checkpoints.rows_at(stream.slice_at(at))
        rows, slices = rows + labelled, slices + (labelled > 0)
        if rows >= gate.judged_rows and slices >= gate.slices:
            return at - 1
    return max(index - look_back, 0)


def _both_at(run: StudentRun, index: int) -> int:
    """The newest slice up to ``index`` that the one that is behind has reached, student or control.

    Where the other went ahead alone, its weights from there on are needed yet: to measure a lead, and to be judged.
    """
    reached = index
    for model in run.served.values():
        while reached >= 0 and not model.has(reached):
            reached -= 1
    return max(reached, 0)
