"""Views of more of the log than is counted at once: share by share of the entities, the same rows."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from pipeline.slices import events_aside, made_views
from pipeline.slices.events_aside import Share, put_aside
from pipeline.slices.made_views import events_at_once, made_rows
from pipeline.transforms.view_rows import EventView
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_workspace

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST, LAST = "2026-01-02", "2026-01-03"
BESIDE = (
    FeatureView(name="cross", entities=("user_id", "surface"), counts=("click",), windows=(HOUR, DAY),
                rates=("convert",), every=HOUR),
    FeatureView(name="met", entities=("item_id",), counts=("convert", "interactions"), windows=(DAY,), every=HOUR),
    HistoryView(name="clicked", entity="user_id", of="item_id", source=("click", "impressions"), beside=("surface",),
                since=True, length=3, window=DAY, every=HOUR),
    HistoryView(name="converted", entity="user_id", of="item_id", source="convert", length=3, window=DAY, every=HOUR),
)  # fmt: skip


def frame(rows: pl.DataFrame | Iterable[pl.DataFrame]) -> pl.DataFrame:
    return rows if isinstance(rows, pl.DataFrame) else pl.concat(list(rows))


def of_a_run(ran: Ran, folder: Path) -> Workspace:
    """A workspace with the tables of a run, of which a part has ten rows."""
    tiny = tiny_workspace(folder)
    shutil.copytree(ran.work.state.folder, tiny.state.folder)
    return Workspace(
        replace(tiny.project, stream=replace(tiny.project.stream, part_rows=10)), tiny.fixed_state, tiny.now
    )


def made_aside(work: Workspace, view: EventView, monkeypatch: pytest.MonkeyPatch) -> tuple[pl.DataFrame, list[Share]]:
    """A view's rows, and the shares that they were made of."""
    shares: list[Share] = []

    def kept(*given: object) -> list[Share]:
        given_aside = put_aside(*given)  # type: ignore[arg-type]
        shares.extend(given_aside)
        return given_aside

    monkeypatch.setattr(made_views, "put_aside", kept)
    slices = work.project.stream.slices_between(FIRST, LAST)
    made = pl.concat([frame(rows) for _, rows in made_rows(work, view, slices)])
    assert not list(work.features(view.name).folder.glob(".*")), "what was put aside is gone"
    return made, shares


@pytest.mark.parametrize("events", [10, 1000])
def test_rows_made_by_shares_are_those_made_at_once(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    """Merged where the rows of a stamp fit into memory, else sorted by DuckDB."""
    work, by_duckdb = of_a_run(ran, tmp_path), list[object]()
    sort = made_views.sorted_parts
    monkeypatch.setattr(made_views, "sorted_parts", lambda *given: by_duckdb.append(given) or sort(*given))
    mine = [view for view in work.project.feature_views if isinstance(view, FeatureView | HistoryView)]
    slices = work.project.stream.slices_between(FIRST, LAST)
    for view in (*mine, *BESIDE):
        with monkeypatch.context() as patch:
            patch.setattr(made_views, "events_at_once", lambda view, rows: 10**6)
            patch.setattr(made_views, "JOINED_AT_ONCE", 10**6)
            whole = pl.concat([frame(rows) for _, rows in made_rows(work, view, slices)])
            patch.setattr(made_views, "events_at_once", lambda view, rows: events)
            patch.setattr(events_aside, "LOOKED_UP", 50)  # outcomes at once: several passes
            patch.setattr(made_views, "MOST_SHARES", 40)
            made, shares = made_aside(work, view, patch)
        assert made.equals(whole) and not whole.is_empty(), view.name
        assert len(shares) > 2 and sum(len(share) > 0 for share in shares) > 1
    assert bool(by_duckdb) == (events == 10)


def test_a_share_that_fails_says_why_and_leaves_nothing(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, view, made = of_a_run(ran, tmp_path), BESIDE[0], list[int]()

    def fails(*given: object) -> pl.DataFrame:
        made.append(1)
        time.sleep(0.1)  # the others have not begun by then
        raise MemoryError("no room")

    monkeypatch.setattr(made_views, "events_at_once", lambda view, rows: 40)
    monkeypatch.setattr(made_views, "rows_of_events", fails)
    with pytest.raises(MemoryError, match="no room"):
        list(made_rows(work, view, work.project.stream.slices_between(FIRST, LAST)))
    assert 0 < len(made) <= 2 * made_views.THREADS and not list(work.features(view.name).folder.glob(".*"))


def test_outcomes_of_more_impressions_than_memory_holds_are_joined_aside(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few outcomes one share is made: of the same rows, and it is said what was read."""
    work, view, said = of_a_run(ran, tmp_path), BESIDE[-1], list[str]()
    slices = work.project.stream.slices_between(FIRST, LAST)
    monkeypatch.setattr(made_views, "events_at_once", lambda view, rows: 10**6)
    monkeypatch.setattr(made_views, "JOINED_AT_ONCE", 10**6)
    whole = pl.concat([frame(rows) for _, rows in made_rows(work, view, slices, said.append)])
    assert said == []
    monkeypatch.setattr(made_views, "JOINED_AT_ONCE", 1)
    made, shares = made_aside(work, view, monkeypatch)
    assert made.equals(whole) and len(shares) == 1 and 0 < len(shares[0]) < made.height
    list(made_rows(work, view, slices, said.append))
    assert len(said) == 1 and said[0].startswith("converted: looks for") and "outcomes ('convert')" in said[0]


@pytest.mark.parametrize("labelled", [False, True])
def test_labels_and_no_outcomes_at_all_are_put_aside_too(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    """A label beside the impression is read with it; where nothing happened nothing is joined in memory either."""
    work, slices = of_a_run(ran, tmp_path), ran.work.project.stream.slices_between(FIRST, LAST)
    stream = work.project.stream
    for slice_ in stream.slices_between("2026-01-01", LAST):
        for name in ("outcomes", "impressions"):
            rows = work.table(name).read([slice_])
            rows = rows.clear() if name == "outcomes" else rows.with_columns(liked=(pl.col("item_id") % 3 == 0) * 1)
            work.table(name).write(slice_, [rows], {})
    if labelled:
        liked = replace(stream.tasks[0], label="liked")
        stream = replace(stream, tasks=(liked, *stream.tasks[1:]))
        work = Workspace(replace(work.project, stream=stream), work.fixed_state, work.now)
    view = replace(BESIDE[2], source=("click", "impressions") if labelled else "click")
    monkeypatch.setattr(made_views, "events_at_once", lambda view, rows: 10**6)
    monkeypatch.setattr(made_views, "JOINED_AT_ONCE", 10**6)
    whole = pl.concat([frame(rows) for _, rows in made_rows(work, view, slices)])
    monkeypatch.setattr(made_views, "events_at_once", lambda view, rows: 1000)
    monkeypatch.setattr(made_views, "JOINED_AT_ONCE", 1)
    made, shares = made_aside(work, view, monkeypatch)
    assert made.equals(whole) and made.is_empty() == (not labelled)
    assert len(shares) > 2 if labelled else len(shares) == 1


def test_of_what_has_more_numbers_fewer_events_are_held_at_once() -> None:
    """Two columns beside the numbers, and a row more for each window that an event leaves."""
    hours = [timedelta(hours=hour) for hour in range(1, 200)]
    small = FeatureView(name="v", entities=("user_id",), counts=("impressions",), windows=(hours[0],), every=hours[0])
    large = replace(small, counts=("impressions", "click"), windows=tuple(hours))
    assert [events_at_once(view, 1000) for view in (small, large)] == [192_000 // 6, 192_000 // (200 * 400)]
    lists = [replace(BESIDE[-1], length=length) for length in (1, 20, 1000)]
    assert [events_at_once(view, 1000) for view in lists] == [192_000 // 8, 192_000 // 84, 192_000 // 4004]
