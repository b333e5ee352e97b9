"""The main job in a folder with a name of all kinds of characters: the same answers, and nothing lies outside."""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipeline.report.show_predictions import _predictions
from tests.conftest import Ran
from tests.feature_repo.test_registry import ODD
from tests.graph.runs import left_by, run
from tests.tiny import tiny_project, tiny_workspace


@pytest.mark.slow
def test_a_folder_of_any_name_holds_the_same_state(ran: Ran, tmp_path: Path) -> None:
    pytest.importorskip("feast_asof")  # reads folders whose names look like patterns
    name = f"{ODD}[x]*"
    (tmp_path / name.replace("?", "x").replace("*", "x")).mkdir()  # what the name would match as a pattern
    beside = sorted(os.listdir(tmp_path))
    work = tiny_workspace(tmp_path / name)
    assert run(work).success
    assert sorted(os.listdir(tmp_path)) == sorted([*beside, name])
    assert left_by(work) == left_by(ran.work)
    shown = _predictions(work, None, None, 5)
    assert shown["impression_id"].len() == 5 and shown.null_count().sum_horizontal().item() == 0
    assert shown.drop("checkpoint").equals(_predictions(ran.work, None, None, 5).drop("checkpoint"))


@pytest.mark.long
@pytest.mark.slow
def test_a_missing_context_id_goes_through_all_of_it(tmp_path: Path) -> None:
    """Models learn and are judged on rows without a device; a view by device has nothing for them."""
    tiny = tiny_project()
    counts = tuple(name for name in tiny.feature_views[0].counts if name != "interactions")
    by_device = replace(tiny.feature_views[0], name="device_activity", entities=("device",), counts=counts)
    teacher = replace(tiny.teachers[0], inputs=(*tiny.teachers[0].inputs, "device_activity"))
    views = (*tiny.feature_views, by_device)
    work = tiny_workspace(tmp_path, replace(tiny, feature_views=views, teachers=(teacher,)))
    assert run(work, select='key:"simulated_log"').success
    for path in (work.state.log / "impressions").rglob("*.parquet"):
        frame = pl.read_parquet(path, hive_partitioning=False)
        missing = pl.col("impression_id") % 7 == 0
        frame.with_columns(device=pl.when(~missing).then("device")).write_parquet(path)
    assert run(work, select='not group:"studies" and not key:"simulated_log"').success
    held = work.table("logged_inputs").read((work.project.stream.all_slices or [])[-1:])
    counted = [name for name in held.columns if name.startswith("device_activity__")]
    without = held.filter(pl.col("device").is_null()).select(counted)
    assert without.height and without.null_count().row(0) == (without.height,) * len(counted)
    assert held.filter(pl.col("device").is_not_null()).select(counted).null_count().sum_horizontal().item() == 0
