"""Which checkpoints count: those that have learnt enough to serve, and those that are the present ones."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.distillation import KnowledgeDistillation
from exfm.project import Project
from pipeline.evaluation.summary import summary
from pipeline.releases.verdict import verdict_of
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, run, sentences
from tests.tiny import tiny_project, tiny_workspace


def least(rows: int) -> Project:
    students = tuple(replace(student, gate=replace(student.gate, rows=rows)) for student in tiny_project().students)
    return tiny_project(students=students)


def judged_slices(work) -> dict[str, list[str]]:  # type: ignore[no-untyped-def]
    slices = {}
    for student in work.project.students:
        table = work.evaluations(student.name)
        frame = table.read(table.stored(work.project.stream))
        slices[student.name] = frame.filter(pl.col("model") == "student")["slice"].to_list()
    return slices


def test_a_checkpoint_of_too_few_labelled_rows_serves_nobody(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    first = judged_slices(ran.work)
    strict = tiny_workspace(tmp_path, least(900))  # about 500 rows a slice and surface
    assert run(strict, FIRST, LAST, select='key:"student/*" or group:"upkeep"').success
    later = judged_slices(strict)
    assert all(later[name] == first[name][1:] for name in later)
    assert summary(strict)["since"].to_list() == [later[name][0] for name in later]


@pytest.mark.slow
def test_a_log_whose_first_slice_is_empty_is_not_judged_by_an_untrained_network(tmp_path: Path) -> None:
    """An untrained network has an NE far above 1, which would stand in the mean of all slices."""
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, LAST, select='key:"simulated_log"').success
    for table in ("impressions", "outcomes", "interactions", "truth"):
        shutil.rmtree(work.state.log / table / f"day={FIRST}")
    (work.state.log / "impressions").mkdir(exist_ok=True)
    result = run(work, FIRST, LAST, select='not (group:"studies" or key:"simulated_log")')
    assert result.success, sentences(result)
    rows = summary(work)
    assert (rows["since"] == "2026-01-04").all()  # the second slice trained first, and serves two slices later
    assert (rows["ne_student"] < 1.05).all()


def test_headline_numbers_are_means_over_rows_with_their_error(ran: Ran) -> None:
    rows = summary(ran.work)
    for student in ran.work.project.students:
        table = ran.work.evaluations(student.name)
        frame = table.read(table.stored(ran.work.project.stream)).filter(pl.col("ne").is_finite())
        sides = [frame.filter(pl.col("model") == model).sort("slice") for model in ("student", "control")]
        weights = sides[0]["rows"].to_numpy()
        ne = [np.average(side["ne"].to_numpy(), weights=weights) for side in sides]
        mine = rows.row(by_predicate=pl.col("student") == student.name, named=True)
        assert mine["ne_student"] == pytest.approx(ne[0])
        assert mine["gain"] == pytest.approx((ne[1] - ne[0]) / ne[1])
        gains = []
        for left in range(len(weights)):
            kept = np.arange(len(weights)) != left
            s, c = (np.average(side["ne"].to_numpy()[kept], weights=weights[kept]) for side in sides)
            gains.append((c - s) / c)
        count = len(gains)
        assert mine["gain_error"] == pytest.approx(2 * np.sqrt((count - 1) * np.var(gains)))


def test_a_student_judged_by_another_declarations_checkpoints_is_not_released(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    first, second = tiny_project().students
    changed = tiny_workspace(
        tmp_path, tiny_project(students=(replace(first, distillation=KnowledgeDistillation()), second))
    )
    assert verdict_of(changed, second).passed
    select = f'key:"student/{first.name}/checkpoint" or key:"student/{first.name}/control"'
    assert run(changed, FIRST, LAST, select=select).success
    verdict = verdict_of(changed, changed.project.students[0])
    assert not verdict.passed and f"materialise student/{first.name}/* again" in verdict.reason
    assert run(changed, FIRST, LAST, select=f'key:"student/{first.name}/*"').success
    assert verdict_of(changed, changed.project.students[0]).passed
