"""A log whose negatives were sampled, with the weights that say so: models, figures and gates are of the whole."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.project import Project
from models.metrics import normalised_entropy, probabilities
from pipeline.gate.judging import judge
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.streams.reader import read_log
from pipeline.transforms.quarantine import count_reasons
from pipeline.workspace import Workspace
from tests.graph.runs import FIRST, LAST, failed_checks, run, sentences
from tests.streams.test_reader import DAY, START, impressions, write
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import shown_of, tensors_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("weighted_log"),
]  # what all of them begin with is made once

RATE = 0.3
REST = 'not (group:"studies" or key:"simulated_log")'


def project(weight: str | None, name: str) -> Project:
    tiny = tiny_project()
    return replace(tiny, name=name, stream=replace(tiny.stream, weight=weight))


def sampled(work: Workspace) -> None:
    """Keep impressions with an outcome, and so many of the others; ``weight`` says how many each stands for."""
    log, random = work.state.log, np.random.default_rng(5)
    happened = pl.concat([pl.read_parquet(path, glob=False) for path in log.glob("outcomes/*/*.parquet")])
    for path in sorted(log.glob("impressions/*/*.parquet")):
        shown = pl.read_parquet(path, glob=False)
        is_positive = shown["impression_id"].is_in(happened["impression_id"].unique().implode())
        kept = is_positive | pl.Series(random.uniform(size=shown.height) < RATE)
        weights = pl.when(is_positive).then(1.0).otherwise(1 / RATE)
        shown.with_columns(weight=weights).filter(kept).write_parquet(path)


def made(folder: Path, weight: str | None, name: str) -> Workspace:
    """Run on a sampled log, with the weight declared or not."""
    work = tiny_workspace(folder, project(None, name))
    assert run(work, FIRST, LAST, select='key:"simulated_log"').success
    sampled(work)
    work = tiny_workspace(folder, project(weight, name))
    ran = run(work, FIRST, LAST, select=REST)
    assert ran.success and not [check for check in failed_checks(ran) if "drift" not in check], sentences(ran)
    return work


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Workspace]:
    folder = tmp_path_factory.mktemp("weights")
    return made(folder, "weight", "weighted"), made(folder, None, "plain")


def test_models_are_calibrated_to_the_whole(both: tuple[Workspace, Workspace]) -> None:
    """By the simulator's true probabilities of all that was shown, of which the sample has far too many positives."""
    predicted, shown = {}, pl.DataFrame()
    for work in both:
        slice_, teacher = work.project.stream.slice_at(4), work.project.teachers[0]
        newest = max((work.state.predictions(teacher.name) / slice_.folder).glob("*.parquet"))
        shown = pl.read_parquet(newest, glob=False).select("impression_id", "click_probability")
        weights = work.table("impressions").read([slice_]).select("impression_id")
        predicted[work.project.name] = float(shown.join(weights, on="impression_id")["click_probability"].mean())  # type: ignore[arg-type]
    truth = pl.read_parquet(next(both[0].state.log.glob(f"truth/day={LAST}/*.parquet")), glob=False)
    of_shown = float(shown.join(truth, on="impression_id")["click"].mean())  # type: ignore[arg-type]
    assert predicted["weighted"] == pytest.approx(of_shown, rel=0.3)
    assert predicted["plain"] > 1.5 * of_shown


def test_figures_are_weighted(both: tuple[Workspace, Workspace]) -> None:
    work = both[0]
    student = work.project.students[0]
    labels = work.table("labels").read([work.project.stream.slice_at(3)])
    assert labels.columns[-1] == "weight" and set(labels["weight"].unique().round(3)) == {1.0, round(1 / RATE, 3)}
    shutil.rmtree(work.state.release(student.name))
    verdict = judge(work, student, "cpu")
    assert verdict.ne is not None and verdict.calibration is not None and verdict.slice is not None
    found: dict[str, list[np.ndarray]] = {"labels": [], "weights": [], "student": [], "control": []}
    for key in verdict.slices:
        slice_ = work.project.stream.slice_of(key)
        inputs = SliceInputs(work, slice_, "cpu", with_labels=True, columns=students_columns(work.project, [student]))
        of_labels = tensors_of(inputs).labels[:, tensors_of(inputs).task_names.index(student.task)].numpy()
        mine = (shown_of(inputs)["surface"] == student.surface).to_numpy() & np.isfinite(of_labels)
        found["labels"].append(of_labels[mine])
        found["weights"].append(work.table("labels").read([slice_])["weight"].to_numpy()[mine])
        for name, control in (("student", False), ("control", True)):
            store = CheckpointStore.of(work, student, control=control)
            learner, _ = store.load(work.project.stream.slice_of(verdict.slice), "cpu")
            found[name].append(learner.predict(tensors_of(inputs))[:, 0].numpy()[mine])
    target, stands_for, logits, others = (np.concatenate(parts).astype(float) for parts in found.values())
    assert verdict.ne["student"] == pytest.approx(normalised_entropy(logits, target, stands_for), rel=1e-6)
    assert verdict.ne["control"] == pytest.approx(normalised_entropy(others, target, stands_for), rel=1e-6)
    chance, rate = (np.average(values, weights=stands_for) for values in (probabilities(logits), target))
    assert verdict.calibration[0] == pytest.approx(chance / rate, rel=1e-5)
    assert verdict.compared[0].difference == pytest.approx(verdict.ne["student"] / verdict.ne["control"] - 1, abs=1e-6)
    # A constant at the labels' own log odds has an NE of 1 by weights, and not without them.
    known = labels.drop_nulls(student.task)
    rate = float(np.average(known[student.task], weights=known["weight"]))
    constant = np.full(known.height, np.log(rate / (1 - rate)))
    target = known[student.task].to_numpy().astype(float)
    assert normalised_entropy(constant, target, known["weight"].to_numpy()) == pytest.approx(1.0)
    assert normalised_entropy(constant, target) > 1.05


def test_declaring_a_weight_trains_again_and_only_then(both: tuple[Workspace, Workspace]) -> None:
    weighted, plain = both
    for model in (*weighted.project.teachers, *weighted.project.students):
        forms = [CheckpointStore.of(work, model).manifest(work.project.stream.slice_at(2)).declared for work in both]
        assert forms[0]["weight"] == "weight" and "weight" not in forms[1]
        assert {name: value for name, value in forms[0].items() if name != "weight"} == forms[1]


def test_a_weight_that_is_no_positive_number_is_quarantined(tmp_path: Path) -> None:
    stream = project("weight", "tiny").stream
    for values, reasons in (
        ([1.0, 0.5, 3.0], {}),
        ([0.0, None, 1.0], {"weight is no positive number": 2}),
        ([float("nan"), -1.0, float("inf")], {"weight is no positive number": 3}),
        ([1, 2, 3], {}),
    ):
        write(tmp_path, impressions().with_columns(weight=pl.Series(values)))
        read = read_log(tmp_path, stream, "impressions", START, START + DAY)
        assert count_reasons(read.quarantine) == reasons and read.rows_read == 3


@pytest.mark.parametrize("weight", ["device", "click", "created_timestamp", "hour_of_day"])
def test_a_weight_is_nothing_else(weight: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^Stream\.weight: '{weight}' is also an input, a label, a task"):
        project(weight, "tiny")
