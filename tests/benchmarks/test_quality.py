"""The quality benchmark: its teacher features are the graph's, its sums are what they say, a planted gain is found."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.quality import holm, one_seed, p_value, summary
from benchmarks.quality_arms import METHODS, TEACHER, questions, with_teacher_features
from benchmarks.quality_tables import markdown
from pipeline.slices.slice_inputs import students_columns, teachers_columns
from pipeline.studies.replay import Replay, teach
from tests.conftest import Ran
from tests.whole import tensors_of


@pytest.mark.slow
def test_teacher_features_of_a_replay_are_those_that_the_graph_stored(ran: Ran, tmp_path: Path) -> None:
    project = ran.work.project
    replay = Replay.of(ran.work, "cpu", teachers_columns(project))
    stored = Replay.of(ran.work, "cpu", students_columns(project))
    teacher = project.teachers[0]
    predictions = teach(replay, teacher, [teacher.lag])[teacher.lag]
    mine = with_teacher_features(replay, {teacher.name: predictions}, tmp_path)
    known = 0
    for index in range(len(replay)):
        ours, theirs = tensors_of(mine.inputs[index]), tensors_of(stored.inputs[index])
        for name in project.teacher_feature_columns.features:
            computed = ours.numbers[:, ours.number_names.index(name)]
            other = theirs.numbers[:, theirs.number_names.index(name)]
            # Joined by Feast, as those of the graph.
            assert torch.equal(computed.nan_to_num(-1.0), other.nan_to_num(-1.0))
            known += int((computed.isfinite() & (computed != 0)).sum())
    assert known > 1_000


@pytest.mark.slow
def test_a_seed_answers_every_question_for_every_method(ran: Ran) -> None:
    replay = Replay.of(ran.work, "cpu", teachers_columns(ran.work.project))
    table = one_seed(replay, 0)
    compared = list(questions(ran.work.project))
    assert {question.inputs for question in compared} == {"fewer", "same"}
    result = summary(table.filter(part="methods"), len(replay), "none")
    assert result.height == len(compared) * (len(METHODS) + 2)  # with the teacher and the best
    control = result.filter(pl.col("model") == "none")
    assert (control["gain"] == 0).all()
    teacher_rows = result.filter(pl.col("model") == TEACHER)
    assert all(value == pytest.approx(1.0) or np.isnan(value) for value in teacher_rows["transfer"])


def test_a_gain_is_over_the_own_control_and_in_all_over_the_plain_one() -> None:
    ne = {(False, "none"): 0.90, (False, "AH"): 0.88, (False, TEACHER): 0.80,
          (True, "none"): 0.86, (True, "AH"): 0.85, (True, TEACHER): 0.80}  # fmt: skip
    rows = [
        {"part": "methods", "seed": seed, "surface": "1", "task": "click", "inputs": "fewer", "second": second,
         "slice": f"s{index}", "place": index, "model": model, "ne": value + 0.001 * seed * (model == "AH"),
         "auc": 0.7, "calibration": 1.0}
        for (second, model), value in ne.items() for seed in range(3) for index in range(4)
    ]  # fmt: skip
    result = summary(pl.DataFrame(rows), 4, "none")
    both = result.filter(pl.col("second"), pl.col("model") == "AH").row(0, named=True)
    assert both["slices"] == 2 and both["seeds"] == 3
    assert both["gain"] == pytest.approx((0.86 - 0.851) / 0.86)
    assert both["gain_total"] == pytest.approx((0.90 - 0.851) / 0.90)
    assert both["transfer"] == pytest.approx((0.90 - 0.851) / (0.90 - 0.80))
    assert both["p"] < 0.05 and both["p_total"] < 0.05 and both["holds"]


def test_significance_is_a_paired_t_test() -> None:
    assert p_value(np.array([0.01, 0.012, 0.009, 0.011, 0.01])) < 0.001
    assert p_value(np.array([0.01, -0.012, 0.009, -0.011, 0.002])) > 0.5
    assert p_value(np.zeros(5)) == 1
    assert p_value(np.array([0.5])) == 1


def test_among_many_questions_a_lucky_one_does_not_hold() -> None:
    assert holm([0.04]) == [True]
    assert holm([0.5, 0.04, 0.3, 0.6]) == [False] * 4  # one of four at .04 is what chance gives
    assert holm([0.04, 0.001, 0.013, 0.03]) == [False, True, True, False]  # .05/4, .05/3, then .03 is above .05/2
    draws = np.random.default_rng(0)
    wrong = [any(holm(list(draws.uniform(size=16)))) for _ in range(4_000)]
    assert 0.035 < np.mean(wrong) < 0.065  # of 16 questions without any effect, in 5 % of cases one is starred


def test_the_short_table_says_gain_star_and_transfer() -> None:
    ne = {"none": 0.90, "AH": 0.88, TEACHER: 0.80}
    rows = [
        {"part": "methods", "seed": seed, "surface": "1", "task": "click", "inputs": "fewer", "second": False,
         "slice": f"s{index}", "place": index, "model": model, "ne": value + 0.0001 * seed * (model == "AH"),
         "auc": 0.7, "calibration": 1.0}
        for model, value in ne.items() for seed in range(3) for index in range(4)
    ]  # fmt: skip
    lines = list(markdown(summary(pl.DataFrame(rows), 4, "none")))
    assert lines[1] == "| | click, 1 |"
    assert lines[3:] == ["| none | NE 0.9000 |", "| AH | +2.21** [0.20] |", "| teacher | +11.11 |"]
