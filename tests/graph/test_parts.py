"""Slices of several parts are read, scored and judged as if they were one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.evaluation.groups import Numbering, groups_of
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.scoring import score_slices
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.predictions import Scorer, files_of, store_predictions
from pipeline.slices.scores import scores_of
from pipeline.slices.slice_inputs import SliceInputs, read_ahead, students_columns, teachers_columns
from pipeline.slices.supervised_slice import EVERY
from pipeline.studies.replay import Replay, teach
from pipeline.tables import UnsettledError
from pipeline.training.student_walk import stored_truth
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.parted import PART, Killed, in_parts, slices_of, supervised, untrained
from tests.tiny import tiny_workspace


@pytest.mark.parametrize("rows", [pytest.param(100, marks=pytest.mark.slow), PART])
def test_of_a_slice_nothing_depends_on_its_parts_but_the_order_of_learning(ran: Ran, rows: int) -> None:
    slice_, student = slices_of(ran.work)[3], ran.work.project.student("feed_convert")
    whole, cut = supervised(ran.work, slice_), supervised(in_parts(ran.work, rows), slice_)
    assert whole.inputs.is_whole and not cut.inputs.is_whole
    learner, _ = CheckpointStore.of(ran.work, student).load(slices_of(ran.work)[2], "cpu")
    for name in (EVERY, str(student.surface)):
        for given in ((), student.teachers):
            (mine,), theirs = whole.parts(name, given), list(cut.parts(name, given))
            assert len(theirs) == -(-whole.inputs.rows // rows)
            for field in ("ids", "numbers", "labels"):
                both = torch.cat([getattr(part, field) for part in theirs])
                assert torch.equal(getattr(mine, field).nan_to_num(-1.0), both.nan_to_num(-1.0)), field
            for teacher in given:
                for of in ("teachers", "staleness"):
                    both = torch.cat([getattr(part, of)[teacher] for part in theirs])
                    assert torch.equal(getattr(mine, of)[teacher].nan_to_num(-1.0), both.nan_to_num(-1.0)), of
        for task in ran.work.project.stream.task_names:
            np.testing.assert_array_equal(whole.labels(task, name), cut.labels(task, name))
        assert np.array_equal(whole.rows_of(name), cut.rows_of(name)) and whole.newest(name) == cut.newest(name)
        assert whole.labelled(["convert"], name) == cut.labelled(["convert"], name)
        ours, others = (scores_of([learner], each.parts(name))[0] for each in (whole, cut))
        np.testing.assert_allclose(ours, others, rtol=1e-5, atol=1e-6)  # products of fewer rows round otherwise
    one, several = whole.supervision("large"), cut.supervision("large")
    np.testing.assert_array_equal(one.logits, several.logits)
    np.testing.assert_array_equal(one.staleness, several.staleness)
    assert np.isfinite(one.logits).any()
    assert (one.checkpoints, one.leaks, one.coverage) == (several.checkpoints, several.leaks, several.coverage)
    groups = [groups_of(each.inputs.work, slice_, each.inputs.shown()) for each in (whole, cut)]
    assert np.array_equal(groups[0].users, groups[1].users)  # type: ignore[arg-type]
    truth = [stored_truth(each.inputs.work, each.inputs, "click") for each in (whole, cut)]
    assert truth[0] is not None and np.array_equal(truth[0], truth[1])  # type: ignore[arg-type]


def test_a_gate_scores_the_same_rows(ran: Ran) -> None:
    student, slices = ran.work.project.student("feed_click"), slices_of(ran.work)
    learner, _ = CheckpointStore.of(ran.work, student).load(slices[2], "cpu")
    whole, cut = (
        score_slices(JudgedRows(work, "cpu"), student, slices[3:], {"student": learner})
        for work in (ran.work, in_parts(ran.work, 100))
    )
    assert np.array_equal(whole.labels, cut.labels) and whole.shown.equals(cut.shown)
    np.testing.assert_allclose(whole.logits["student"], cut.logits["student"], rtol=1e-5, atol=1e-6)


def test_labels_in_another_order_are_matched_by_impression(ran: Ran, tmp_path: Path) -> None:
    work, slice_ = untrained(ran, tmp_path, 100), slices_of(ran.work)[2]
    expected = supervised(work, slice_).labels("click", EVERY)
    groups = groups_of(work, slice_, supervised(work, slice_).inputs.shown()).users
    for name in ("labels", "impressions"):
        table = work.table(name)
        table.write(slice_, table.read([slice_]).tail(-1).reverse())
    found = supervised(work, slice_)
    np.testing.assert_array_equal(found.labels("click", EVERY)[1:], expected[1:])
    assert np.isfinite(expected[0]) and np.isnan(found.labels("click", EVERY)[0])
    users = groups_of(work, slice_, found.inputs.shown()).users
    assert users is not None and groups is not None and users[0] == -1
    assert len(np.unique(np.stack([users, groups])[:, 1:], axis=1).T) == len(np.unique(groups[1:]))


@pytest.mark.parametrize("change", [lambda f: f.reverse(), lambda f: f.tail(-1), lambda f: pl.concat([f, f.tail(1)])])
def test_teacher_features_of_other_impressions_are_refused(ran: Ran, tmp_path: Path, change: Any) -> None:
    work, slice_ = untrained(ran, tmp_path, 100), slices_of(ran.work)[2]
    table = work.table("logged_teacher_features")
    table.write(slice_, change(table.read([slice_])))
    inputs = SliceInputs(work, slice_, "cpu", True, students_columns(work.project))
    with pytest.raises(UnsettledError, match="has other impressions than logged_inputs"):
        list(inputs.parts())


def test_a_slice_is_read_while_the_one_before_is_worked_on(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = SliceInputs.begin

    def watched(self: SliceInputs) -> None:
        begun.append(self.slice.key)
        begin(self)

    monkeypatch.setattr(SliceInputs, "begin", watched)
    keys = [slice_.key for slice_ in slices_of(ran.work)]
    for rows, expected in ((None, keys[1:2] + keys[3:]), (PART, [])):  # of several parts, the next slice's are let be
        begun.clear()
        work = ran.work if rows is None else in_parts(ran.work, rows)
        columns = students_columns(work.project)
        for index, inputs in enumerate(read_ahead(work, slices_of(work), "cpu", columns, with_labels=True)):
            if index != 1:  # of which nothing is read
                assert sum(map(len, inputs.parts())) == inputs.rows
                assert sum(map(len, inputs.parts())) == inputs.rows
        assert begun == expected


def test_what_could_not_be_read_ahead_is_read_when_it_is_needed(ran: Ran, tmp_path: Path) -> None:
    work = untrained(ran, tmp_path, PART * 10)
    slices, late = slices_of(work)[:2], work.table("labels")
    kept = late.read([slices[1]])
    late.path(slices[1]).unlink()
    reading = read_ahead(work, slices, "cpu", students_columns(work.project), with_labels=True)
    inputs = next(reading)
    assert sum(map(len, inputs.parts())) and inputs.following is not None and inputs.following._begun is not None
    assert inputs.following._begun.exception() is not None
    late.write(slices[1], kept)
    assert sum(map(len, next(reading).parts())) == kept.height


def test_a_replay_goes_over_parts(ran: Ran) -> None:
    replays = [Replay.of(work, "cpu", teachers_columns(work.project)) for work in (ran.work, in_parts(ran.work, PART))]
    teacher = ran.work.project.teachers[0]
    whole, cut = (teach(replay, teacher, [1])[1] for replay in replays)
    assert whole.by_slice.keys() == cut.by_slice.keys()
    for index, mine in whole.by_slice.items():
        np.testing.assert_array_equal(mine.staleness, cut.by_slice[index].staleness)
        assert mine.logits.shape == cut.by_slice[index].logits.shape
        assert np.abs(mine.logits - cut.by_slice[index].logits).mean() < 0.5  # learnt in another order


def stored(work: Workspace, rows: int, parts: int, fails: int | None = None) -> Any:
    """Predictions of ``rows`` impressions, every seventh no number, given in parts of so many rows."""
    slice_, teacher = work.project.stream.slice_at(1), work.project.teachers[0]
    times = pl.datetime_range(slice_.start, slice_.end, timedelta(seconds=20), time_zone="UTC", eager=True).head(rows)
    impressions = pl.DataFrame({"impression_id": range(rows), "event_timestamp": times, "other": 1})
    logits = np.random.default_rng(0).normal(size=(rows, len(teacher.tasks))).astype(np.float32)
    logits[::7] = np.nan
    asked = [0]

    def given() -> Iterator[pl.DataFrame]:
        asked[0] += 1
        for index, part in enumerate(impressions.iter_slices(parts)):
            if asked[0] == 2 and index == fails:
                raise Killed
            yield part

    scorer = Scorer("a" * 12, slice_.start - timedelta(hours=1))
    put = store_predictions(work, teacher, slice_, given, logits, scorer, "b" * 12, "run", 1.0)
    return put, pl.read_parquet(put.path, glob=False), work.quarantine(teacher.view).read([slice_])


def test_predictions_and_leaks_are_written_part_by_part(ran: Ran, tmp_path: Path) -> None:
    now = slices_of(ran.work)[-1].end
    works = [replace(in_parts(tiny_workspace(tmp_path / str(rows)), rows), now=lambda: now) for rows in (1000, 100)]
    (one, kept, leaks), (several, kept_too, leaks_too) = (
        stored(work, 1000, work.project.stream.part_rows) for work in works
    )
    assert (one.rows, one.leaks) == (several.rows, several.leaks) == (857, 143)
    assert one.path.name == several.path.name
    assert kept.equals(kept_too) and leaks.equals(leaks_too)


def test_predictions_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    work = in_parts(tiny_workspace(tmp_path), 100)
    with pytest.raises(Killed):
        stored(work, 1000, 100, fails=7)
    assert files_of(work, work.project.teachers[0], work.project.stream.slice_at(1)) == []


@pytest.mark.parametrize("values", [["b", "a", None, "b", "c", "a"], [3, 1, None, 3, -5, 1], [None, None]])
def test_numbers_are_ranks_whatever_the_parts(values: list[Any]) -> None:
    series = pl.Series("user", values, dtype=pl.String if "a" in values else pl.Int64)
    expected = series.rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - 1
    for rows in (1, 2, 10):
        numbering = Numbering()
        for part in series.to_frame().iter_slices(rows):
            numbering.add(part["user"])
        assert np.array_equal(numbering.numbers(), expected)


def test_numbering_looks_values_up_a_few_times_however_many_parts_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    place = Numbering._place

    def counted(numbering: Numbering) -> None:
        looked_up.append(0 if numbering._known is None else numbering._known.height)
        place(numbering)

    monkeypatch.setattr(Numbering, "_place", counted)
    users, numbering = np.random.default_rng(0).integers(0, 2_000, 20_000), Numbering()
    for start in range(0, len(users), 10):
        numbering.add(pl.Series(users[start : start + 10]))
    assert np.array_equal(numbering.numbers(), np.unique(users, return_inverse=True)[1])
    assert sum(looked_up) < 2 * len(users)
