"""Slices of several parts are learnt from row by row as if they were one, but for the order."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from models.batch import SliceTensors
from models.learner import Learner
from models.members import FitReport
from models.state import learner_state
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.specs import member_of
from pipeline.slices import slice_inputs
from pipeline.slices.predictions import files_of
from pipeline.slices.slice_inputs import SliceInputs, teachers_columns
from pipeline.training.student_run import CONTROL, STUDENT, StudentRequest
from pipeline.training.student_walk import walk_students
from pipeline.training.teacher_walk import walk_teacher
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.parted import (
    PART,
    Killed,
    learnt,
    same_bits,
    slices_of,
    stores,
    untrained,
    walked,
)
from tests.graph.runs import left_by


def test_a_slice_of_one_part_is_learnt_from_as_ever(ran: Ran, tmp_path: Path) -> None:
    """Bit for bit what the main job learnt, whatever ``part_rows`` is beyond the rows."""
    most = max(ran.work.table("labels").rows(slice_) for slice_ in slices_of(ran.work))
    work = untrained(ran, tmp_path, most)
    walked(work, first=5)
    assert same_bits(learnt(work, -1), learnt(ran.work, -1))
    teacher = work.project.teachers[0]
    for slice_ in slices_of(work)[1:]:
        mine, theirs = (
            pl.read_parquet(files_of(each, teacher, slice_)[-1], columns=["impression_id", "click_logit"], glob=False)
            for each in (work, ran.work)
        )
        assert mine.equals(theirs)


def test_a_slice_of_one_part_is_one_fit_in_the_order_of_its_key(ran: Ran) -> None:
    """So checkpoints of earlier versions go on as they began."""
    project, teacher = ran.work.project, ran.work.project.teachers[0]
    by_hand = Learner([member_of(project, teacher)], teacher.training, "cpu")
    for slice_ in slices_of(ran.work)[:3]:
        (whole,) = SliceInputs(ran.work, slice_, "cpu", True, teachers_columns(project)).parts()
        by_hand.fit(whole, slice_.key)
    assert same_bits([learner_state(by_hand, 0)], learnt(ran.work)[:1])


@pytest.fixture(scope="module")
def parted(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """All models after a walk over slices of several parts; look, don't touch."""
    work = untrained(ran, tmp_path_factory.mktemp("parted"), PART)
    walked(work)
    return work


def test_every_labelled_row_is_learnt_from_once(
    ran: Ran, parted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, SliceTensors]] = []
    fit = Learner.fit

    def watched(self: Learner, tensors: SliceTensors, order_seed: str, *given: Any) -> FitReport:
        assert tensors.begins == ("/" not in order_seed)
        seen.append((order_seed, tensors))
        return fit(self, tensors, order_seed, *given)

    monkeypatch.setattr(Learner, "fit", watched)
    work = untrained(ran, tmp_path, PART)
    teacher, slices = work.project.teachers[0], slices_of(work)[:3]
    visits = list(walk_teacher(work, teacher, slices, score=True, train=True, run_id="", device="cpu"))
    for slice_, visit in zip(slices, visits, strict=True):
        (whole,) = SliceInputs(ran.work, slice_, "cpu", True, teachers_columns(work.project)).parts()
        mine = [(seed, tensors) for seed, tensors in seen if seed.partition("/")[0] == slice_.key]
        expected = [slice_.key, *(f"{slice_.key}/{part}" for part in range(1, -(-len(whole) // PART)))]
        assert [seed for seed, _ in mine] == expected
        assert torch.equal(torch.cat([tensors.ids for _, tensors in mine]), whole.ids)
        assert visit.trained is not None and visit.trained.fit is not None
        labelled = int(whole.labels.isfinite().any(dim=1).sum())
        assert visit.trained.fit.rows == labelled > 0
        batch = teacher.training.batch_size
        steps = sum(-(-int(tensors.labels.isfinite().any(dim=1).sum()) // batch) for _, tensors in mine)
        assert visit.trained.fit.steps == steps
    for mine_, theirs in zip(stores(parted), stores(ran.work), strict=True):
        for slice_ in slices:
            assert mine_.manifest(slice_).rows == theirs.manifest(slice_).rows
            assert mine_.manifest(slice_).trained_until == theirs.manifest(slice_).trained_until


@pytest.mark.parametrize("fits", [6, 19])
def test_a_walk_that_was_stopped_between_parts_ends_in_the_same_bits(
    ran: Ran, parted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    """Within the teacher's second slice, then within one of the students'."""
    work, done, fit = untrained(ran, tmp_path, PART), [0], Learner.fit

    def stopped(self: Learner, *given: Any) -> FitReport:
        done[0] += 1
        if done[0] == fits:
            raise Killed
        return fit(self, *given)

    monkeypatch.setattr(Learner, "fit", stopped)
    with pytest.raises(Killed):
        walked(work)
    monkeypatch.setattr(Learner, "fit", fit)
    walked(work)
    assert same_bits(learnt(work), learnt(parted))
    assert left_by(work) == left_by(parted)


def test_a_student_learns_alone_what_it_learns_beside_its_control(ran: Ran, tmp_path: Path) -> None:
    states = []
    for parts in ({STUDENT}, {STUDENT, CONTROL}):
        work = untrained(ran, tmp_path / "-".join(sorted(parts)), PART, predicted=True)
        declared = work.project.student("feed_click")
        student = replace(declared, training=replace(declared.training, batch_size=16))  # several steps a part
        work = Workspace(replace(work.project, students=(student,)), work.state)
        slices = slices_of(work)[:2]
        visits = list(walk_students(work, [StudentRequest(student, frozenset(parts))], slices, device="cpu"))
        assert all(visit.failed is None for visit in visits)
        learner, _ = CheckpointStore.of(work, student).load(slices[-1], "cpu")
        states.append(learner_state(learner, 0))
    alone, beside = states
    for name, value in alone.items():
        torch.testing.assert_close(value, beside[name], rtol=1e-3, atol=1e-5)


def test_a_part_without_labels_ends_nothing(ran: Ran, tmp_path: Path) -> None:
    work = untrained(ran, tmp_path, PART)
    slice_, tasks = slices_of(work)[0], work.project.stream.task_names
    labels = work.table("labels").read([slice_]).with_row_index("row")
    known = labels.with_columns(pl.when(pl.col("row") >= PART).then(pl.col(task)).alias(task) for task in tasks)
    work.table("labels").write(slice_, known.drop("row"))
    teacher = work.project.teachers[0]
    (visit,) = walk_teacher(work, teacher, [slice_], score=False, train=True, run_id="", device="cpu")
    assert visit.trained is not None and visit.trained.fit is not None
    assert visit.trained.fit.rows == labels.height - PART and visit.trained.fit.loss is not None


def test_two_parts_at_most_are_in_memory(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, held = untrained(ran, tmp_path, PART), list[weakref.ref]()
    most = [0]
    encode = slice_inputs.slice_tensors

    def watched(*given: Any) -> SliceTensors:
        tensors = encode(*given)
        held.append(weakref.ref(tensors.ids))
        return tensors

    def counting(method: Any) -> Any:
        def counted(*given: Any, **named: Any) -> Any:
            most[0] = max(most[0], sum(tensors() is not None for tensors in held))
            return method(*given, **named)

        return counted

    monkeypatch.setattr(slice_inputs, "slice_tensors", watched)
    for name in ("fit", "predict"):
        monkeypatch.setattr(Learner, name, counting(getattr(Learner, name)))
    walked(work)
    assert len(held) > 20 and most[0] == 2


def test_reports_of_parts_are_one() -> None:
    parts = [
        FitReport(100, 2, (80, 20), (0.5, 1.0), 1.0),
        FitReport(0, 0, (0, 0), (None, None), 0.5),
        FitReport(300, 6, (300, 0), (0.1, 0.2), 2.0),
    ]
    assert FitReport.of_parts(parts[:1]) is parts[0]
    both = FitReport.of_parts(parts)
    assert (both.rows, both.steps, both.labelled, both.seconds) == (400, 8, (380, 20), 3.5)
    assert both.losses == pytest.approx((0.2, 0.4))
    assert FitReport.of_parts(parts[1:2] * 2).losses == (None, None)
    broken = FitReport.of_parts([parts[0], replace(parts[2], losses=(float("nan"), 0.2))])
    assert broken.of(0).error is not None and broken.of(1).error is None
