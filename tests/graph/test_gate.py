"""The gate: its rule case by case, and candidates that were made worse; its intervals are in test_gate_intervals.py."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from exfm.learning import Gate, Student
from exfm.stream import Slice
from models.learner import Learner
from models.metrics import normalised_entropy
from pipeline.gate.candidate import candidate_of, labelled_rows
from pipeline.gate.judging import judge
from pipeline.gate.releasing import release_candidate
from pipeline.gate.words import reason_of
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.release import current_release
from pipeline.releases.verdict import PASSED, REFUSED, TOO_LITTLE, Compared, Verdict, read_verdict, verdict_of
from pipeline.report.gates import comparisons_table, gates_table
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import shown_of, tensors_of

OPEN = Gate(tolerance=1.0, judged_rows=300, calibration=10.0, rows=300)


# The rule.


def made(*compared: Compared, ne: float = 0.9, calibration: tuple[float, float, float] = (1.0, 0.9, 1.1)) -> Verdict:
    return Verdict(
        "", "", "v", "2026-01-01", ("2026-01-02",), 5_000, {"student": ne}, calibration, tuple(compared)
    )  # fmt: skip


def against(rival: str, low: float, high: float, allowed: float = 0.0, where: str = "all") -> Compared:
    return Compared(rival, where, 5_000, (low + high) / 2, low, high, 0.95, allowed)


CASES: dict[str, tuple[Verdict, Gate, str]] = {
    "better than both": (made(against("control", -0.02, -0.01), against("served", -0.02, -0.01)), Gate(), ""),
    "level": (made(against("control", 0.0, 0.0)), Gate(), ""),
    "maybe worse": (made(against("control", -0.001, 0.02)), Gate(), ""),
    "shown worse than its control": (made(against("control", 0.001, 0.02)), Gate(), "against its control"),
    "shown worse than what serves": (made(against("control", -0.02, 0.0), against("served", 0.001, 0.02)), Gate(),
                                     "against what serves"),
    "as much worse as is allowed": (made(against("control", 0.001, 0.02, allowed=0.01)), Gate(tolerance=0.01), ""),
    "on one surface": (made(against("control", -0.02, 0.0), against("control", 0.01, 0.02, where="2")), Gate(),
                       "on surface 2"),
    "for new users": (made(against("control", -0.02, 0.0), against("served", 0.01, 0.02, where="new users")), Gate(),
                      "of new users"),
    "worse than a constant": (made(against("control", -0.2, -0.1), ne=1.01), Gate(), "worse than a constant"),
    "maybe off in calibration": (made(calibration=(1.4, 1.2, 1.6)), Gate(), ""),
    "off in calibration": (made(calibration=(1.4, 1.3, 1.5)), Gate(), "the gate asks for 0.75 to 1.25"),
    "predicts too little": (made(calibration=(0.5, 0.4, 0.6)), Gate(), "the gate asks for 0.75 to 1.25"),
    "a gain is asked for and not shown": (made(against("control", -0.02, 0.0, allowed=-0.03)), Gate(tolerance=-0.03),
                                          "worse than the -3 %"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_rule(name: str) -> None:
    about, gate, why = CASES[name]
    verdict = reason_of(replace(tiny_project().students[0], gate=gate), about)
    assert verdict.outcome == (REFUSED if why else PASSED) and why in verdict.reason
    assert verdict.reason.startswith("slice 2026-01-01, judged on 5,000 rows of slice 2026-01-02: NE ")


def test_bad_data_is_refused_whatever_the_models_say() -> None:
    verdict = reason_of(tiny_project().students[0], made(against("control", -0.02, -0.01)), fault="repeated ids")
    assert verdict.outcome == REFUSED and "repeated ids" in verdict.reason


# Candidates.


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    return tiny_workspace(tmp_path)


def with_gate(work: Workspace, gate: Gate, **changes: Any) -> tuple[Workspace, Student]:
    first, *others = work.project.students
    student = replace(first, gate=gate, **changes)
    return replace(work, project=replace(work.project, students=(student, *others))), student


def last(work: Workspace, back: int = 0) -> Slice:
    stored = work.table("labels").stored(work.project.stream)
    return stored[-1 - back]


def test_the_candidate_is_the_newest_checkpoint_that_has_not_seen_the_newest_rows(work: Workspace) -> None:
    strict, student = with_gate(work, OPEN)
    chosen = candidate_of(strict, student)
    assert not isinstance(chosen, str)
    assert chosen.slice == last(work, 1) and chosen.judged == (last(work),)
    assert chosen.rows == labelled_rows(work, student, last(work))
    rows = chosen.rows + 1  # one more than the newest slice has
    chosen = candidate_of(*with_gate(work, replace(OPEN, judged_rows=rows)))
    assert not isinstance(chosen, str) and chosen.judged == (last(work, 1), last(work))
    assert chosen.slice == last(work, 2)
    chosen = candidate_of(*with_gate(work, replace(OPEN, slices=2)))
    assert not isinstance(chosen, str) and chosen.slice == last(work, 2)


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        (Gate(judged_rows=10**6), "the gate judges on 1,000,000 of at least 1"),
        (Gate(judged_rows=1, slices=50), "the gate judges on 1 of at least 50"),
        (replace(OPEN, rows=10**6), "fewer than Gate.rows=1,000,000"),
    ],
)
def test_too_little_data_is_said_and_releases_nothing(work: Workspace, gate: Gate, why: str) -> None:
    strict, student = with_gate(work, gate)
    before = current_release(strict, student)
    verdict, served = release_candidate(strict, student, "cpu")
    assert verdict.outcome == TOO_LITTLE and why in verdict.reason
    assert served == before == current_release(strict, student)
    assert read_verdict(strict, student) == verdict


def test_figures_are_those_of_the_candidate_on_those_rows(work: Workspace) -> None:
    shutil.rmtree(work.state.release("feed_click"))
    student = work.project.student("feed_click")
    verdict = judge(work, student, "cpu")
    columns = students_columns(work.project, [student])
    inputs = SliceInputs(work, last(work), "cpu", with_labels=True, columns=columns)
    shown = (shown_of(inputs)["surface"] == student.surface).to_numpy()
    labels = tensors_of(inputs).labels[:, tensors_of(inputs).task_names.index("click")].numpy()
    known = shown & np.isfinite(labels)
    for name, control in (("student", False), ("control", True)):
        learner, _ = CheckpointStore.of(work, student, control=control).load(last(work, 1), "cpu")
        logits = learner.predict(tensors_of(inputs))[:, 0].numpy()
        assert verdict.ne is not None
        assert verdict.ne[name] == pytest.approx(normalised_entropy(logits[known], labels[known]), rel=1e-6)
    assert verdict.rows == known.sum() and verdict.ne is not None
    expected = verdict.ne["student"] / verdict.ne["control"] - 1
    assert verdict.compared[0].difference == pytest.approx(expected)
    assert f"{verdict.rows:,}" in comparisons_table(verdict) and verdict.reason in gates_table({"s": verdict})


def worsened(monkeypatch: pytest.MonkeyPatch, name: str, by: Callable[[Learner], None]) -> None:
    """What is loaded of a model is worse than what is stored."""
    load = CheckpointStore.load

    def loaded(self: CheckpointStore, slice_: Slice, device: str):  # type: ignore[no-untyped-def]
        learner, manifest = load(self, slice_, device)
        if self.name == name:
            with torch.no_grad():
                by(learner)
        return learner, manifest

    monkeypatch.setattr(CheckpointStore, "load", loaded)


def noise(learner: Learner) -> None:
    generator = torch.Generator().manual_seed(0)
    learner.networks.serving.weight += torch.randn(learner.networks.serving.weight.shape, generator=generator)


def shifted(learner: Learner) -> None:
    learner.networks.serving.bias += 1.0


@pytest.mark.parametrize(
    ("worse", "gate", "why"),
    [
        (noise, replace(OPEN, tolerance=0.0), "against its control"),
        (shifted, replace(OPEN, calibration=0.25), "calibration"),
    ],
)
def test_a_bad_candidate_leaves_what_serves(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, worse: Callable[[Learner], None], gate: Gate, why: str
) -> None:
    strict, student = with_gate(work, gate)
    (work.state.release(student.name) / "gate.json").unlink()
    served = current_release(strict, student)
    worsened(monkeypatch, f"student/{student.name}", worse)
    verdict, after = release_candidate(strict, student, "cpu")
    assert verdict.outcome == REFUSED and why in verdict.reason
    assert after == served == current_release(strict, student)


def older_is_served(work: Workspace, student: Student) -> None:
    """As if the checkpoint before the candidate were what serves, and nothing before it."""
    from pipeline.releases.publishing import publish

    shutil.rmtree(work.state.release(student.name))
    store = CheckpointStore.of(work, student)
    publish(work, student, last(work, 2), store.manifest(last(work, 2)).version, "cpu")


def test_a_candidate_that_is_worse_than_what_serves_is_refused_though_its_control_is_as_bad(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict, student = with_gate(work, replace(OPEN, tolerance=0.0))
    older_is_served(strict, student)
    served = current_release(strict, student)
    worsened(monkeypatch, f"student/{student.name}", noise)
    worsened(monkeypatch, f"control/{student.name}", lambda learner: (noise(learner), noise(learner), None)[-1])
    verdict = judge(strict, student, "cpu")
    assert verdict.outcome == REFUSED and "against what serves" in verdict.reason
    assert "against its control" not in verdict.reason
    assert release_candidate(strict, student, "cpu")[1] == served


def test_what_serves_is_compared_only_where_it_has_not_learnt_from_the_rows(work: Workspace) -> None:
    strict, student = with_gate(work, OPEN)
    older_is_served(strict, student)
    verdict = judge(strict, student, "cpu")
    assert {each.against for each in verdict.compared} == {"control", "served"} and verdict.passed
    released = release_candidate(strict, student, "cpu")[1]
    assert released is not None and released.slice == last(work, 1).key
    back, student = with_gate(strict, replace(OPEN, slices=2))  # now the candidate is older than what serves
    verdict = judge(back, student, "cpu")
    assert {each.against for each in verdict.compared} == {"control"}
    assert "has learnt from slice" in verdict.reason
    assert release_candidate(back, student, "cpu")[1] == released  # and stays


def test_a_student_of_all_surfaces_is_judged_on_each(work: Workspace) -> None:
    gate = replace(OPEN, judged_rows=100)
    whole = replace(work.project.student("feed_click"), surface=None, gate=gate)
    open_gate = replace(work, project=replace(work.project, students=(whole, work.project.students[1])))
    from tests.graph.runs import FIRST, LAST, run

    select = f'key:"student/{whole.name}/checkpoint" or key:"student/{whole.name}/control"'
    assert run(open_gate, FIRST, LAST, select=select).success
    verdict = judge(open_gate, whole, "cpu")
    surfaces = {str(surface) for surface in work.project.stream.surfaces}
    assert surfaces <= {each.where for each in verdict.compared}
    apart = {each.confidence for each in verdict.compared if each.where != "all"}
    assert len(apart) == 1 and apart.pop() > 0.97


def test_a_verdict_is_kept_until_something_of_it_changes(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    strict, student = with_gate(work, replace(OPEN, tolerance=-0.9))
    shutil.rmtree(work.state.release(student.name))
    first = judge(strict, student, "cpu")
    assert first.outcome == REFUSED
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointStore, "load", lambda *_: pytest.fail("nothing is scored again"))
        assert judge(strict, student, "cpu") == first
    lenient, student = with_gate(work, OPEN)
    passed = judge(lenient, student, "cpu")
    assert passed.passed
    table, slice_ = work.table("labels"), last(work)
    frame, before = table.read([slice_]), table.sidecar(slice_)
    assert before is not None
    table.write(slice_, frame.with_columns(click=1 - frame["click"]), before.made_of, before.log, before.notes)
    assert judge(lenient, student, "cpu").ne != passed.ne


def test_data_that_breaks_its_contract_releases_nothing(work: Workspace) -> None:
    strict, student = with_gate(work, OPEN)
    (work.state.release(student.name) / "current.json").unlink()
    table, slice_ = work.table("labels"), last(work)
    frame, before = table.read([slice_]), table.sidecar(slice_)
    assert before is not None
    repeated = pl.concat([frame.head(1), frame.head(1), frame.tail(-2)])
    table.write(slice_, repeated, before.made_of, before.log, before.notes)
    verdict, served = release_candidate(strict, student, "cpu")
    assert verdict.outcome == REFUSED and "repeated impression_id" in verdict.reason and served is None


def test_a_verdict_that_cannot_be_read_is_as_if_there_were_none(work: Workspace) -> None:
    student = work.project.students[0]
    path = work.state.release(student.name) / "gate.json"
    for damaged in ("", "[]", "{}", '{"outcome": 1}'):
        path.write_text(damaged, encoding="utf-8")
        assert read_verdict(work, student) is None
        assert "no checkpoint has been judged yet" in verdict_of(work, student).reason
