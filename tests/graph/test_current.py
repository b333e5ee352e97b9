"""What is out of date is said of every stored slice, and made again by the next run that touches it."""

import hashlib
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_repo.store import apply
from pipeline.sidecar import sidecar_of, write_stored
from pipeline.slices.attributed import outcomes_of
from pipeline.slices.provenance import impressions_of_labels
from pipeline.verify import tables_current
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, failed_checks, left_by, run
from tests.tiny import tiny_project, tiny_workspace

THIRD = "2026-01-03"
ON_THIS_LOG = 'not group:"studies" and not key:"simulated_log"'


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Workspace:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    apply(work.project, work.state)  # sources are absolute paths: a moved state is applied anew
    return work


def correct(work: Workspace, table: str, day: str, column: str = "item_id") -> None:
    """The log's rows of a day are others, in files of the same names."""
    for path in (work.state.log / table / f"day={day}").glob("*.parquet"):
        pl.read_parquet(path).with_columns(pl.col(column).reverse()).write_parquet(path)


def test_after_a_run_nothing_is_out_of_date(ran: Ran, copy: Workspace) -> None:
    assert not failed_checks(ran.result)
    assert tables_current.lines_of(copy) == []
    assert list(tables_current.looks_of(copy)) == tables_current.assets_of(copy.project)


@pytest.mark.slow
def test_corrected_impressions_are_followed_down_the_graph(copy: Workspace) -> None:
    correct(copy, "impressions", LAST)
    assert tables_current.lines_of(copy) == [
        f"impressions {LAST}: the log's impressions changed since: materialise impressions for it again"
    ]
    assert run(copy, LAST, LAST, 'key:"impressions"').success
    lines = tables_current.lines_of(copy)
    for name in ("outcomes", "labels", "features/user_activity", "logged_inputs"):
        assert f"{name} {LAST}: made of other impressions than are stored now: materialise {name} for it again" in lines
    looked = run(copy, FIRST, FIRST, 'key:"labels"')  # a run of another slice says it too, and goes on
    assert looked.success and failed_checks(looked) == ["labels:up_to_date"]
    assert run(copy, LAST, LAST, ON_THIS_LOG).success
    assert tables_current.lines_of(copy) == []


@pytest.mark.slow
def test_what_is_made_again_is_as_if_it_had_always_been_so(copy: Workspace, tmp_path: Path) -> None:
    correct(copy, "impressions", THIRD)
    correct(copy, "outcomes", THIRD, "impression_id")
    anew = tiny_workspace(tmp_path / "anew")
    shutil.copytree(copy.state.log, anew.state.log)
    assert run(anew, select=ON_THIS_LOG).success
    assert run(copy, select=ON_THIS_LOG).success
    assert tables_current.lines_of(copy) == []
    assert left_by(copy) == left_by(anew)


def test_a_late_file_of_the_log_is_noticed_and_a_touched_one_is_none(copy: Workspace) -> None:
    folder = copy.state.log / "outcomes" / f"day={THIRD}"
    for path in folder.glob("*.parquet"):
        path.touch()
    assert tables_current.lines_of(copy) == []
    some = next(iter(folder.glob("*.parquet")))
    pl.read_parquet(some).head(3).write_parquet(folder / "late.parquet")
    lines = tables_current.lines_of(copy)
    assert f"outcomes {THIRD}: the log's outcomes changed since: materialise outcomes for it again" in lines
    assert any(line.startswith("labels ") and THIRD in line.split(":")[0] for line in lines)
    shutil.rmtree(folder)  # a day that was taken out of the log is no correction: what was read of it holds
    assert tables_current.lines_of(copy) == []


def test_a_file_that_holds_nothing_of_a_slices_impressions_changes_none_of_its_labels(copy: Workspace) -> None:
    late = copy.state.log / "outcomes" / f"day={LAST}" / "more.parquet"
    stored = [pl.read_parquet(path) for path in late.parent.glob("*.parquet")]
    schema = stored[0].schema
    pl.concat(stored).with_columns(impression_id=pl.lit(-1, schema["impression_id"])).write_parquet(late)
    assert [finding.asset for finding in tables_current.stale(copy, ["outcomes", "labels"])] == ["outcomes"]


def test_labels_with_a_digest_of_outcomes_as_it_was_made_before_stand(copy: Workspace) -> None:
    table, slice_ = copy.table("labels"), copy.project.stream.slice_of(LAST)
    sidecar, until = table.sidecar(slice_), slice_.end + timedelta(days=9)
    assert sidecar is not None
    known = outcomes_of(copy, impressions_of_labels(copy, slice_), until)
    known = known.select("impression_id", "task", "outcome_timestamp").sort(pl.all())
    heard = known.filter(pl.col("outcome_timestamp") <= datetime.fromisoformat(sidecar.made_of["as_of"]))
    of_text = hashlib.sha256(heard.write_csv().encode()).hexdigest()[:12]
    table.note(slice_, replace(sidecar, made_of={**sidecar.made_of, "log/outcomes": of_text}), sidecar.log)
    late = copy.state.log / "outcomes" / f"day={LAST}" / "more.parquet"
    stored = [pl.read_parquet(path) for path in late.parent.glob("*.parquet")]
    pl.concat(stored).with_columns(impression_id=pl.lit(-1, pl.Int64)).write_parquet(late)
    assert tables_current.stale(copy, ["labels"]) == []
    heard.head(1).write_parquet(late)
    assert len(tables_current.stale(copy, ["labels"])) == 1


def test_a_changed_teacher_is_named_with_what_it_scored(copy: Workspace, tmp_path: Path) -> None:
    teacher = copy.project.teachers[0]
    other = tiny_project(teachers=(replace(teacher, training=replace(teacher.training, batch_size=128)),))
    lines = tables_current.lines_of(tiny_workspace(tmp_path, other))
    slices = "2026-01-02...2026-01-05"
    assert lines == [
        f"teacher/large/predictions {slices}: scored by a checkpoint of another declaration: "
        "materialise teacher/large/predictions for them again",
        f"teacher/large/checkpoint {FIRST}...{LAST}: made under another declaration "
        "(model.training.batch_size: 256 is now 128, training.batch_size: 256 is now 128): "
        "materialise teacher/large/checkpoint for them again",
    ]


def test_labels_are_out_of_date_once_windows_that_were_open_have_closed(copy: Workspace) -> None:
    slice_ = copy.project.stream.slice_of(LAST)
    live = replace(copy.project, stream=replace(copy.project.stream, until=None))
    early = Workspace(live, copy.state, now=lambda: slice_.end + timedelta(minutes=1))
    assert run(early, LAST, LAST, 'key:"labels"').success
    assert tables_current.stale(replace(early, now=lambda: slice_.end + timedelta(minutes=9)), ["labels"]) == []
    (finding,) = tables_current.stale(replace(early, now=lambda: slice_.end + timedelta(days=9)), ["labels"])
    assert str(finding) == (
        f"labels {LAST}: made while windows were open that have closed since: materialise labels for it again"
    )


def test_a_release_whose_checkpoint_was_trained_again_is_named(copy: Workspace) -> None:
    table, slice_ = copy.table("labels"), copy.project.stream.slice_of("2026-01-04")
    labels = table.read([slice_])
    table.write(slice_, labels.with_columns(click=1 - labels["click"]))
    select = 'key:"student/feed_click/checkpoint" or key:"student/feed_click/control"'
    assert run(copy, "2026-01-04", LAST, select).success
    (finding,) = tables_current.stale(copy, ["student/feed_click/release"])
    assert "is served, and its slice 2026-01-04 was trained again since" in str(finding)


@pytest.mark.slow
def test_a_state_of_the_version_before_is_read_and_gets_sidecars_when_it_is_made_again(
    ran: Ran, copy: Workspace
) -> None:
    sidecars = [path for path in copy.state.folder.rglob("*.json") if path.with_suffix(".parquet").is_file()]
    for path in [*sidecars, copy.state.feast / "online.json"]:
        path.unlink()
    finding = tables_current.nothing_stale(copy, [])
    assert finding.passed and f"{finding.numbers['unknown']} slices do not say" in finding.message
    assert run(copy, LAST, LAST).success
    assert tables_current.lines_of(copy) == []
    assert sidecar_of(copy.table("labels").path(copy.project.stream.slice_of(LAST))).is_file()
    assert not sidecar_of(copy.table("labels").path(copy.project.stream.slice_of(THIRD))).is_file()
    assert run(copy).success
    assert left_by(copy) == left_by(ran.work)
    assert tables_current.nothing_stale(copy, []).numbers["unknown"] == 0


def test_a_writer_stopped_before_the_sidecar_leaves_a_slice_that_is_read_and_made_again(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, slice_ = copy.table("labels"), copy.project.stream.slice_of(LAST)
    labels = table.read([slice_])

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pipeline.sidecar.write_sidecar", stopped)
        write_stored(labels.with_columns(click=1 - labels["click"]), table.path(slice_))
    assert not table.read([slice_]).equals(labels)
    assert run(copy, LAST, LAST, 'key:"labels"').success
    assert table.read([slice_]).equals(labels) and sidecar_of(table.path(slice_)).is_file()
