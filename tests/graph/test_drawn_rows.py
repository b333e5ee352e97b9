"""Of more rows than are judged at once some are drawn, and what is judged is as of all but for its noise."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm import Gate
from pipeline.gate import scoring, succession
from pipeline.gate.candidate import labelled_rows
from pipeline.gate.drawing import drawn
from pipeline.gate.judged_rows import Distinct, JudgedRows
from pipeline.gate.judging import judge
from pipeline.gate.scoring import Scored, score_slices
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.parted import in_parts, slices_of
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_workspace

MOST = 250


def scored(ran: Ran, work: Workspace, surface: str | None, judged_rows: int = 1) -> Scored:
    declared = work.project.student("feed_click")
    student = replace(declared, surface=surface, gate=Gate(judged_rows=judged_rows))
    learner, _ = CheckpointStore.of(ran.work, declared).load(slices_of(work)[2], "cpu")
    return score_slices(JudgedRows(work, "cpu"), student, slices_of(work)[3:], {"student": learner})


def rows_of(scored: Scored) -> pl.DataFrame:
    return scored.shown.with_columns(label=scored.labels, logit=scored.logits["student"])


def labelled_ids(work: Workspace, surface: str | None) -> pl.Series:
    shown = work.table("impressions").read(slices_of(work)[3:], columns=["impression_id", "surface"])
    labels = work.table("labels").read(slices_of(work)[3:], columns=["impression_id", "click"])
    both = shown.join(labels, on="impression_id", maintain_order="left").drop_nulls("click")
    return both.filter(surface is None or pl.col("surface") == surface)["impression_id"]


@pytest.mark.parametrize("part_rows", [None, 100])
@pytest.mark.parametrize("surface", ["feed", None])
def test_drawn_rows_are_scored_as_ever(
    ran: Ran, surface: str | None, part_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ran.work if part_rows is None else in_parts(ran.work, part_rows)
    every = rows_of(scored(ran, work, surface))
    monkeypatch.setattr(scoring, "MOST_ROWS", MOST)
    found = scored(ran, work, surface)
    some, share = rows_of(found), MOST / every.height
    assert found.of == every.height and found.share == some.height / every.height == pytest.approx(share, rel=0.25)
    expected = every.filter(pl.Series(drawn(labelled_ids(work, surface), share)))
    exact = [column for column in every.columns if column != "logit"]
    assert some.select(exact).equals(expected.select(exact))  # in their order
    np.testing.assert_allclose(some["logit"], expected["logit"], rtol=1e-5, atol=1e-6)
    asked_for = scored(ran, work, surface, judged_rows=10**6)
    assert asked_for.of == len(asked_for.labels) == every.height and not asked_for.said


def test_the_verdict_says_that_rows_were_drawn_and_is_as_of_all(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    student = replace(work.project.students[0], surface=None, gate=Gate(judged_rows=100, rows=1))
    work = replace(work, project=replace(work.project, students=(student, *work.project.students[1:])))
    select = f'key:"student/{student.name}/checkpoint" or key:"student/{student.name}/control"'
    assert run(work, FIRST, LAST, select=select).success

    def verdict() -> tuple[int, dict[str, float], str, float, float, float]:
        shutil.rmtree(work.state.release(student.name), ignore_errors=True)
        found = judge(work, student, "cpu")
        parts = {compared.where: compared.rows for compared in found.compared}
        whole = found.compared[0]
        return found.rows, parts, found.reason, whole.difference, whole.low, whole.high

    rows, parts, reason, difference, _, _ = verdict()
    assert "drawn" not in reason
    monkeypatch.setattr(scoring, "MOST_ROWS", MOST)
    monkeypatch.setattr(scoring, "LEAST_DRAWN", 10)
    fewer, judged_apart, reason, _, low, high = verdict()
    assert fewer == pytest.approx(MOST, rel=0.25) and rows > 2 * MOST
    assert f"judged on {fewer:,} rows" in reason and f"drawn by chance from {rows:,} rows" in reason
    assert low <= difference <= high
    assert judged_apart.keys() == parts.keys() > {"all"}  # a surface is judged by how many rows it has, not how many of
    assert min(judged_apart.values()) < 100 < min(parts.values())  # them were drawn


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_a_share_of_the_rows_is_drawn_the_same_ones_wherever_they_stand(dtype: pl.DataType) -> None:
    ids = pl.int_range(20_000, dtype=pl.Int64, eager=True).cast(dtype)
    quarter = drawn(ids, 0.25)
    assert quarter.mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(drawn(ids.reverse(), 0.25), quarter[::-1])
    assert not (drawn(ids, 0.1) & ~quarter).any()
    assert drawn(ids, 1 - 1e-9).all() and not len(drawn(ids[:0], 0.5))


@pytest.mark.parametrize("part_rows", [100, None])
def test_teachers_are_compared_on_a_share_of_the_labelled_rows(
    ran: Ran, part_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ran.work if part_rows is None else in_parts(ran.work, part_rows)
    teacher, slice_ = work.project.teachers[0], slices_of(work)[2]
    every, some = (succession._rows(work, teacher, teacher, slice_, share) for share in (1.0, 0.3))
    labels = work.table("labels").read([slice_], columns=list(teacher.tasks))
    assert every.height == labels.filter(pl.any_horizontal(pl.all().is_not_null())).height
    assert every.select("user").null_count().item() == 0 and every["click old"].equals(every["click new"])
    assert some.height == pytest.approx(0.3 * every.height, rel=0.25)
    assert some.equals(every.filter(pl.Series(drawn(every["impression_id"], 0.3))))
    monkeypatch.setattr(succession, "MOST_ROWS", 100)
    declared = succession.Succession(teacher=teacher.name, rows=1)
    assert succession._share(work, declared, [slice_]) == pytest.approx(100 / every.height)
    assert succession._share(work, replace(declared, rows=10**6), [slice_]) == 1


@pytest.mark.parametrize("part_rows", [7, 10**6])
def test_labelled_rows_are_counted_part_by_part(ran: Ran, part_rows: int) -> None:
    work = in_parts(ran.work, part_rows)
    slice_ = slices_of(work)[2]
    for student in work.project.students:
        labels = work.table("labels").read([slice_])[student.task].is_not_null()
        mine = work.table("impressions").read([slice_])["surface"] == student.surface
        expected = labels if student.surface is None else labels & mine
        assert labelled_rows(work, student, slice_) == expected.sum()


def test_a_part_of_many_rows_is_judged_apart_on_those_that_are_drawn_but_not_on_a_handful() -> None:
    def least(share: float, judged_rows: int) -> float:
        nothing = np.zeros(round(1e6 * share), dtype=np.float32)
        return Scored(nothing, {}, pl.DataFrame(), "", "", of=10**6).least(judged_rows)

    assert least(1.0, 1000) == 1000 and least(0.5, 1000) == 500
    assert least(0.04, 1000) == 300 and least(0.04, 100) == 100 and least(0.04, 10**5) == 4000


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_what_was_seen_before_is_distinct_whatever_the_parts(rows: int) -> None:
    values = pl.Series("user", [*range(50), None, *range(25), 99, 99] * 3)
    distinct, most = Distinct(), 0
    for part in values.to_frame().iter_slices(rows):
        distinct.add(part["user"])
        most = max(most, sum(map(len, distinct._parts)))
    assert set(distinct.values()) == set(values) and len(distinct.values()) == 52
    assert most <= 2 * 52
