"""Of more rows than are judged at once users are drawn, each with all its rows."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from exfm import Gate
from pipeline.gate import scoring, succession
from pipeline.gate.candidate import labelled_rows
from pipeline.gate.drawing import drawn
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.judging import judge
from pipeline.gate.scoring import Scored, score_slices
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.parted import in_parts, slices_of
from tests.tiny import tiny_workspace

MOST = 250


def scored(ran: Ran, work: Workspace, surface: str | None, judged_rows: int = 1) -> Scored:
    declared = work.project.student("feed_click")
    student = replace(declared, surface=surface, gate=Gate(judged_rows=judged_rows))
    learner, _ = CheckpointStore.of(ran.work, declared).load(slices_of(work)[2], "cpu")
    return score_slices(JudgedRows(work, "cpu"), student, slices_of(work)[3:], {"student": learner})


def row_of(scored: Scored) -> pl.DataFrame:
    return scored.shown.with_columns(label=scored.labels, logit=scored.logits["student"])


@pytest.mark.parametrize("part_rows", [None, 100])
@pytest.mark.parametrize("surface", ["feed", None])
def test_drawn_rows_are_all_those_of_some_users_scored_as_ever(
    ran: Ran, surface: str | None, part_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ran.work if part_rows is None else in_parts(ran.work, part_rows)
    every = row_of(scored(ran, work, surface))
    monkeypatch.setattr(scoring, "MOST_ROWS", MOST)
    found = scored(ran, work, surface)
    some, user = row_of(found), work.project.stream.user.name
    assert found.of == every.height and MOST / 2 < some.height < min(2 * MOST, every.height)
    expected = every.filter(pl.col(user).is_in(some[user].unique().implode()))
    exact = [column for column in every.columns if column != "logit"]
    assert some.select(exact).equals(expected.select(exact))  # in their order
    np.testing.assert_allclose(some["logit"], expected["logit"], rtol=1e-5, atol=1e-6)
    assert (
        scored(ran, work, surface, judged_rows=10**6).of
        == every.height
        == len(scored(ran, work, surface, 10**6).labels)
    )


def test_the_verdict_says_that_users_were_drawn_and_whether_it_may_be_trusted(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    student = replace(work.project.students[0], gate=Gate(judged_rows=1, rows=1))
    shutil.rmtree(work.state.release(student.name))
    verdict = judge(work, student, "cpu")
    assert "drawn" not in verdict.reason
    monkeypatch.setattr(scoring, "MOST_ROWS", MOST)
    shutil.rmtree(work.state.release(student.name))
    less = judge(work, student, "cpu")
    assert 0 < less.rows < verdict.rows
    assert f"judged on {less.rows:,} rows" in less.reason
    assert f"users drawn by chance from those of {verdict.rows:,} rows" in less.reason
    assert less.compared[0].low <= verdict.compared[0].difference <= less.compared[0].high


def users(values: list[Any], dtype: Any) -> pl.DataFrame:
    ids = pl.int_range(len(values), dtype=pl.Int64, eager=True).alias("impression_id")
    return pl.DataFrame([ids, pl.Series("user", values, dtype=dtype)])


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_the_draw_is_by_user_and_of_no_user_by_row(dtype: Any) -> None:
    named = users([str(user) if dtype == pl.String else user for user in range(20_000)], dtype)
    assert drawn(named, "user", 0.25).mean() == pytest.approx(0.25, abs=0.01)
    again = pl.concat([named.tail(500), named.head(500)])
    assert np.array_equal(
        drawn(again, "user", 0.25), np.r_[drawn(named, "user", 0.25)[-500:], drawn(named, "user", 0.25)[:500]]
    )
    assert not (drawn(named, "user", 0.1) & ~drawn(named, "user", 0.25)).any()
    assert drawn(users([None] * 20_000, dtype), "user", 0.25).mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("part_rows", [100, None])
def test_teachers_are_compared_on_all_rows_of_some_users(ran: Ran, part_rows: int | None) -> None:
    work = ran.work if part_rows is None else in_parts(ran.work, part_rows)
    teacher, slice_ = work.project.teachers[0], slices_of(work)[2]
    every, some = (succession._rows(work, teacher, teacher, slice_, share) for share in (1.0, 0.3))
    assert 0 < some.height < 0.6 * every.height
    expected = every.filter(pl.col("user").is_in(some["user"].unique().implode()))
    assert some.sort("impression_id").equals(expected.sort("impression_id"))


@pytest.mark.parametrize("part_rows", [7, 10**6])
def test_labelled_rows_are_counted_part_by_part(ran: Ran, part_rows: int) -> None:
    work = in_parts(ran.work, part_rows)
    slice_ = slices_of(work)[2]
    for student in work.project.students:
        labels = work.table("labels").read([slice_])[student.task].is_not_null()
        mine = work.table("impressions").read([slice_])["surface"] == student.surface
        expected = labels if student.surface is None else labels & mine
        assert labelled_rows(work, student, slice_) == expected.sum()
