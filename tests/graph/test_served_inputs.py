"""From answers back to what models learn from: features as they were served, and how they differ from joined ones."""

import json
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.served_inputs import ServedInputs
from exfm.state import State
from feature_repo.store import apply
from pipeline.served.inputs import COLUMNS, LATE, OTHER_ITEMS, PASSED_OVER, ROWS, WITHOUT, ServedFeatures
from pipeline.verify.tables_current import lines_of
from pipeline.workspace import Workspace
from serving.request_log import RequestLog
from tests.conftest import Ran
from tests.graph.runs import made_by, run
from tests.graph.served_world import INPUTS, OPINIONS, PLACE, World
from tests.tiny import SLICES


@pytest.fixture
def world(ran: Ran, tmp_path: Path) -> World:
    project = replace(ran.work.project, served=ServedInputs())
    state = State(folder=tmp_path / project.name, log=tmp_path / project.name / "log")
    shutil.copytree(ran.work.state.folder, state.folder)
    work = Workspace(project, state)
    apply(project, state)
    last = project.stream.slice_at(SLICES - 1)
    shown = work.table("impressions").read([last])
    joined = {
        INPUTS: work.table(INPUTS).read([last]),
        OPINIONS: work.table(OPINIONS).read([last]).join(
            shown.select("impression_id", "user_id", "item_id"), on="impression_id"
        ),
    }  # fmt: skip
    assert all(table.select(PLACE).is_unique().all() for table in joined.values())
    state.requests.mkdir()
    made = World(work, joined, RequestLog(state.requests))
    made.load(last.start)
    return made


def test_where_both_stores_agree_what_is_learnt_from_is_what_is_joined(world: World) -> None:
    shown = world.answer()
    made, failed = world.make()
    assert made == {"impressions", INPUTS, OPINIONS} and failed == {}
    world.log.stop()
    for table, read in ((INPUTS, "item_activity__click_rate_7d"), (OPINIONS, "user_opinion__click_last")):
        expected, differ = world.expected(table)
        assert world.stored(table).equals(expected.select(world.stored(table).columns), null_equal=True)
        notes = world.notes(table)
        assert notes[ROWS] == shown.height == 200 and notes[WITHOUT] == expected.height - 200
        counted = {name: (skew["rows"], skew["differ"]) for name, skew in notes[COLUMNS].items()}
        assert counted == differ and read in counted and {count for _, count in counted.values()} == {0}
    assert counted[read] == (100, 0)  # one student reads it, the other does not


def test_a_store_that_is_older_is_found_named_and_counted(world: World) -> None:
    world.load(world.slice.start - 2 * world.work.project.stream.slice_length)
    world.answer()
    _, failed = world.make()
    assert sorted(failed) == [f"{INPUTS}:served_skew", f"{OPINIONS}:served_skew"]
    world.log.stop()
    for table, read in ((INPUTS, "item_activity__click_rate_7d"), (OPINIONS, "user_opinion__click_last")):
        expected, differ = world.expected(table)
        counted = {name: (skew["rows"], skew["differ"]) for name, skew in world.notes(table)[COLUMNS].items()}
        assert counted == differ and differ[read][1] > 20
        # It is what was served that models learn from, and nothing else of a row changes.
        stored = world.stored(table)
        assert stored.equals(expected.select(stored.columns), null_equal=True)
        assert expected[read].to_list() != world.joined_now(table)[read].to_list()
    said = failed[f"{INPUTS}:served_skew"]
    assert re.search(r"item_activity__\w+ was served otherwise than it is joined in \d+ of 100 rows", said), said
    assert "the online store was older than the offline one" in said and "FeatureView(item_activity).delay" in said


def test_entities_that_the_store_does_not_know_are_served_as_nothing(world: World) -> None:
    world.load(world.work.project.stream.first_slice)
    world.answer(["feed_convert"])
    _, failed = world.make()
    assert (
        "as nothing: the online store did not know them, or not within its ttl of 8 days"
        in failed[f"{INPUTS}:served_skew"]
    )
    skew = world.notes(INPUTS)[COLUMNS]["item_activity__click_rate_7d"]
    assert skew["served_null"] == skew["differ"] > 50 and skew["joined_null"] == 0


def test_requests_that_bring_other_values_than_are_logged_are_named(world: World) -> None:
    world.answer(country="Mars")
    _, failed = world.make()
    assert failed == {
        f"{INPUTS}:served_skew": "country was served otherwise than it is joined in 200 of 200 rows: requests brought "
        "other values than the log has: pass what is logged in requests, too"
    }
    assert "Mars" not in world.stored(INPUTS)["country"].to_list()  # the log's columns are the log's


@pytest.mark.slow
def test_a_spool_that_becomes_a_file_or_files_that_go_make_nothing_again(world: World) -> None:
    world.answer()
    assert list(world.work.state.requests.glob("*.arrows"))
    assert world.make()[0] == {"impressions", INPUTS, OPINIONS}
    first = world.stored(INPUTS)
    world.log.stop()
    assert not list(world.work.state.requests.glob("*.arrows"))
    assert world.stale() == [] and world.make()[0] == set()
    # Made again of files it is what it was of spools.
    shutil.rmtree(world.work.table(INPUTS).path(world.slice).parent)
    assert world.make()[0] == {INPUTS}
    assert world.stored(INPUTS).equals(first, null_equal=True)
    shutil.rmtree(world.work.state.requests)
    assert world.stale() == [] and world.make()[0] == set()


@pytest.mark.slow
def test_a_spool_that_is_found_late_makes_its_slice_again_once(world: World, tmp_path: Path) -> None:
    world.load(world.slice.start - 2 * world.work.project.stream.slice_length)
    world.answer()
    late = [(path, path.rename(tmp_path / path.name)) for path in world.work.state.requests.glob("*.arrows")]
    world.make()
    before = world.stored(INPUTS)
    assert world.notes(INPUTS)[ROWS] == 0 and world.stale() == []
    for path, aside in late:
        aside.rename(path)
    assert world.stale() == [
        f"{table} 2026-01-05: made of other request_log than are stored now: materialise {table} for it again"
        for table in (INPUTS, OPINIONS)
    ]
    assert world.make()[0] == {INPUTS, OPINIONS}
    assert world.notes(INPUTS)[ROWS] == 200 and not world.stored(INPUTS).equals(before, null_equal=True)
    assert world.stale() == [] and world.make()[0] == set()


@pytest.mark.slow
def test_another_time_between_request_and_impression_makes_answered_slices_again(world: World) -> None:
    world.answer()  # each 0 to 6 seconds before its impression
    world.make()
    declared = replace(world.work.project, served=ServedInputs(within=timedelta(seconds=1)))
    world.work = Workspace(declared, world.work.state)
    assert [each.partition(":")[0] for each in world.stale()] == [f"{INPUTS} 2026-01-05", f"{OPINIONS} 2026-01-05"]
    world.make()
    kept = sum(at % 7 <= 1 for at in range(200))
    assert (world.notes(INPUTS)[ROWS], world.notes(INPUTS)[LATE]) == (kept, 200 - kept) and world.stale() == []


@pytest.mark.slow
def test_parts_are_what_a_whole_slice_is(world: World) -> None:
    world.load(world.slice.start - 2 * world.work.project.stream.slice_length)
    world.answer()
    world.make()
    whole, notes = world.stored(INPUTS), world.notes(INPUTS)
    project = world.work.project
    shutil.rmtree(world.work.table(INPUTS).path(world.slice).parent)
    world.work = Workspace(replace(project, stream=replace(project.stream, part_rows=211)), world.work.state)
    assert INPUTS in world.make()[0]
    assert world.stored(INPUTS).equals(whole, null_equal=True)
    again = world.notes(INPUTS)
    assert {name: again[name] for name in (ROWS, WITHOUT, COLUMNS)} == {
        name: notes[name] for name in (ROWS, WITHOUT, COLUMNS)
    }


def test_ids_of_other_candidates_and_files_of_an_earlier_exfm_are_passed_over_and_said(world: World) -> None:
    world.answer(mixed=True)
    day = world.work.state.requests / "feed_click" / f"day={world.slice.key}"
    day.mkdir(parents=True)
    pl.DataFrame({"impression_id": ["a-0"], "event_timestamp": [world.slice.start]}).write_parquet(
        day / "v-1.2.parquet"
    )
    (day / "v-1.3.parquet").write_bytes(b"PAR1 no parquet")
    world.make()
    notes = world.notes(INPUTS)
    assert (notes[ROWS], notes[OTHER_ITEMS], notes[PASSED_OVER]) == (0, 200, 2)
    features = ServedFeatures(world.work, ServedInputs(), world.work.project.logged_columns.stored)
    features.into(world.work.table("impressions").read([world.slice]).with_columns(item_activity__click_rate_7d=0.5))
    assert [sentence.partition(":")[0] for sentence in features.sentences()] == [
        "the request log has 1 file damaged, or gone since they were listed",
        "the request log has 1 file of an earlier exfm, whose impression_id is no int64",
        "200 impressions have the impression_id of a candidate that was another item",
    ]


def test_a_project_that_does_not_declare_it_is_left_alone(world: World) -> None:
    world.load(world.slice.start - 2 * world.work.project.stream.slice_length)
    world.answer()
    world.work = Workspace(replace(world.work.project, served=None), world.work.state)
    assert not world.make()[1]
    assert ROWS not in world.notes(INPUTS) and "request_log" not in world.notes(INPUTS)
    joined = world.joined[INPUTS].sort(PLACE)
    assert world.stored(INPUTS).sort(PLACE).drop("impression_id").equals(joined.drop("impression_id"), null_equal=True)


@pytest.mark.slow
def test_models_learn_from_it_and_all_that_is_stored_stands(world: World) -> None:
    """The slice's labels follow the answers' ids, teacher and students are trained on it, and a second run is idle."""
    world.work = Workspace(replace(world.work.project, simulation=None), world.work.state)
    labels = world.work.table("labels").read([world.slice]).select(world.work.project.stream.task_names).sum().row(0)
    before = {name: manifest_version(world.work, name) for name in ("teacher/large", "student/feed_convert")}
    world.load(world.slice.start - 2 * world.work.project.stream.slice_length)
    world.answer()
    done = run(world.work, world.slice.key, world.slice.key)
    assert done.success and world.notes(INPUTS)[ROWS] == 200
    assert (
        world.work.table("labels").read([world.slice]).select(world.work.project.stream.task_names).sum().row(0)
        == labels
    )
    assert all(manifest_version(world.work, name) != version for name, version in before.items())
    assert lines_of(world.work) == []
    again = run(world.work, world.slice.key, world.slice.key)
    assert again.success and not made_by(again)


def manifest_version(work: Workspace, model: str) -> str:
    last = work.project.stream.slice_at(SLICES - 1)
    return str(json.loads((work.state.checkpoints(model) / last.folder / "manifest.json").read_text())["version"])
