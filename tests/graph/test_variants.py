"""Other declarations and other streams through the whole graph: they run, and keep the rules."""

import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from exfm.distillation import AuxiliaryHead
from exfm.history_views import HistoryView
from exfm.learning import Student, Teacher
from exfm.log_columns import Column
from exfm.project import Project
from exfm.state import State
from models.learner import Learner
from models.manifest import load_manifest
from models.members import FitReport
from models.weights import weights_file
from pipeline.slices.slice_inputs import teachers_columns
from pipeline.streams.simulated_log import write_log
from pipeline.streams.simulator import simulate
from pipeline.studies.replay import Replay, teach
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, failed_checks, left_by, run, sentences
from tests.tiny import tiny_project, tiny_workspace

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


def lagging(project: Project) -> Project:
    return replace(project, teachers=(replace(project.teachers[0], lag=2, publish_every=2),))


def two_teachers(project: Project) -> Project:
    second: Teacher = replace(project.teachers[0], name="second", tasks=("convert",))
    first, last = project.students
    return replace(
        project, teachers=(project.teachers[0], second), students=(first, replace(last, teacher=("large", "second")))
    )


def labels_only(project: Project) -> Project:
    views = {view.name for view in project.prediction_views}
    students = tuple(
        replace(
            student,
            teacher=None,
            distillation=None,
            lead=None,
            inputs=tuple(i for i in student.inputs if i not in views),
        )
        for student in project.students
    )
    return replace(project, teachers=(), students=students, prediction_views=())


def teachers_only(project: Project) -> Project:
    return replace(project, students=())


def all_surfaces(project: Project) -> Project:
    student: Student = replace(project.students[0], surface=None, distillation=AuxiliaryHead())
    return replace(project, students=(student,))


def words_for_ids(project: Project) -> Project:
    stream = project.stream
    named = replace(stream, user=Column(name="uid", rows=256, dtype=str), item=Column(name="ad", rows=64, dtype=str))
    named_so = {"user_id": "uid", "item_id": "ad"}

    def keyed(view: Any) -> Any:
        if isinstance(view, HistoryView):
            return replace(view, entity="uid", of="ad")
        return replace(view, entities=tuple(named_so.get(entity, entity) for entity in view.entities))

    views, opinions = (tuple(map(keyed, kind)) for kind in (project.feature_views, project.prediction_views))

    def renamed(inputs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple({"user_id": "uid", "item_id": "ad"}.get(name, name) for name in inputs)

    teachers = tuple(replace(teacher, inputs=renamed(teacher.inputs)) for teacher in project.teachers)
    students = tuple(replace(student, inputs=renamed(student.inputs)) for student in project.students)
    return replace(
        project, stream=named, feature_views=views, prediction_views=opinions, teachers=teachers, students=students
    )


def six_hours(project: Project) -> Project:
    stream = replace(project.stream, slice_length=6 * HOUR, until=project.stream.first_slice + 30 * HOUR)
    windows = (6 * HOUR, 24 * HOUR)
    views = tuple(
        view if isinstance(view, HistoryView) else replace(view, every=6 * HOUR, windows=windows)
        for view in project.feature_views
    )
    opinions = tuple(replace(view, windows=windows) for view in project.prediction_views)
    inputs = tuple(name for name in project.students[0].inputs if ":" not in name)
    students = tuple(replace(student, inputs=inputs) for student in project.students)
    # In time for clicks: conversions close late.
    teachers = tuple(replace(teacher, lag=2) for teacher in project.teachers)
    return replace(
        project, stream=stream, feature_views=views, prediction_views=opinions, teachers=teachers, students=students
    )


MORE = (lagging, six_hours, teachers_only, all_surfaces, words_for_ids)
VARIANTS = [two_teachers, labels_only, *(pytest.param(variant, marks=pytest.mark.long) for variant in MORE)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_declarations_run_and_pass_their_checks(variant: Callable[[Project], Project], tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, variant(tiny_project()))
    stream = work.project.stream
    slices = list(stream.slices(stream.first_slice, stream.until or stream.first_slice))
    result = run(work, slices[0].key, slices[-1].key)
    assert result.success
    assert failed_checks(result) == []
    for teacher in work.project.teachers:
        for index, slice_ in enumerate(slices):
            files = list((work.state.predictions(teacher.name) / slice_.folder).glob("*.parquet"))
            assert len(files) == (1 if teacher.scorer_of(index) >= 0 else 0)
            for file in files:
                scorer = work.state.checkpoints(f"teacher/{teacher.name}") / slices[teacher.scorer_of(index)].folder
                assert pl.read_parquet(file)["checkpoint"].unique().to_list() == [load_manifest(scorer).version]
        assert_replay_says_the_same(work, teacher)


def assert_replay_says_the_same(work: Workspace, teacher: Teacher) -> None:
    """To the bit, whatever its lag and however seldom it publishes: it is the same walk."""
    replay = Replay.of(work, "cpu", teachers_columns(work.project))
    by_slice = teach(replay, teacher, [teacher.lag])[teacher.lag].by_slice
    for slice_ in replay.slices:
        files = sorted((work.state.predictions(teacher.name) / slice_.folder).glob("*.parquet"))
        assert bool(files) == (slice_.index in by_slice)
        if files:
            stored = pl.read_parquet(files[-1], glob=False).select(f"{task}_logit" for task in teacher.tasks).to_numpy()
            np.testing.assert_array_equal(by_slice[slice_.index].logits, stored)


def test_members_too_large_for_one_pass_learn_the_same_in_several(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    fit = Learner.fit

    def counted(learner: Learner, *given: Any, **named: Any) -> FitReport:
        passes.append(len(learner.members))
        return fit(learner, *given, **named)

    monkeypatch.setattr(Learner, "fit", counted)
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    for name in ("checkpoints/student", "checkpoints/control", "tables/evaluations"):
        shutil.rmtree(work.state.folder / name)
    monkeypatch.setattr("models.members.LARGEST_BLOCK", 1)
    everybody = " or ".join(f"group:{student.name}" for student in work.project.students)
    assert run(work, select=everybody).success
    assert passes and set(passes) == {1}
    slices = list(work.project.stream.slices(work.project.stream.first_slice, work.project.stream.until))
    for student in work.project.students:
        mine, theirs = (workspace.evaluations(student.name).read(slices[1:]) for workspace in (work, ran.work))
        np.testing.assert_allclose(mine["ne"].to_numpy(), theirs["ne"].to_numpy(), rtol=1e-4)


def spoilt(ran: Ran, folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame], table: str) -> Workspace:
    """A real log (not simulated again) that is the simulated one, but for the third slice of a table."""
    project = replace(ran.work.project, name="spoilt", simulation=None)
    log = folder / "log"
    shutil.copytree(ran.work.state.log, log)
    day = log / table / "day=2026-01-03"
    for path in sorted(day.glob("*.parquet")):
        rows = change(pl.read_parquet(path))
        path.unlink() if rows.is_empty() else rows.write_parquet(path)
    return Workspace(project, State(folder=folder / "spoilt", log=log))


@pytest.mark.long
@pytest.mark.slow
def test_a_day_without_impressions_is_passed_over(ran: Ran, tmp_path: Path) -> None:
    work = spoilt(ran, tmp_path, lambda frame: frame.clear(), "impressions")
    result = run(work)
    assert result.success
    assert failed_checks(result) == ["impressions:not_empty"]
    stream = work.project.stream
    model = [load_manifest(work.state.checkpoints("teacher/large") / stream.slice_at(n).folder) for n in range(5)]
    assert [manifest.rows > 0 for manifest in model] == [True, True, False, True, True]
    assert model[2].trained_until == model[1].trained_until
    assert model[3].parent == model[2].version


@pytest.mark.long
@pytest.mark.slow
def test_a_day_without_outcomes_has_one_class_and_is_passed_over(ran: Ran, tmp_path: Path) -> None:
    work = spoilt(ran, tmp_path, lambda frame: frame.clear(), "outcomes")
    result = run(work)
    assert result.success
    third = work.evaluations("feed_click").read([work.project.stream.slice_at(2)])
    assert third.filter(pl.col("model") == "student")["auc"].is_nan().all() or third["positives"].max() > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_surface_that_pauses_does_not_stop_its_student(ran: Ran, tmp_path: Path) -> None:
    work = spoilt(ran, tmp_path, lambda frame: frame.filter(pl.col("surface") != "feed"), "impressions")
    assert run(work).success
    paused = load_manifest(work.state.checkpoints("student/feed_click") / work.project.stream.slice_at(2).folder)
    assert paused.rows == 0 and paused.metrics["loss"] is None


@pytest.mark.slow
def test_quarantined_rows_are_counted_and_the_rest_goes_on(ran: Ran, tmp_path: Path) -> None:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        odd = frame.head(3).with_columns(surface=pl.lit("billboard"), impression_id=-pl.col("impression_id"))
        return pl.concat([frame, frame.head(2), odd])

    work = spoilt(ran, tmp_path, change, "impressions")
    result = run(work)
    assert result.success and failed_checks(result) == []
    quarantined = work.quarantine("impressions").read([work.project.stream.slice_at(2)])
    assert (
        sorted(quarantined["reason"].str.split(":").list.first())
        == ["repeated impression_id"] * 2 + ["unknown surface"] * 3
    )


def test_a_table_cut_short_stops_the_run_with_its_sentence(ran: Ran, tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    path = work.table("logged_inputs").path(work.project.stream.slice_of(LAST))
    path.write_bytes(path.read_bytes()[:-30])
    result = run(work, LAST, LAST, select='key:"teacher/large/checkpoint"')
    (failure,) = result.get_step_failure_events()
    message = str(failure.step_failure_data.error.cause.message)
    assert "not a whole parquet file" in message and f"materialise logged_inputs for slice {LAST} again" in message


def test_a_damaged_checkpoint_is_refused_and_made_again(ran: Ran, tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    before = left_by(work)
    fourth = work.state.checkpoints("teacher/large") / work.project.stream.slice_at(3).folder
    own = weights_file(fourth)
    assert own is not None
    own.write_bytes(b"not weights")
    shutil.rmtree(work.state.checkpoints("teacher/large") / work.project.stream.slice_of(LAST).folder)
    result = run(work, LAST, LAST, select='key:"teacher/large/checkpoint"')
    (failure,) = result.get_step_failure_events()
    assert "is damaged (sha256 differs)" in str(failure.step_failure_data.error.cause.message)
    shutil.rmtree(fourth)
    assert run(work, "2026-01-04", LAST, select='key:"teacher/large/checkpoint"').success
    assert left_by(work) == before


def both(folder: Path, first: str, last: str) -> None:
    result = run(tiny_workspace(folder), first, last, select="group:stream or group:features")
    raise SystemExit(None if result.success else "; ".join([*sentences(result), *failed_checks(result)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "ranges",
    [
        [(FIRST, "2026-01-03"), ("2026-01-02", LAST)],
        pytest.param([(FIRST, LAST), (FIRST, LAST)], marks=pytest.mark.long),
    ],
)
def test_two_processes_at_once_leave_what_one_leaves(ran: Ran, tmp_path: Path, ranges: list[tuple[str, str]]) -> None:
    """The same slices written twice are the same bytes, and are put in place in one step."""
    work = tiny_workspace(tmp_path)
    for index in range(5):  # both read the whole log; who is first does not matter
        slice_ = work.project.stream.slice_at(index)
        assert work.project.simulation is not None
        write_log(work.state.log, simulate(work.project.simulation, work.project.stream, slice_), slice_)
    assert run(work, FIRST, LAST, select='key:"impressions" or key:"feature_registry"').success
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=both, args=(tmp_path, *bounds)) for bounds in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    if ranges[0] == ranges[1]:
        assert [process.exitcode for process in processes] == [0, 0]
    assert run(work).success
    assert left_by(work) == left_by(ran.work)
