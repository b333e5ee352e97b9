"""Tables that somebody else keeps, read as of each impression: a catalogue, profiles, a view of another Feast repo."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import torch
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

from exfm.computed_views import PythonView, SqlView
from exfm.inputs import Bag, Number, Vector
from exfm.log_columns import Column
from exfm.names import inputs_service
from exfm.project import Project
from exfm.source_views import SourceView
from models.checkpoint import load_checkpoint
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.release import current_release
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.transforms.inputs import tensors_for, with_calendar
from pipeline.verify.tables_current import stale
from tests.graph.runs import failed_checks, made_by, run, sentences
from tests.graph.serving_rows import assert_scores_are_the_same
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import tensors_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("source_views")]  # what all of them begin with is made once

FIRST, DAY, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
LAST = "2026-01-03"
CATALOGUE = SourceView(
    name="catalogue", entities=("item_id",), path="catalogue", timestamp="valid_from",
    inputs=(
        Column(name="category", rows=16, dtype=str), Number(name="price", treatment="log1p"),
        Vector(name="image", width=3), Bag(name="tags", rows=32),
    ),
)  # fmt: skip
PROFILE = SourceView(
    name="profile", entities=("user_id",), path="profiles.parquet", inputs=(Column(name="age_group", rows=8),)
)
THEIRS = SourceView(
    name="theirs", entities=("user_id",), feast="their_repo", view="spending", expires=2 * DAY,
    inputs=(Number(name="spent"), Column(name="level", rows=8)),
)  # fmt: skip
SEEN = SqlView(
    name="seen", entities=("user_id",), inputs=(Number(name="items"), Column(name="last_item", rows=64)), reach=2 * DAY,
    every=DAY, sql="""
        SELECT user_id, count(DISTINCT item_id) AS items, arg_max(item_id, event_timestamp) AS last_item
        FROM impressions GROUP BY user_id""",
)  # fmt: skip
HOURS = PythonView(
    name="hours", entities=("user_id",), inputs=(Number(name="hour"),), reach=DAY, every=DAY,
    function="tests.transforms.test_computed:mean_hour",
)  # fmt: skip
VIEWS = (CATALOGUE, PROFILE, THEIRS, SEEN, HOURS)


def with_sources() -> Project:
    tiny = tiny_project()
    names = tuple(view.name for view in VIEWS)
    return replace(
        tiny,
        name="sources",
        feature_views=(*tiny.feature_views, *VIEWS),
        teachers=tuple(replace(teacher, inputs=(*teacher.inputs, *names)) for teacher in tiny.teachers),
        students=(
            replace(tiny.students[0], inputs=(*tiny.students[0].inputs, *names)),
            replace(tiny.students[1], inputs=(*tiny.students[1].inputs, "catalogue:price")),
        ),
    )


def catalogue() -> pl.DataFrame:
    """Items 0 to 39 in up to four versions: before the stream, in it, at an impression's very second, after it."""
    moments = [FIRST - 100 * DAY, FIRST + 6 * HOUR, FIRST + 30 * HOUR, FIRST + 90 * DAY]
    rows = [
        {
            "item_id": item, "valid_from": moment, "category": f"c{(item + version) % 5}",
            "price": 1.5 * item + version, "image": [float(item), float(version), 0.5], "tags": [item % 7, version],
        }
        for item in range(40) for version, moment in enumerate(moments) if (item + version) % 4
    ]  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.col("valid_from").cast(pl.Datetime("ms", "UTC")))


def write_sources(log: Path) -> None:
    (log / "catalogue" / "day=1").mkdir(parents=True, exist_ok=True)
    halves = catalogue()
    halves.head(50).write_parquet(log / "catalogue" / "a.parquet")
    halves.tail(halves.height - 50).write_parquet(log / "catalogue" / "day=1" / "b.parquet")
    pl.DataFrame({"user_id": range(150), "age_group": [user % 6 for user in range(150)]}).write_parquet(
        log / "profiles.parquet"
    )
    their_repository(log / "their_repo")


def their_repository(folder: Path) -> FeatureStore:
    """As another team makes one: their own names, Feast's stock offline store, plain ``feast apply``."""
    folder.mkdir(parents=True, exist_ok=True)
    stamps = [FIRST - 5 * HOUR + hours * HOUR for hours in (0, 10, 20, 40)]
    rows = [
        {"usr": user, "at": stamp, "made": stamp, "amount": float(user + index), "level": index}
        for user in range(100) for index, stamp in enumerate(stamps)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "spending.parquet")
    (folder / "feature_store.yaml").write_text(
        "project: theirs\nprovider: local\nregistry: registry.db\nonline_store:\n  type: sqlite\n  path: online.db\n"
        "offline_store:\n  type: duckdb\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(folder))
    entity = Entity(name="person", join_keys=["user_id"], value_type=ValueType.INT64)
    source = FileSource(
        name="spending", path=str(folder / "spending.parquet"), timestamp_field="at", created_timestamp_column="made",
        field_mapping={"usr": "user_id", "amount": "spent"},
    )  # fmt: skip
    fields = {"user_id": Int64, "spent": Float64, "level": Int64}
    schema = [Field(name=name, dtype=dtype) for name, dtype in fields.items()]
    view = FeatureView(name="spending", entities=[entity], ttl=2 * DAY, source=source, schema=schema)
    store.apply([entity, source, view])
    return store


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    made = tiny_workspace(tmp_path_factory.mktemp("sources"), with_sources())
    write_sources(made.state.log)
    ran = run(made, last=LAST)
    assert ran.success and not failed_checks(ran), (sentences(ran), failed_checks(ran))
    return made


def test_each_impression_sees_the_version_that_held_then(work) -> None:  # type: ignore[no-untyped-def]
    """By a loop over all versions; a key that is not there has nulls, and keeps its row."""
    versions = catalogue().sort("valid_from")
    checked = dict.fromkeys(("none", "old", "new"), 0)
    for index in range(3):
        logged = work.table("logged_inputs").read([work.project.stream.slice_at(index)])
        for row in logged.iter_rows(named=True):
            held = versions.filter(
                pl.col("item_id") == row["item_id"], pl.col("valid_from") <= row["event_timestamp"]
            ).tail(1)
            if held.is_empty():
                assert row["catalogue__category"] is None and row["catalogue__image"] is None
                checked["none"] += 1
                continue
            (mine,) = held.iter_rows(named=True)
            assert row["catalogue__category"] == mine["category"] and row["catalogue__tags"] == mine["tags"]
            assert row["catalogue__image"] == mine["image"] and row["catalogue__price"] == mine["price"]
            checked["old" if mine["valid_from"] < FIRST else "new"] += 1
            known = row["user_id"] < 150
            assert row["profile__age_group"] == (row["user_id"] % 6 if known else None)
    assert min(checked.values()) > 50


def test_a_view_of_another_repository_answers_as_its_own_store_does(work) -> None:  # type: ignore[no-untyped-def]
    theirs = FeatureStore(repo_path=str(work.state.log / "their_repo"))
    for index in range(3):
        logged = work.table("logged_inputs").read([work.project.stream.slice_at(index)])
        asked = logged.select("impression_id", "user_id", "event_timestamp").to_pandas()
        answer = theirs.get_historical_features(asked, ["spending:spent", "spending:level"]).to_df()
        mine = logged.sort("impression_id").select("theirs__spent", "theirs__level")
        other = pl.from_pandas(answer).sort("impression_id")
        assert mine["theirs__level"].equals(other["level"].cast(pl.Int64).alias("theirs__level"), null_equal=True)
        assert mine["theirs__spent"].equals(other["spent"].cast(pl.Float32).alias("theirs__spent"), null_equal=True)
    assert 0 < mine["theirs__level"].null_count() < mine.height


def test_a_release_scores_a_request_online_as_it_would_offline(work) -> None:  # type: ignore[no-untyped-def]
    assert assert_scores_are_the_same(work, work.project.students[0], *(view.name for view in VIEWS))


def test_online_is_what_held_at_the_end(work) -> None:  # type: ignore[no-untyped-def]
    end = FIRST + 3 * DAY
    newest = catalogue().filter(pl.col("valid_from") <= end).sort("valid_from").group_by("item_id").last()
    keys = [{"item_id": item} for item in newest["item_id"]]
    features = [f"catalogue:{name}" for name in CATALOGUE.features]
    online = work.store.get_online_features(features, keys).to_dict()
    assert online["category"] == newest["category"].to_list() and online["price"] == newest["price"].to_list()
    assert [list(image) for image in online["image"]] == newest["image"].to_list()
    assert [list(tags) for tags in online["tags"]] == newest["tags"].to_list()


def test_computed_views_are_joined_and_served_as_they_were_known(work) -> None:  # type: ignore[no-untyped-def]
    stream = work.project.stream
    shown = work.table("impressions").read([stream.slice_at(index) for index in range(3)])
    for stamp, logged in (
        (FIRST + 2 * DAY, work.table("logged_inputs").read([stream.slice_at(2)])),
        (FIRST + 3 * DAY, None),
    ):
        seen = shown.filter(pl.col("event_timestamp").is_between(stamp - 2 * DAY, stamp, closed="left"))
        expected = {
            user: (float(group["item_id"].n_unique()), group.sort("event_timestamp")["item_id"][-1])
            for (user,), group in seen.group_by("user_id")
        }
        if logged is not None:
            rows = logged.select("user_id", "seen__items", "seen__last_item", "hours__hour")
            assert all(expected.get(user, (None, None)) == tuple(values) for user, *values, _ in rows.iter_rows())
            assert 0 < rows["hours__hour"].null_count() < rows.height
        else:
            keys = [{"user_id": user} for user in expected]
            online = work.store.get_online_features(["seen:items", "seen:last_item"], keys).to_dict()
            assert list(zip(online["items"], online["last_item"], strict=True)) == list(expected.values())


def test_a_release_scores_a_request_as_training_read_its_row(work) -> None:  # type: ignore[no-untyped-def]
    student, slice_ = work.project.students[0], work.project.stream.slice_at(2)
    learner, manifest = load_checkpoint(
        work.state.release(student.name) / current_release(work, student).version, "cpu"
    )
    assert {"catalogue__category", "theirs__level", "profile__age_group"} <= {*manifest.spec.id_names}
    logged = SliceInputs(work, slice_, "cpu", False, students_columns(work.project, [student]))
    shown = with_calendar(work.table("impressions").read([slice_]), work.project.stream)
    service = work.store.get_feature_service(inputs_service(student.name))
    answer = work.store.get_historical_features(shown.to_pandas(), service, full_feature_names=True).to_df()
    rows = shown.select("impression_id").join(pl.from_pandas(answer), on="impression_id", maintain_order="left")
    expected = learner.predict(tensors_of(logged))
    assert torch.equal(learner.predict(tensors_for(manifest, rows)), expected)
    for name in ("catalogue__category", "catalogue__price", "catalogue__image", "catalogue__tags", "theirs__spent"):
        other = rows.with_columns(pl.col(name).reverse())
        assert not torch.equal(learner.predict(tensors_for(manifest, other)), expected), name


def test_running_again_makes_nothing_and_a_new_version_only_what_it_holds_for(work) -> None:  # type: ignore[no-untyped-def]
    assert not made_by(run(work, last=LAST))
    path = work.state.log / "catalogue" / "c.parquet"
    moment = FIRST + 2 * DAY + 12 * HOUR
    catalogue().head(1).with_columns(
        item_id=pl.lit(7, pl.Int64), valid_from=pl.lit(moment, pl.Datetime("ms", "UTC"))
    ).write_parquet(path)
    made = {(key.to_user_string(), slice_) for key, slice_ in made_by(run(work, last=LAST))}
    assert ("logged_inputs", "2026-01-03") in made
    assert not [each for each in made if each[0] == "logged_inputs" and each[1] != "2026-01-03"]
    stands = CheckpointStore.of(work, work.project.teachers[0]).manifest(work.project.stream.slice_at(1))
    assert stands.parent is not None and ("teacher/large/checkpoint", "2026-01-02") not in made


@pytest.mark.long
def test_a_source_that_is_gone_or_of_other_items_is_said(work, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """In one sentence when it is needed; looking at what is stored, as the plan does, is no reason to stop."""
    shutil.copytree(work.state.folder, tmp_path / "sources")
    moved = tiny_workspace(tmp_path, with_sources())
    shutil.rmtree(moved.state.log / "catalogue")
    assert [fault.why for fault in stale(moved) if fault.asset == "features/catalogue"]
    assert "is no parquet file and holds none: write it there" in sentences(run(moved, last=LAST))[0]
    (moved.state.log / "catalogue").mkdir()
    catalogue().with_columns(pl.col("item_id") + 10**6).write_parquet(moved.state.log / "catalogue" / "a.parquet")
    instance = dg.DagsterInstance.ephemeral()
    ran = run(moved, last=LAST, instance=instance)
    assert ran.success
    logged = [entry.user_message for entry in instance.all_logs(ran.run_id)]
    assert [text for text in logged if "no impression finds a row of catalogue: compare its item_id" in text]
