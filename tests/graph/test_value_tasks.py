"""A task whose label is a value up to a ceiling: the whole graph, from the log's column to metrics and Feast."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.log_columns import Task
from exfm.project import Project
from pipeline.releases.verdict import verdict_of
from pipeline.streams.contract import schema_of
from pipeline.streams.reader import read_log
from pipeline.streams.simulator import simulate
from pipeline.transforms.labels import join_labels, with_labelled
from pipeline.workspace import Workspace
from tests.graph.runs import failed_checks, run, sentences
from tests.streams.test_reader import START, impressions, write
from tests.tiny import tiny_project, tiny_workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("value_tasks"),
]  # what all of them begin with is made once

LAST, CEILING = "2026-01-04", 120.0


def watching() -> Project:
    """The tiny project, whose second task is how long an item was watched."""
    tiny = tiny_project()
    click, convert = tiny.stream.tasks
    tasks = (click, replace(convert, label="seconds", ceiling=CEILING))
    return replace(tiny, name="watching", stream=replace(tiny.stream, tasks=tasks))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = tiny_workspace(tmp_path_factory.mktemp("values"), watching())
    ran = run(made, last=LAST)
    assert ran.success and not failed_checks(ran), (sentences(ran), failed_checks(ran))
    return made


def test_labels_are_shares_of_the_ceiling(work: Workspace) -> None:
    slice_ = work.project.stream.slice_at(0)
    shown, labels = (work.table(name).read([slice_]).sort("impression_id") for name in ("impressions", "labels"))
    by_hand = [min(seconds, CEILING) / CEILING for seconds in shown["seconds"]]
    assert labels["convert"].dtype == pl.Float32 and labels["click"].dtype == pl.Int8
    assert labels["convert"].to_list() == pytest.approx(by_hand, rel=1e-6)
    assert sum(share == 1 for share in by_hand) > 5 and sum(0 < share < 1 for share in by_hand) > 20


def test_it_is_evaluated_in_its_own_terms(work: Workspace) -> None:
    (student,) = (each for each in work.project.students if each.task == "convert")
    evaluated = work.evaluations(student.name).read([work.project.stream.slice_at(2)])
    labels = work.table("labels").read([work.project.stream.slice_at(2)])
    shown = work.table("impressions").read([work.project.stream.slice_at(2)], columns=["impression_id", "surface"])
    mine = labels.join(shown.filter(surface=student.surface), on="impression_id")["convert"]
    spread = float(np.std(mine.to_numpy()))
    assert set(evaluated["model"]) == {"student", "control", "teacher", "best"}
    for row in evaluated.iter_rows(named=True):
        assert row["rows"] == mine.len() and row["positives"] == int(mine.sum())
        assert 0 < row["mae"] <= row["rmse"] and row["rmse"] == pytest.approx(spread, rel=0.5)
        assert np.isfinite([row["ne"], row["auc"], row["log_loss"], row["gauc"]]).all()


def test_the_simulators_truth_is_the_expected_share() -> None:
    project = watching()
    assert project.simulation is not None
    world = replace(project.simulation, impressions_per_day=100_000)
    drawn = simulate(world, project.stream, project.stream.slice_at(0))
    shares, expected = drawn.impressions["seconds"].clip(0, CEILING) / CEILING, drawn.truth["convert"]
    bound = 4 * float(np.std((shares - expected).to_numpy())) / np.sqrt(len(shares))
    assert shares.mean() == pytest.approx(expected.mean(), abs=bound) and bound < 0.1 * float(
        np.mean(expected.to_numpy())
    )


def test_the_gate_judges_it_and_feast_serves_the_teachers_opinion(work: Workspace) -> None:
    (student,) = (each for each in work.project.students if each.task == "convert")
    verdict = verdict_of(work, student)
    assert verdict.ne and verdict.calibration is not None
    shown = work.table("impressions").read([work.project.stream.slice_at(2)]).head(20)
    entities = shown.select("impression_id", "event_timestamp").to_pandas()
    read = work.store.get_historical_features(entities, ["teacher_large:convert_probability"]).to_df()
    assert read["convert_probability"].between(0, 1).all()


def test_what_is_no_value_is_quarantined_and_what_is_not_known_is_null(tmp_path: Path) -> None:
    stream = watching().stream
    write(tmp_path, impressions().with_columns(seconds=pl.Series([30.0, float("nan"), 240.0])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    nothing = pl.DataFrame(schema=schema_of(stream, "outcomes"))
    closed = join_labels(read.frame, nothing, stream, START + timedelta(days=9)).frame
    assert sorted(closed["convert"].to_list(), key=lambda share: share or 0) == [None, 0.25, 1.0]
    assert join_labels(read.frame, nothing, stream, START).frame["convert"].null_count() == 3
    told = with_labelled(stream, read.frame.lazy(), nothing.lazy()).collect()
    assert told["task"].to_list() == ["convert", "convert"]  # a view counts a value above 0
    write(tmp_path, impressions().with_columns(seconds=pl.Series([-1.0, float("inf"), 2.0])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    assert sorted(read.quarantine["reason"]) == ["seconds is below 0: -1.0", "seconds is infinite"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ceiling": 3.0}, r"^Task\(watch\)\.ceiling: 3\.0 has no value to compare with"),
        ({"ceiling": 0.0, "label": "seconds"}, r"^Task\(watch\)\.ceiling: 0\.0 is no positive number"),
        ({"ceiling": float("inf"), "label": "seconds"}, r"^Task\(watch\)\.ceiling: inf is not finite"),
        ({"ceiling": 3.0, "above": 1.0, "label": "seconds"}, r"^Task\(watch\)\.ceiling: 3\.0 beside above=1\.0"),
    ],
)
def test_what_can_not_be_meant_is_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        Task(name="watch", window=timedelta(hours=1), **given)  # type: ignore[arg-type]


def test_one_column_may_be_a_value_and_a_border(tmp_path: Path) -> None:
    tiny = tiny_project().stream
    click, convert = tiny.tasks
    tasks = (replace(click, label="seconds", above=100.0), replace(convert, label="seconds", ceiling=120.0))
    stream = replace(tiny, tasks=tasks)
    write(tmp_path, impressions().with_columns(seconds=pl.Series([30.0, 120.0, 240.0])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    nothing = pl.DataFrame(schema=schema_of(stream, "outcomes"))
    closed = join_labels(read.frame, nothing, stream, START + timedelta(days=9)).frame
    assert sorted(closed.select("click", "convert").rows()) == [(0, 0.25), (1, 1.0), (1, 1.0)]
