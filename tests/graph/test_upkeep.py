"""What is judged, and releases that are refused in a run."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from exfm.learning import Gate
from models.metrics import normalised_entropy
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.slice_metrics import Judged, evaluation_rows
from pipeline.evaluation.summary import summary
from pipeline.releases.release import current_release
from projects.simulated import PROJECT, STREAM
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_project, tiny_workspace

STUDENT = PROJECT.students[0]


def test_models_are_judged_on_the_rows_that_all_of_them_scored() -> None:
    labels = np.array([1, 0, 1, 0, np.nan], dtype=np.float32)
    student = Judged("student", np.array([2.0, -1.0, 0.5, 0.1, 3.0]), "a", None)
    teacher = Judged("teacher", np.array([1.0, -2.0, np.nan, -0.5, 1.0]), "b", None)
    rows = evaluation_rows(STUDENT, STREAM.slice_at(0), labels, [student, teacher], "e")
    assert rows["rows"].to_list() == [3, 3] and rows["positives"].to_list() == [1, 1]
    common = np.array([0, 1, 3])
    assert rows["ne"][0] == pytest.approx(normalised_entropy(student.logits[common], labels[common]))


@pytest.mark.slow
def test_a_refused_release_is_not_materialised_and_the_old_one_stays(tmp_path: Path) -> None:
    strict = tuple(replace(student, gate=Gate(tolerance=-0.9)) for student in tiny_project().students)
    work = tiny_workspace(tmp_path, tiny_project(students=strict))
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, FIRST, "2026-01-04", instance=instance)
    assert result.success  # a gate that refuses is an answer, not a failure
    assert "nothing serves" in (work.state.reports / "report.html").read_text()
    for student in work.project.students:
        assert current_release(work, student) is None
        key = dg.AssetKey(["student", student.name, "release"])
        assert instance.get_latest_materialization_event(key) is None
    open_gate = tiny_workspace(tmp_path, tiny_project())
    assert run(open_gate, FIRST, "2026-01-04", instance=instance).success
    before = [current_release(open_gate, student) for student in work.project.students]
    assert None not in before
    assert run(work, FIRST, "2026-01-04", select='key:"student/*/release"', instance=instance).success
    assert [current_release(work, student) for student in work.project.students] == before


def test_the_summary_averages_what_both_served(ran: Ran) -> None:
    rows = summary(ran.work)
    for row in rows.iter_rows(named=True):
        student = ran.work.project.student(row["student"])
        mine = evaluations_of(ran.work, student).filter(pl.col("ne").is_finite())
        served = mine.filter(pl.col("model") == "student")["slice"].to_list()
        mine = mine.filter(pl.col("slice").is_in(served))  # the teacher scored earlier ones too
        by_model = {m: mine.filter(pl.col("model") == m)["ne"].to_list() for m in ("student", "control", "teacher")}
        assert row["slices"] == len(by_model["student"]) == len(by_model["control"])
        weights = mine.filter(pl.col("model") == "student")["rows"].to_list()
        ne = {model: float(np.average(values, weights=weights)) for model, values in by_model.items()}
        assert row["ne_student"] == pytest.approx(ne["student"])
        assert row["gain"] == pytest.approx((ne["control"] - ne["student"]) / ne["control"])
        lead = ne["control"] - ne["teacher"]
        expected = None if lead <= 0 else pytest.approx((ne["control"] - ne["student"]) / lead)
        assert row["transfer_ratio"] == expected


@pytest.mark.long
@pytest.mark.slow
def test_a_release_of_what_is_served_already_does_not_look_fresh(tmp_path: Path) -> None:
    work, instance = tiny_workspace(tmp_path), dg.DagsterInstance.ephemeral()
    key = dg.AssetKey(["student", "feed_click", "release"])
    assert run(work, FIRST, "2026-01-04", instance=instance).success
    first = instance.get_latest_materialization_event(key)
    assert run(work, FIRST, "2026-01-04", select='key:"student/feed_click/release"', instance=instance).success
    assert instance.get_latest_materialization_event(key) == first
    assert run(work, LAST, LAST, instance=instance).success
    assert instance.get_latest_materialization_event(key) != first
