"""The whole graph on a tiny stream: what it leaves, says, and leaves again."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import torch

from exfm.distillation import KnowledgeDistillation, LeadAware
from exfm_assets import metadata_keys as keys
from models.checkpoint import load_checkpoint
from models.manifest import load_manifest
from models.metrics import normalised_entropy
from models.weights import weights_file
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.release import current_release
from pipeline.slices.slice_inputs import students_columns
from pipeline.studies.replay import Replay, study, teach
from pipeline.studies.teacher_lag_study import teacher_lag_study
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, failed_checks, left_by, run, sentences
from tests.tiny import SLICES, tiny_project, tiny_workspace
from tests.whole import tensors_of


def test_everything_is_materialised_and_every_check_passes(ran: Ran) -> None:
    assert ran.result.success
    assert failed_checks(ran.result) == []
    graph = {key for spec in ran.result.get_asset_materialization_events() for key in [spec.asset_key]}
    assert len(graph) == 29
    for name in ("impressions", "outcomes", "interactions", "labels", "logged_inputs"):
        assert len(ran.work.table(name).stored(ran.work.project.stream)) == SLICES


def test_a_teacher_scores_each_slice_with_the_checkpoint_of_the_slice_before(ran: Ran) -> None:
    stream, teacher = ran.work.project.stream, ran.work.project.teachers[0]
    assert not list((ran.work.state.predictions(teacher.name) / stream.slice_at(0).folder).glob("*"))
    for index in range(1, SLICES):
        slice_, before = stream.slice_at(index), stream.slice_at(index - 1)
        (file,) = (ran.work.state.predictions(teacher.name) / slice_.folder).glob("*.parquet")
        stored, manifest = (
            pl.read_parquet(file),
            load_manifest(ran.work.state.checkpoints("teacher/large") / before.folder),
        )
        assert stored["checkpoint"].unique().to_list() == [manifest.version]
        newest_seen = ran.work.table("impressions").read([before])["event_timestamp"].max()
        assert stored["trained_until"].unique().to_list() == [newest_seen]
        assert (stored["trained_until"] < stored["event_timestamp"]).all()
        assert stored["impression_id"].equals(ran.work.table("impressions").read([slice_])["impression_id"])


def test_students_name_the_teacher_checkpoint_that_supervised_them(ran: Ran) -> None:
    stream = ran.work.project.stream
    for index in range(SLICES):
        slice_ = stream.slice_at(index)
        student = load_manifest(ran.work.state.checkpoints("student/feed_click") / slice_.folder)
        control = load_manifest(ran.work.state.checkpoints("control/feed_click") / slice_.folder)
        folder = ran.work.state.checkpoints("teacher/large")
        taught_by = [load_manifest(folder / stream.slice_at(index - 1).folder).version] if index else []
        assert student.teacher_checkpoints == taught_by
        assert control.teacher_checkpoints == [] and "predictions" not in control.data_versions
        assert student.rows == control.rows > 0


def test_each_slice_is_judged_by_what_would_have_been_serving(ran: Ran) -> None:
    stream = ran.work.project.stream
    for student in ran.work.project.students:
        lag = stream.serving_lag(student.task)
        assert lag == 2  # daily slices: yesterday's labels were still open at midnight
        rows = ran.work.evaluations(student.name).read(ran.work.evaluations(student.name).stored(stream))
        for index in range(SLICES):
            mine = rows.filter(pl.col("slice") == stream.slice_at(index).key, pl.col("model") == "student")
            if index < lag:
                assert mine.is_empty()
                continue
            folder = ran.work.state.checkpoints(f"student/{student.name}") / stream.slice_at(index - lag).folder
            assert mine["checkpoint"].to_list() == [load_manifest(folder).version]
        judged = rows.group_by("slice").agg(pl.col("rows").n_unique())
        assert (judged["rows"] == 1).all()  # all models of a slice on the same rows
        assert set(rows["model"]) == {"student", "control", "teacher", "best"}


def test_a_release_serves_without_what_only_distillation_needs(ran: Ran) -> None:
    for student in ran.work.project.students:
        release = current_release(ran.work, student)
        assert release is not None and release.slice == "2026-01-04"  # judged on the last one
        learner, manifest = load_checkpoint(ran.work.state.release(student.name) / release.version)
        assert manifest.version == release.version
        assert not learner.networks.heads and not learner.calibrators.maps


def test_metadata_say_rows_schema_lineage_and_versions(ran: Ran) -> None:
    events = {
        (event.asset_key.to_user_string(), event.partition): event.materialization.metadata
        for event in ran.result.get_asset_materialization_events()
    }
    labels = events[("labels", LAST)]
    rows = ran.work.table("labels").rows(ran.work.project.stream.slice_of(LAST))
    assert labels[keys.PARTITION_ROW_COUNT].value == rows
    assert {column.name for column in labels[keys.COLUMN_SCHEMA].value.columns} >= {
        "impression_id",
        "click",
        "closed_at",
    }
    inputs = events[("logged_inputs", LAST)][keys.COLUMN_LINEAGE].value
    (source,) = inputs.deps_by_column["item_activity__click_rate_7d"]
    assert (source.asset_key, source.column_name) == (dg.AssetKey(["features", "item_activity"]), "click_rate_7d")
    student = events[("student/feed_click/checkpoint", LAST)]
    assert student[keys.CHECKPOINT].value == student[keys.DATA_VERSION].value
    assert len(student[keys.TEACHER_CHECKPOINTS].value) == 1
    assert student[keys.COVERAGE].value == 1.0 and student[keys.LEAKS].value == 0
    scores = {column.name for column in events[("teacher/large/predictions", LAST)][keys.COLUMN_SCHEMA].value.columns}
    file = next((ran.work.state.predictions("large") / f"slice={LAST}").glob("*.parquet"))
    assert scores == set(pl.read_parquet(file).columns)
    plot = events[("student/feed_click/evaluation", LAST)][keys.NE_PLOT].value
    assert plot.startswith("![NE minus its control's over slices, in percent") and "data:image/svg+xml;base64," in plot
    shown = events[("student/feed_click/evaluation", LAST)]["ne/student"].value
    stored = ran.work.evaluations("feed_click").read([ran.work.project.stream.slice_of(LAST)])
    assert shown == float(f"{stored.row(by_predicate=pl.col('model') == 'student', named=True)['ne']:.6g}")
    assert events[("impressions", FIRST)][keys.QUARANTINED].value == {}
    assert "orphan" in events[("outcomes", LAST)][keys.QUARANTINED].value


def test_the_report_is_one_file_with_every_student(ran: Ran) -> None:
    page = (ran.work.state.reports / "report.html").read_text()
    assert all(student.name in page for student in ran.work.project.students)
    assert "nothing serves" not in page  # it is made after the releases
    assert not re.search(r'(src|href)="http', page)


@pytest.mark.slow
def test_one_slice_later_is_as_if_all_had_run_at_once(ran: Ran, tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-04").success
    assert run(work, LAST, LAST).success
    assert left_by(work) == left_by(ran.work)


@pytest.mark.slow
def test_running_again_changes_nothing_and_trains_nothing(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-03").success
    before = left_by(work)
    times = {path: path.stat().st_mtime_ns for path in work.state.folder.rglob("*s.safetensors")}
    assert run(work, FIRST, "2026-01-03").success
    assert left_by(work) == before
    assert times == {path: path.stat().st_mtime_ns for path in work.state.folder.rglob("*s.safetensors")}
    assert all(len(list(folder.glob("*.parquet"))) <= 1 for folder in work.state.predictions("large").glob("slice=*"))


@pytest.mark.long
@pytest.mark.slow
def test_each_student_can_be_materialised_alone(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-03", select='not key:"student/*"').success
    assert run(work, FIRST, "2026-01-03", select='key:"student/feed_click/checkpoint"').success
    checkpoints = work.state.folder / "checkpoints"
    assert (checkpoints / "student" / "feed_click").is_dir()
    assert not (checkpoints / "control").exists() and not (checkpoints / "student" / "feed_convert").exists()


@pytest.mark.slow
def test_a_changed_student_is_trained_anew_and_others_are_kept(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-02").success
    kept = left_by(work)
    first, *rest = work.project.students
    changed = tiny_project(students=(replace(first, distillation=KnowledgeDistillation()), *rest))
    assert run(tiny_workspace(tmp_path, changed), FIRST, "2026-01-02").success
    now = left_by(work)
    differ = {name.split("/slice=")[0] for name in kept if now.get(name) != kept[name]}
    assert "checkpoints/student/feed_click" in differ
    assert not {name for name in differ if "convert" in name or "teacher" in name or "control" in name}


@pytest.mark.long
@pytest.mark.slow
def test_continuing_a_changed_student_in_the_middle_is_refused(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-02").success
    first, *rest = work.project.students
    changed = tiny_project(students=(replace(first, distillation=KnowledgeDistillation()), *rest))
    result = run(tiny_workspace(tmp_path, changed), "2026-01-03", "2026-01-03")
    assert not result.success
    messages = sentences(result)
    assert any(
        "trained under declaration" in message and "train from the first slice again" in message for message in messages
    )


def test_a_slice_cannot_be_trained_before_the_one_it_continues(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-03", select="group:stream or group:features").success
    result = run(work, "2026-01-03", "2026-01-03", select='key:"teacher/large/checkpoint"')
    (failure,) = result.get_step_failure_events()
    assert "materialise" in str(failure.step_failure_data.error.cause.message)


@pytest.mark.long
@pytest.mark.slow
def test_a_student_that_was_not_trained_further_is_judged_by_what_was_there(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    stream = work.project.stream
    assert run(work, FIRST, "2026-01-02").success
    assert run(work, "2026-01-03", LAST, select="not group:feed_click and not group:feed_convert").success
    assert run(work, "2026-01-03", LAST, select='key:"student/feed_click/evaluation"').success
    judged = work.evaluations("feed_click").read([stream.slice_of(LAST)])
    folder = work.state.checkpoints("student/feed_click")
    newest = load_manifest(folder / stream.slice_at(1).folder)
    assert judged.filter(pl.col("model") == "student")["checkpoint"].to_list() == [newest.version]
    assert weights_file(folder / stream.slice_at(1).folder) is not None  # looking drops nothing


@pytest.mark.slow
def test_a_lead_aware_student_needs_its_control_and_records_leads_of_earlier_slices_only(
    ran: Ran, tmp_path: Path
) -> None:
    student = ran.work.project.student("feed_convert")
    assert student.lead is not None
    checkpoints = CheckpointStore.of(ran.work, student)
    measured = [checkpoints.manifest(ran.work.project.stream.slice_at(index)).metrics for index in range(SLICES)]
    leads: list[float] = []
    gains: list[float] = []
    for metrics in measured:
        # The share of a slice follows from what was measured before it; its own measures count from the next slice on.
        assert metrics["share/large"] == student.lead.share(leads, gains)
        for measure, seen in (("lead/large", leads), ("gain", gains)):
            if (value := metrics.get(measure)) is not None:
                seen.append(value)
    assert len(leads) == len(gains) == SLICES - 1  # nobody had scored the first slice
    assert any((metrics["share/large"] or 0) > 0 for metrics in measured)
    replay, last = Replay.of(ran.work, "cpu", students_columns(ran.work.project)), SLICES - 1
    labels = replay.labels(last, student.surface, student.task)
    rows = torch.from_numpy(replay.rows(last, student.surface))
    tensors = tensors_of(replay.inputs[last]).take(rows)
    before = [CheckpointStore.of(ran.work, student, control=control) for control in (False, True)]
    mine, base = (
        normalised_entropy(store.load(ran.work.project.stream.slice_at(last - 1), "cpu")[0]
                           .predict(tensors)[:, 0].numpy(), labels)
        for store in before
    )  # fmt: skip
    assert gains[-1] == pytest.approx(1 - mine / base, rel=1e-4)
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, "2026-01-02", select='not key:"student/*"').success
    alone = run(work, FIRST, "2026-01-02", select='key:"student/feed_convert/checkpoint"')
    assert not alone.success
    message = str(
        next(event for event in alone.all_events if event.event_type_value == "STEP_FAILURE").event_specific_data
    )
    assert "materialise student/feed_convert/control" in message


def test_a_replay_measures_the_leads_and_gains_that_the_graph_measures(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[float]] = []
    project, student = ran.work.project, ran.work.project.student("feed_convert")

    def half(lead: LeadAware, leads: list[float], gains: list[float]) -> float:
        calls.append([*leads[-lead.slices :], *gains[-lead.proof :]])
        return 0.5

    monkeypatch.setattr(LeadAware, "share", half)
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    for kind in ("student", "control"):
        shutil.rmtree(work.state.checkpoints(f"{kind}/{student.name}"))
    both = f'key:"student/{student.name}/checkpoint" or key:"student/{student.name}/control"'
    assert run(work, select=both).success
    by_graph, calls[:] = calls.copy(), []
    (teacher,), replay = project.teachers, Replay.of(ran.work, "cpu", students_columns(project))
    study(replay, [student], {"large": teach(replay, teacher, [1])[1]}, serving_lag=1)
    assert [len(seen) for seen in calls] == [0, 0, 2, 4, 5]  # of two leads, and of every gain
    for mine, theirs in zip(calls, by_graph, strict=True):
        assert mine == theirs  # to the bit: it is the same walk


def test_the_cost_of_a_stale_teacher_is_what_replaying_each_lag_alone_gives(ran: Ran) -> None:
    rows = pl.concat(teacher_lag_study(ran.work, "cpu"))
    assert set(rows["student"]) == {student.name for student in ran.work.project.students}
    assert set(rows["lag"]) == {1, 2}
    for student in ("feed_click", "feed_convert"):  # the latter is lead-aware: shares are the same, too
        stored = ran.work.evaluations(student)
        judged = stored.read(stored.stored(ran.work.project.stream))
        # With lag 1 the replay is the walk that was materialised, on the slices that every lag has scored.
        late = judged.filter(pl.col("slice") >= "2026-01-03", pl.col("ne").is_finite())
        means = dict(late.group_by("model").agg(pl.col("ne").mean()).iter_rows())
        mine = rows.filter(pl.col("student") == student, pl.col("lag") == 1).row(0, named=True)
        for model in ("student", "control", "teacher"):
            assert mine[f"ne_{model}"] == pytest.approx(means[model], rel=1e-4)
