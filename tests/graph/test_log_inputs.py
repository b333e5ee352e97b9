"""Every kind of input from the log to a release, and back: what training saw of a row is what serving sees of it."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from exfm.inputs import Bag, Bucket, Cross, Number, Vector
from exfm.names import inputs_service
from exfm.project import Project
from models.checkpoint import load_checkpoint
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.release import current_release
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.tables import DataError
from pipeline.transforms.inputs import tensors_for, with_calendar
from tests.graph.runs import failed_checks, run
from tests.graph.serving_rows import assert_scores_are_the_same
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import tensors_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("log_inputs")]  # what all of them begin with is made once

LAST = "2026-01-03"
MORE = ("price", "image", "tags", "words", "seen", "where_and_when", "price_range", "price_rank")


def every_kind() -> Project:
    tiny = tiny_project()
    stream = replace(
        tiny.stream,
        numbers=(Number(name="price", treatment="log1p", of_item=True), Number(name="unused")),
        vectors=(Vector(name="image", width=6, of_item=True),),
        bags=(
            Bag(name="tags", rows=32, dtype=str, length=2),
            Bag(name="words", rows=32, pooling="attention"),
            Bag(name="seen", rows=64, pooling="sum", beside=("seen_on",)),
            Bag(name="seen_on", of="surface"),
        ),
        crosses=(Cross(name="where_and_when", of=("device", "hour_of_day"), rows=100),),
        buckets=(
            Bucket(name="price_range", of="price", edges=(0.5, 1.0, 2.0, 4.0)),
            Bucket(name="price_rank", of="price", quantiles=6),
        ),
    )
    return replace(
        tiny,
        name="every_kind",
        stream=stream,
        teachers=tuple(replace(teacher, inputs=(*teacher.inputs, *MORE)) for teacher in tiny.teachers),
        students=(replace(tiny.students[0], inputs=(*tiny.students[0].inputs, *MORE)), tiny.students[1]),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    made = tiny_workspace(tmp_path_factory.mktemp("inputs"), every_kind())
    ran = run(made, last=LAST)
    assert ran.success and not failed_checks(ran)
    return made


def test_they_are_stored_once_and_read_by_both(work) -> None:  # type: ignore[no-untyped-def]
    logged = work.table("logged_inputs").read([work.project.stream.slice_at(2)])
    shown = work.table("impressions").read([work.project.stream.slice_at(2)])
    assert {"unused", "price"} <= {*shown.columns} and "unused" not in logged.columns
    for name in ("price", "image", "tags", "words", "seen", "seen_on"):
        assert logged[name].equals(shown[name], null_equal=True) and 0 < shown[name].null_count() < shown.height
    assert not {"where_and_when", "price_range", "price_rank"} & {*logged.columns, *shown.columns}
    for model in (*work.project.teachers, work.project.students[0]):
        _, manifest = CheckpointStore.of(work, model).load(work.project.stream.slice_at(2), "cpu")
        assert {*MORE} <= {*manifest.encoder} and [bag.name for bag in manifest.spec.bags] == ["tags", "words", "seen"]
        assert ("seen", "seen_on") in [(side.list, side.name) for side in manifest.spec.sides]


def test_a_release_scores_a_request_as_training_read_its_row(work) -> None:  # type: ignore[no-untyped-def]
    """Raw columns by way of pandas, features from Feast's online store's service as of then; not the logged table."""
    student, slice_ = work.project.students[0], work.project.stream.slice_at(2)
    released = current_release(work, student)
    learner, manifest = load_checkpoint(work.state.release(student.name) / released.version, "cpu")
    logged = SliceInputs(work, slice_, "cpu", False, students_columns(work.project, [student]))
    shown = with_calendar(work.table("impressions").read([slice_]), work.project.stream)
    service = work.store.get_feature_service(inputs_service(student.name))
    answer = work.store.get_historical_features(
        entity_df=shown.to_pandas(), features=service, full_feature_names=True
    ).to_df()
    assert {"image", "tags"} <= {*answer.columns}
    rows = shown.select("impression_id").join(pl.from_pandas(answer), on="impression_id", maintain_order="left")
    assert torch.equal(learner.predict(tensors_for(manifest, rows)), learner.predict(tensors_of(logged)))
    # The comparison can fail: each input counts.
    for name in ("price", "image", "tags", "words", "seen", "device"):
        other = rows.with_columns(pl.col(*(("seen", "seen_on") if name == "seen" else (name,))).reverse())
        assert not torch.equal(learner.predict(tensors_for(manifest, other)), learner.predict(tensors_of(logged))), name
    # Both of a list and what stands beside it.
    beside = rows.with_columns(pl.col("seen_on").list.reverse())
    assert not torch.equal(learner.predict(tensors_for(manifest, beside)), learner.predict(tensors_of(logged)))
    with pytest.raises(DataError, match="^seen_on is not as long as seen: 0 beside 3 in row"):
        tensors_for(manifest, rows.with_columns(seen_on=pl.lit(None, pl.List(pl.String))))
    for name in ("price", "device", "image", "seen_on"):  # also those that only a bucket or a cross is made of
        with pytest.raises(DataError, match=f"rows have no column '{name}': pass it, null if unknown"):
            tensors_for(manifest, rows.drop(name))


def test_a_release_scores_a_request_online_as_it_would_offline(work) -> None:  # type: ignore[no-untyped-def]
    assert assert_scores_are_the_same(work, work.project.students[0], "price", "image", "tags", "words")


def test_running_again_makes_nothing(work) -> None:  # type: ignore[no-untyped-def]
    from tests.graph.runs import made_by

    again = run(work, last=LAST)
    assert again.success and not made_by(again)


@pytest.mark.slow
def test_a_model_grows_by_them_and_goes_on(tmp_path: Path) -> None:
    """What was trained without them stands; the next slice continues it with all."""
    plain = every_kind()
    tiny = tiny_project()
    before = replace(
        plain,
        teachers=tuple(
            replace(each, inputs=old.inputs) for each, old in zip(plain.teachers, tiny.teachers, strict=True)
        ),
        students=tuple(
            replace(each, inputs=old.inputs) for each, old in zip(plain.students, tiny.students, strict=True)
        ),
    )
    first = tiny_workspace(tmp_path, before)
    assert run(first, last="2026-01-02").success
    kept = CheckpointStore.of(first, before.students[0]).manifest(before.stream.slice_at(1))
    later = tiny_workspace(tmp_path, plain)
    assert run(later, last=LAST).success
    store = CheckpointStore.of(later, plain.students[0])
    assert store.manifest(plain.stream.slice_at(1)).version == kept.version
    grown = store.manifest(plain.stream.slice_at(2))
    assert {*MORE} <= {*grown.grown_by} and grown.parent == kept.version
