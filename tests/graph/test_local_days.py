"""A whole project whose days are Berlin's, over the night in which the clock goes forward."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from exfm.project import Project
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from tests.graph.runs import failed_checks, run, sentences
from tests.tiny import tiny_project, tiny_workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("local_days"),
]  # what all of them begin with is made once

ZONE = ZoneInfo("Europe/Berlin")
FIRST, CHANGE, LAST = "2026-03-27", "2026-03-29", "2026-03-31"  # the 29th has 23 hours
HOURS = 3600.0


def berlin() -> Project:
    tiny = tiny_project()
    first, until = (datetime(2026, month, day, tzinfo=ZONE).astimezone(UTC) for month, day in ((3, 27), (4, 1)))
    stream = replace(tiny.stream, first_slice=first, until=until, time_zone="Europe/Berlin")
    # Stamps are the ends of slices: where a clock changes there are no others.
    views = tuple(replace(view, every=timedelta(days=1)) for view in tiny.feature_views)
    return replace(tiny, name="berlin", stream=stream, feature_views=views)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    work = tiny_workspace(tmp_path_factory.mktemp("berlin"), berlin())
    ran = run(work, FIRST, LAST)
    assert ran.success and not [check for check in failed_checks(ran) if "drift" not in check], sentences(ran)
    yield work


def test_each_slice_has_the_rows_of_its_local_day(work: Workspace) -> None:
    stream = work.project.stream
    logged = pl.concat(pl.read_parquet(path, glob=False) for path in work.state.log.glob("impressions/*/*.parquet"))
    days = logged.group_by(pl.col("event_timestamp").dt.convert_time_zone("Europe/Berlin").dt.date()).len()
    stored = {slice_.key: work.table("impressions").rows(slice_) for slice_ in stream.all_slices or ()}
    quarantined = {key: work.quarantine("impressions").rows(stream.slice_of(key)) for key in stored}
    assert {str(day): rows for day, rows in days.iter_rows()} == {key: stored[key] + quarantined[key] for key in stored}
    assert stream.slice_of(CHANGE).end - stream.slice_of(CHANGE).start == timedelta(hours=23)


def test_inputs_are_as_of_the_impression_by_the_local_clock(work: Workspace) -> None:
    """Impressions of a user in the local day before, by the log; the hour as people there say it."""
    stream = work.project.stream
    every = pl.concat(work.table("impressions").read([slice_]) for slice_ in stream.all_slices or ())
    local = pl.col("event_timestamp").dt.convert_time_zone("Europe/Berlin")
    name = "user_activity__impressions_1d"
    for key in (CHANGE, "2026-03-30"):
        inputs = work.table("logged_inputs").read([stream.slice_of(key)]).with_columns(day=local.dt.date())
        seen = every.with_columns(day=local.dt.date() + timedelta(days=1)).group_by("user_id", "day").len()
        joined = inputs.join(seen, on=["user_id", "day"], how="left")
        assert joined[name].fill_null(0).equals(joined["len"].cast(pl.Int64).fill_null(0).alias(name))
        assert inputs["hour_of_day"].equals(
            inputs.select(local.dt.hour().cast(pl.Int64).alias("hour_of_day")).to_series()
        )


def test_models_train_serve_and_say_by_whose_clock(work: Workspace) -> None:
    student = work.project.students[0]
    manifest = CheckpointStore.of(work, student).manifest(work.project.stream.slice_of("2026-03-30"))
    assert manifest.declared["time_zone"] == "Europe/Berlin" and manifest.rows > 0
    assert (
        not work.evaluations(student.name).read(work.evaluations(student.name).stored(work.project.stream)).is_empty()
    )
