"""The items that are retrieved from: those of the log by brute force, slice by slice, after changes and damage."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.inputs import Number
from exfm.learning import Student
from exfm.log_columns import Column
from exfm.networks import TwoTower
from exfm.source_views import SourceView
from exfm.state import State
from pipeline.releases import items
from pipeline.releases.items import FILE, SEEN, UNTIL, refresh_items, refreshed
from pipeline.workspace import Workspace
from tests.conftest import Ran


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    """A copy of what was stored, and a student with two towers that was declared since."""
    folder = tmp_path / ran.work.state.folder.name
    shutil.copytree(ran.work.state.folder / "tables" / "impressions", folder / "tables" / "impressions")
    first, *others = ran.work.project.students
    finder = replace(first, network=TwoTower(embedding=4, hidden=(8, 4)), inputs=("user_id", "item_id", "country"))
    project = replace(ran.work.project, students=(finder, *others))
    return Workspace(project, State(folder=folder, log=ran.work.state.log))


def finder(work: Workspace) -> Student:
    return work.project.students[0]


def stored(work: Workspace) -> pl.DataFrame:
    return pl.read_parquet(work.state.release(finder(work).name) / FILE)


def shown(work: Workspace, slices: int | None = None) -> pl.DataFrame:
    """Each item of the surface with when it was shown last, by reading all at once."""
    table = work.table("impressions")
    rows = table.read(table.stored(work.project.stream)[slices:] if slices else table.stored(work.project.stream))
    of_feed = rows.filter(pl.col("surface") == "feed", pl.col("item_id").is_not_null())
    last = of_feed.group_by("item_id").agg(pl.col("event_timestamp").max().alias(SEEN))
    return last.sort(SEEN, "item_id", descending=[True, False])


def test_they_are_what_the_surface_has_shown_newest_first(work: Workspace) -> None:
    count, expected = refresh_items(work, finder(work)), shown(work)
    assert stored(work).select("item_id", SEEN).equals(expected) and count == expected.height > 50
    other = replace(finder(work), surface="video")
    refresh_items(work, other)
    assert set(stored(work)["item_id"]) != set(expected["item_id"])
    refresh_items(work, replace(finder(work), surface=None))
    assert set(stored(work)["item_id"]) > set(expected["item_id"])


def test_a_new_slice_is_added_and_only_it_is_read(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    table, stream = work.table("impressions"), work.project.stream
    *_, newest = table.stored(stream)
    away = work.state.folder / "away"
    table.path(newest).parent.rename(away)
    refresh_items(work, finder(work))
    before = stored(work)
    assert before.select("item_id", SEEN).equals(shown(work))
    away.rename(table.path(newest).parent)
    read: list[str] = []
    real = items._items_of
    monkeypatch.setattr(items, "_items_of", lambda *given: read.append(given[2].slice.key) or real(*given))
    refresh_items(work, finder(work))
    assert read == [newest.key] and not before.equals(stored(work))
    assert stored(work).select("item_id", SEEN).equals(shown(work))
    file = work.state.release(finder(work).name) / FILE
    was = file.stat()
    refresh_items(work, finder(work))  # again: nothing is read, nothing is written
    assert read == [newest.key] and file.stat() == was


def test_a_slice_that_was_made_again_is_read_again(work: Workspace) -> None:
    refresh_items(work, finder(work))
    table = work.table("impressions")
    _, second, *_ = table.stored(work.project.stream)
    rows = table.read([second])
    gone = set(rows["item_id"].drop_nulls().unique().to_list()) - set(shown(work).head(20)["item_id"])
    table.write(second, rows.filter(~pl.col("item_id").is_in(list(gone))))
    refresh_items(work, finder(work))
    assert stored(work).select("item_id", SEEN).equals(shown(work))


def test_what_was_not_shown_for_long_is_forgotten_and_most_bound_it(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "HORIZON", timedelta(days=2))
    refresh_items(work, finder(work))
    newest = work.table("impressions").newest(work.project.stream)
    assert newest is not None
    expected = shown(work).filter(pl.col(SEEN) > newest.end - timedelta(days=2))
    assert stored(work).select("item_id", SEEN).equals(expected) and expected.height < shown(work).height
    assert (stored(work)[UNTIL] - stored(work)[SEEN]).unique().to_list() == [timedelta(days=2)]
    monkeypatch.setattr(items, "MOST", 7)
    assert refresh_items(work, finder(work)) == 7
    assert stored(work)["item_id"].to_list() == expected["item_id"].to_list()[:7]


def test_a_damaged_table_leaves_them_as_they_were_and_is_said(work: Workspace) -> None:
    refresh_items(work, finder(work))
    before, table = stored(work), work.table("impressions")
    newest = table.newest(work.project.stream)
    assert newest is not None
    table.write(newest, table.read([newest]).head(5))
    path = table.path(newest)
    path.write_bytes(path.read_bytes()[:-9])
    said = refreshed(work, finder(work))
    assert said.startswith("the items to retrieve from stay as they were: impressions: ") and "again" in said
    assert stored(work).equals(before)


def test_a_damaged_file_of_them_is_made_again(work: Workspace) -> None:
    refresh_items(work, finder(work))
    before, path = stored(work), work.state.release(finder(work).name) / FILE
    for content in (b"", b"PAR1", path.read_bytes()[:-20]):
        path.write_bytes(content)
        refresh_items(work, finder(work))
        assert stored(work).equals(before)


def test_a_catalogue_lists_items_that_were_never_shown(work: Workspace) -> None:
    age = Column(name="age", rows=9)
    view = SourceView(name="catalogue", entities=("item_id",), path="items", inputs=(age,), expires=timedelta(days=3))
    reads = replace(finder(work), inputs=(*finder(work).inputs, "catalogue"))
    project = replace(work.project, feature_views=(*work.project.feature_views, view), students=(reads,))
    listed = Workspace(project, work.state)
    slices = listed.table("impressions").stored(project.stream)
    for slice_, item in ((slices[0], 10**6), (slices[-1], 10**6 + 1)):  # the first one has expired by the newest slice
        rows = {"item_id": [item], "event_timestamp": [slice_.start], "age": [3]}
        frame = pl.DataFrame(rows, schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")})
        listed.features("catalogue").write(slice_, frame)
    refresh_items(listed, reads)
    assert set(stored(listed)["item_id"]) == {*shown(listed)["item_id"], 10**6 + 1}
    refresh_items(listed, finder(work))  # who reads no catalogue knows none of it
    assert 10**6 + 1 not in set(stored(listed)["item_id"])


def test_what_the_log_says_of_an_item_alone_comes_along_as_it_was_last(work: Workspace) -> None:
    stream = replace(work.project.stream, numbers=(Number(name="price", of_item=True),))
    priced = Workspace(replace(work.project, stream=stream), work.state)
    table = priced.table("impressions")
    for slice_ in table.stored(stream):
        rows = table.read([slice_])
        draws = pl.Series(range(rows.height)).cast(pl.Float64).shuffle(seed=slice_.index)
        known = pl.when(pl.int_range(pl.len()) % 3 > 0).then(draws)
        table.write(slice_, rows.with_columns(known.alias("price")))
        if slice_ == table.stored(stream)[0]:
            assert 'column "price"' in refreshed(priced, finder(priced))  # of slices that were not made again yet
    newest, away = table.newest(stream), work.state.folder / "away"
    assert newest is not None
    table.path(newest).parent.rename(away)
    refresh_items(priced, finder(priced))
    away.rename(table.path(newest).parent)
    refresh_items(priced, finder(priced))
    rows = table.read(table.stored(stream)).filter(pl.col("surface") == "feed", pl.col("price").is_not_null())
    expected = {row["item_id"]: row["price"] for row in rows.sort("event_timestamp").iter_rows(named=True)}
    found = dict(stored(priced).select("item_id", "price").iter_rows())
    assert {item: price for item, price in found.items() if price is not None} == expected
