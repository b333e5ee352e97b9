"""A log whose labels are a column of its impressions: the same labels, features and models as from outcomes."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.computed_views import SqlView
from exfm.declaration import digest
from exfm.errors import DeclarationError
from exfm.history_views import HistoryView
from exfm.inputs import Number
from exfm.project import Project
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.provenance import DECLARATION, DECLARED, of_view
from pipeline.streams.contract import schema_of
from pipeline.streams.reader import read_log
from pipeline.transforms.labels import join_labels, with_labelled
from pipeline.workspace import Workspace
from tests.graph.runs import failed_checks, made_by, run, sentences
from tests.streams.test_reader import START, impressions, write
from tests.tiny import tiny_project, tiny_workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("label_columns")]  # what all of them begin with is made once

LAST = "2026-01-03"
COLUMNS = {"click": "clicked", "convert": "convert"}


def labelled(*names: str, **changes: object) -> Project:
    tiny = tiny_project()
    tasks = tuple(replace(task, label=COLUMNS[task.name] if task.name in names else None) for task in tiny.stream.tasks)
    return replace(tiny, name="labelled", stream=replace(tiny.stream, tasks=tasks), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Both tasks: the log has no outcomes at all; nor interactions, which no view reads."""
    tiny = tiny_project()
    views = tuple(view for view in tiny.feature_views if "interactions" not in view.sources)
    names = {view.name for view in tiny.feature_views} - {view.name for view in views}

    def without(inputs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in inputs if name.partition(":")[0] not in names)

    project = labelled(
        "click", "convert", feature_views=views,
        teachers=tuple(replace(teacher, inputs=without(teacher.inputs)) for teacher in tiny.teachers),
        students=tuple(replace(student, inputs=without(student.inputs)) for student in tiny.students),
    )  # fmt: skip
    made = tiny_workspace(tmp_path_factory.mktemp("labels"), project)
    assert run(made, last=LAST, select='key:"simulated_log"').success
    for table in ("outcomes", "interactions"):
        shutil.rmtree(made.state.log / table)
    ran = run(made, last=LAST, select='not (group:"studies" or key:"simulated_log")')
    assert ran.success and not failed_checks(ran), (sentences(ran), failed_checks(ran))
    return made


def test_labels_are_the_column_when_the_window_has_closed(work) -> None:  # type: ignore[no-untyped-def]
    for index in range(2):
        slice_ = work.project.stream.slice_at(index)
        shown, labels = work.table("impressions").read([slice_]), work.table("labels").read([slice_])
        for task, column in COLUMNS.items():
            assert labels[task].equals(shown[column].alias(task)) and 0 < labels[task].sum() < labels.height
    assert all(work.table("outcomes").rows(work.project.stream.slice_at(index)) == 0 for index in range(3))


def test_features_count_them_from_when_they_are_known(work) -> None:  # type: ignore[no-untyped-def]
    """By a loop: of each user and surface the clicks of the day before whose window had ended by then."""
    stream = work.project.stream
    shown = work.table("impressions").read([stream.slice_at(index) for index in range(3)])
    window = stream.task("click").window
    rows = work.features("user_surface_activity").read([stream.slice_at(2)])
    newest = rows.group_by("user_id", "surface").agg(pl.all().sort_by("event_timestamp").last())
    compared = 0
    for user, surface, stamp, count in newest.select("user_id", "surface", "event_timestamp", "click_1d").iter_rows():
        known = pl.col("event_timestamp") + window
        mine = shown.filter(
            pl.col("user_id") == user, pl.col("surface") == surface, pl.col("clicked") == 1,
            known >= stamp - timedelta(days=1), known < stamp,
        )  # fmt: skip
        assert mine.height == count
        compared += count
    assert compared > 20


def test_models_learn_from_them(work) -> None:  # type: ignore[no-untyped-def]
    for model in (*work.project.teachers, *work.project.students):
        manifest = CheckpointStore.of(work, model).manifest(work.project.stream.slice_at(1))
        assert manifest.rows > 100


def test_a_log_of_outcomes_and_a_label_column_is_learnt_as_from_outcomes_alone(tmp_path: Path) -> None:
    """Where the column says what the outcomes said, labels are equal; the other task's outcomes are read as before."""
    work = tiny_workspace(tmp_path, labelled("convert"))
    plain = tiny_workspace(tmp_path)
    select = 'key:"simulated_log" or key:"impressions" or key:"outcomes" or key:"interactions" or key:"labels"'
    for each in (work, plain):
        ran = run(each, last=LAST, select=select)
        assert ran.success, sentences(ran)
    for index in range(2):
        slice_ = work.project.stream.slice_at(index)
        assert work.table("labels").read([slice_]).equals(plain.table("labels").read([slice_]))
        assert set(work.table("outcomes").read([slice_])["task"]) == {"click"}


def test_an_unknown_label_is_unknown_and_another_value_is_quarantined(tmp_path: Path) -> None:
    stream = labelled("click").stream
    for values, kept in (([True, None, False], [1, None, 0]), ([1.0, float("nan"), 0.0], [1, None, 0])):
        write(tmp_path, impressions().with_columns(clicked=pl.Series(values)))
        read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
        assert read.frame.sort("impression_id")["clicked"].to_list() == [kept[1], kept[2], kept[0]]
    nothing = pl.DataFrame(schema=schema_of(stream, "outcomes"))
    closed = join_labels(read.frame, nothing, stream, START + timedelta(days=3)).frame
    assert closed.sort("impression_id")["click"].to_list() == [None, 0, 1]
    assert join_labels(read.frame, nothing, stream, START).frame["click"].null_count() == 3
    write(tmp_path, impressions().with_columns(clicked=pl.Series([1, 2, 0])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    assert (
        read.quarantine["reason"].to_list() == ["clicked is neither 0 nor 1, and its Task has no above or ceiling"]
        and read.frame.height == 2
    )


@pytest.mark.parametrize("label", ["user_id", "hour_of_day", "created_timestamp"])
def test_a_label_can_not_be_an_input(label: str) -> None:
    stream = tiny_project().stream
    with pytest.raises(DeclarationError, match=rf"^Task\(click\)\.label: '{label}' is also an input"):
        replace(stream, tasks=(replace(stream.tasks[0], label=label),))


def test_a_value_is_a_label_by_its_border(tmp_path: Path) -> None:
    """Two tasks of one column; by hand, and what is no value."""
    tiny = tiny_project().stream
    click, convert = tiny.tasks
    tasks = (replace(click, label="seconds", above=3.0), replace(convert, label="seconds", above=30.0))
    stream = replace(tiny, tasks=tasks)
    write(tmp_path, impressions().with_columns(seconds=pl.Series([3.0, 31.5, float("nan")])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    nothing = pl.DataFrame(schema=schema_of(stream, "outcomes"))
    closed = join_labels(read.frame, nothing, stream, START + timedelta(days=9)).frame
    by_id = closed.join(read.frame.select("impression_id", "seconds"), on="impression_id").sort("seconds")
    assert by_id.select("seconds", "click", "convert").rows()[:2] == [(3.0, 0, 0), (31.5, 1, 1)]
    assert by_id.select("click", "convert").row(2) == (None, None)  # NaN is not known
    told = with_labelled(stream, read.frame.lazy(), nothing.lazy()).collect()
    assert sorted(told["task"]) == ["click", "convert"]
    write(tmp_path, impressions().with_columns(seconds=pl.Series([1, None, 100])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    assert sorted(read.frame["seconds"].to_list(), key=lambda value: value or 0) == [None, 1.0, 100.0]
    write(tmp_path, impressions().with_columns(seconds=pl.Series([1.0, float("inf"), 2.0])))
    read = read_log(tmp_path, stream, "impressions", START, START + timedelta(days=1))
    assert read.quarantine["reason"].to_list() == ["seconds is infinite"]


@pytest.mark.long
def test_models_learn_from_values(tmp_path: Path) -> None:
    """The same events as from outcomes, so the same labels and positives."""
    tiny = tiny_project()
    tasks = tuple(replace(task, label=f"{task.name}_value", above=2.5) for task in tiny.stream.tasks)
    work = tiny_workspace(tmp_path, replace(tiny, name="values", stream=replace(tiny.stream, tasks=tasks)))
    plain = tiny_workspace(tmp_path)
    select = 'key:"simulated_log" or key:"impressions" or key:"outcomes" or key:"interactions" or key:"labels"'
    ran = run(work, last=LAST)
    assert ran.success and not failed_checks(ran), (sentences(ran), failed_checks(ran))
    assert run(plain, last=LAST, select=select).success
    for index in range(2):
        slice_ = work.project.stream.slice_at(index)
        told, happened = (each.table("labels").read([slice_]).sort("impression_id") for each in (work, plain))
        assert told["click"].sum() == happened["click"].sum() > 50
    manifest = CheckpointStore.of(work, work.project.teachers[0]).manifest(work.project.stream.slice_at(1))
    assert manifest.rows > 100


def test_a_border_without_a_value_and_a_value_without_a_border_are_refused() -> None:
    stream = tiny_project().stream
    click, convert = stream.tasks
    with pytest.raises(DeclarationError, match=r"^Task\(click\)\.above: 3\.0 has no value"):
        replace(click, above=3.0)
    with pytest.raises(DeclarationError, match=r"^Task\(click\)\.label: 'seconds' is a value of task 'convert'"):
        replace(stream, tasks=(replace(click, label="seconds"), replace(convert, label="seconds", above=1.0)))


@pytest.mark.parametrize(
    "change", ["above", *(pytest.param(name, marks=pytest.mark.long) for name in ("window", "ceiling", "label"))]
)
def test_a_task_that_is_declared_otherwise_makes_again_what_counts_it(tmp_path: Path, change: str) -> None:
    """What stands afterwards is what a fresh run has: labels, and views that count them of every kind."""
    tiny = tiny_project()
    click, convert = tiny.stream.tasks
    tasks = (replace(click, label="first", above=2.0), replace(convert, label="second", above=2.0))
    if change == "window":  # of outcomes, and not the longest
        tasks = (replace(click, window=timedelta(hours=6)), convert)
    day, teacher = timedelta(days=1), replace(tiny.teachers[0], inputs=("user_id", "item_id", "surface"))
    views = (
        replace(tiny.feature_views[0], name="counted", entities=("user_id",), counts=("click",), rates=()),
        HistoryView(name="liked", entity="user_id", of="item_id", source="click", window=day, every=day),
        SqlView(
            name="summed", entities=("user_id",), inputs=(Number(name="clicks"),), reach=day, every=day,
            reads=("impressions", "outcomes"),
            sql="SELECT user_id, count(*)::DOUBLE AS clicks FROM outcomes WHERE task = 'click' GROUP BY user_id",
        ),
    )  # fmt: skip
    stream = replace(tiny.stream, tasks=tasks)
    project = replace(
        tiny, name="again", stream=stream, feature_views=views, prediction_views=(), students=(), teachers=(teacher,)
    )
    changes: dict[str, object] = {"above": 3.5, "ceiling": 4.0, "label": "second", "window": timedelta(hours=2)}
    border = {"above": None} if change == "ceiling" else {}
    other = replace(tasks[0], **{change: changes[change], **border})  # type: ignore[arg-type]
    # Swapped, so that the impressions have the same columns.
    beside = replace(tasks[1], label="first") if change == "label" else tasks[1]
    declared = replace(project, stream=replace(project.stream, tasks=(other, beside)))
    select = 'key:"impressions" or key:"outcomes" or key:"interactions" or key:"labels" or group:"features"'
    work = tiny_workspace(tmp_path / "one", project)
    ran = run(work, last=LAST, select=f'key:"simulated_log" or {select}')
    assert ran.success, sentences(ran)
    again, fresh = Workspace(declared, work.state), tiny_workspace(tmp_path / "two", declared)
    shutil.copytree(work.state.log, fresh.state.log)
    for each in (again, fresh):
        ran = run(each, last=LAST, select=select)
        assert ran.success, sentences(ran)
    changed = 0
    for view in declared.feature_views:
        for index in range(3):
            slice_ = declared.stream.slice_at(index)
            rows = [each.features(view.name).read([slice_]) for each in (again, fresh)]
            assert rows[0].equals(rows[1]), (view.name, slice_.key)
            changed += not rows[0].is_empty()
    assert changed > 3


@pytest.mark.long
def test_views_of_an_earlier_exfm_stand(tmp_path: Path) -> None:
    """They did not say which tasks they count, and an upgrade is no reason to count again."""
    work = tiny_workspace(tmp_path)
    select = 'key:"simulated_log" or key:"impressions" or key:"outcomes" or key:"interactions" or group:"features"'
    assert run(work, last=LAST, select=select).success
    counting = [view for view in work.project.feature_views if "click" in view.sources]
    assert counting
    for view in counting:
        for index in range(3):
            table, slice_ = work.features(view.name), work.project.stream.slice_at(index)
            sidecar = table.sidecar(slice_)
            assert sidecar is not None and "tasks" in sidecar.notes[DECLARED]
            made_of = {**sidecar.made_of, DECLARATION: digest(view)}
            notes = {**sidecar.notes, DECLARED: {"view": sidecar.notes[DECLARED]["view"]}}
            table.note(slice_, replace(sidecar, made_of=made_of, notes=notes), sidecar.log)
            assert of_view(work, view, slice_).of == made_of
    again = run(work, last=LAST, select='group:"features"')
    assert again.success and not [key for key, _ in made_by(again) if key.path[0] == "features"]
