"""Views of more of the log than is counted at once: share by share of the entities, the same rows."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from pipeline.slices import made_views
from pipeline.slices.made_views import made_rows, parts_at_once
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_workspace


def frame(rows: pl.DataFrame | Iterable[pl.DataFrame]) -> pl.DataFrame:
    return rows if isinstance(rows, pl.DataFrame) else pl.concat(list(rows))


@pytest.mark.parametrize("shares", [2, 7])
def test_rows_made_by_shares_are_those_made_at_once(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: int
) -> None:
    tiny = tiny_workspace(tmp_path)
    stream = replace(tiny.project.stream, part_rows=10)
    work = Workspace(replace(tiny.project, stream=stream), tiny.fixed_state, tiny.now)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    slices = stream.slices_between("2026-01-02", "2026-01-03")
    views = [view for view in work.project.feature_views if isinstance(view, FeatureView | HistoryView)]
    assert {type(view) for view in views} == {FeatureView, HistoryView}
    for view in views:
        whole = {slice_: frame(rows) for slice_, rows in made_rows(tiny, view, slices)}
        made: list[object] = []
        make = made_views._made
        with monkeypatch.context() as patch:
            rows = sum(work.table(name).rows(slice_) for name in ("impressions", "outcomes") for slice_ in slices)
            at_once = rows // shares // stream.part_rows
            patch.setattr(made_views, "parts_at_once", lambda view, at_once=at_once: at_once)
            patch.setattr(made_views, "_made", lambda *given, make=make, made=made: made.append(1) or make(*given))
            parts = {slice_: frame(rows) for slice_, rows in made_rows(work, view, slices)}
        assert len(made) >= shares and parts.keys() == whole.keys()
        assert all(parts[slice_].equals(whole[slice_]) and not whole[slice_].is_empty() for slice_ in slices)


def test_what_has_more_numbers_is_made_of_fewer_parts_at_once() -> None:
    hours = [timedelta(hours=hour) for hour in range(1, 200)]
    small = FeatureView(name="v", entities=("user_id",), counts=("impressions",), windows=(hours[0],), every=hours[0])
    large = replace(small, counts=("impressions", "click"), windows=tuple(hours))
    assert parts_at_once(small) == 64 and parts_at_once(large) == 1
