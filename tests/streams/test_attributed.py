"""Which impressions outcomes are of, against dictionaries, however many are looked up at once and a part has."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.state import State
from pipeline.slices import attributed
from pipeline.slices.attributed import outcomes_of, without_orphans
from pipeline.slices.log_withdrawals import read_sound_log_in_parts
from pipeline.slices.provenance import impressions_of_labels, outcomes_digest
from pipeline.tables import DataError
from pipeline.workspace import Workspace
from tests.graph.damage import flipped
from tests.tiny import tiny_project

START = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = pl.Datetime("us", "UTC")
ROWS = 200  # impressions a day
DAYS = 3


def workspace(folder: Path, part_rows: int) -> Workspace:
    """Impressions of three days, and outcomes of them and of nothing, some told twice, some of no known task."""
    project = tiny_project()
    first = project.stream.first_slice
    stream = replace(project.stream, part_rows=part_rows)
    work = Workspace(replace(project, stream=stream), State(folder=folder / "state", log=folder / "log"))
    rng, shown = np.random.default_rng(part_rows), {}
    for slice_ in list(stream.slices(first, first + timedelta(days=DAYS))):
        ids = np.arange(ROWS) + slice_.index * ROWS
        times = [slice_.start + timedelta(seconds=int(at)) for at in np.sort(rng.integers(0, 86_400, ROWS))]
        frame = pl.DataFrame({"impression_id": rng.permutation(ids), "event_timestamp": times})
        work.table("impressions").write(slice_, frame.cast({"event_timestamp": CLOCK}))
        shown |= dict(frame.iter_rows())
    of = rng.integers(-40, DAYS * ROWS, 900)
    at = [
        shown.get(int(id_), first + timedelta(days=1)) + timedelta(minutes=int(late))
        for id_, late in zip(of, rng.integers(-60, 2_000, 900), strict=True)
    ]
    task = rng.choice(["click", "convert", "unheard"], 900, p=[0.5, 0.4, 0.1])
    told = pl.DataFrame({"impression_id": of, "task": task, "outcome_timestamp": at})
    told = pl.concat([told, told[::7]]).cast({"outcome_timestamp": CLOCK})
    for (day,), rows in told.group_by(pl.col("outcome_timestamp").dt.date()):
        path = folder / "log" / "outcomes" / f"day={day}" / "part.parquet"
        path.parent.mkdir(parents=True)
        rows.write_parquet(path)
    return work


def the_log(work: Workspace) -> pl.DataFrame:
    return pl.read_parquet(work.state.log / "outcomes" / "*" / "*.parquet", hive_partitioning=False)


@pytest.mark.parametrize("part_rows", [50, 10_000])
@pytest.mark.parametrize("at_once", [1, 120, 10_000])
def test_orphans_are_those_of_no_impression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int, at_once: int
) -> None:
    monkeypatch.setattr(attributed, "LOOKED_UP", at_once)
    work = workspace(tmp_path, part_rows)
    stream = work.project.stream
    slice_ = stream.slice_at(2)
    reach = attributed.recognised_since(stream, slice_.start)
    known = set(work.table("impressions").read(stream.slices(reach, slice_.end))["impression_id"])
    parts = list(without_orphans(work, slice_, read_sound_log_in_parts(work, "outcomes", slice_.start, slice_.end)))
    inside = the_log(work).filter(pl.col("outcome_timestamp").is_between(slice_.start, slice_.end, closed="left"))
    inside = inside.sort("outcome_timestamp", "impression_id", "task")
    sound = [row for row in inside.iter_rows() if row[1] != "unheard"]
    kept = [row for part in parts for row in part.frame.iter_rows()]
    assert kept == [row for row in sound if row[0] in known]
    refused = pl.concat([part.quarantine for part in parts], how="diagonal")
    orphans = refused.filter(pl.col("reason").str.starts_with("orphan"))
    assert list(orphans.drop("reason").iter_rows()) == [row for row in sound if row[0] not in known]
    assert 0 < orphans.height < refused.height == inside.height - len(kept)
    assert sum(part.rows_read for part in parts) == inside.height
    assert (len(parts) > 1) == (part_rows == 50)


@pytest.mark.parametrize("part_rows", [20, 50, 10_000])  # above four parts, at four, in one
@pytest.mark.parametrize("at_once", [1, 10_000])
def test_outcomes_carry_their_impressions_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int, at_once: int
) -> None:
    monkeypatch.setattr(attributed, "LOOKED_UP", at_once)
    work = workspace(tmp_path, part_rows)
    slice_ = work.project.stream.slice_at(1)
    shown = work.table("impressions").read([slice_])
    row_of = {id_: row for row, id_ in enumerate(shown["impression_id"])}
    until = slice_.end + timedelta(days=1)
    found = outcomes_of(work, impressions_of_labels(work, slice_), until)
    expected = [
        (id_, task, at, shown["event_timestamp"][row_of[id_]], row_of[id_])
        for id_, task, at in the_log(work).iter_rows()
        if slice_.start <= at < until and task != "unheard" and id_ in row_of
    ]
    assert list(found.iter_rows()) == sorted(expected, key=lambda row: (row[2], row[0], row[1]))


def test_the_digest_is_of_all_that_was_known(tmp_path: Path) -> None:
    work = workspace(tmp_path, 50)
    slice_ = work.project.stream.slice_at(1)
    shown, as_of = impressions_of_labels(work, slice_), slice_.end
    found = outcomes_of(work, shown, slice_.end + timedelta(days=1))
    known = found.filter(pl.col("outcome_timestamp") <= as_of)
    assert 10 < known.height < found.height
    told = outcomes_digest(found, as_of)
    assert told == outcomes_digest(known, as_of) == outcomes_digest(known.drop("row"), as_of, told)
    other = {"task": pl.lit("other"), "impression_id": pl.lit(7), "outcome_timestamp": pl.lit(slice_.start)}
    at = pl.int_range(pl.len()) == 5
    changed = [
        known.with_columns(pl.when(at).then(value.cast(known.schema[name])).otherwise(name).alias(name))
        for name, value in other.items()
    ]
    fewer, more = known.head(-1), pl.concat([known, known.tail(1)])
    renamed = known.with_columns(task=pl.col("task") + "s")
    digests = [outcomes_digest(rows, as_of) for rows in (known, *changed, fewer, more, renamed, known.clear())]
    assert len(set(digests)) == len(digests)


def test_digests_of_before_can_still_be_compared(tmp_path: Path) -> None:
    work = workspace(tmp_path, 50)
    slice_ = work.project.stream.slice_at(1)
    shown, as_of = impressions_of_labels(work, slice_), slice_.end
    found = outcomes_of(work, shown, slice_.end + timedelta(days=1))
    heard = sorted(row[:3] for row in found.iter_rows() if row[2] <= as_of)
    text = pl.DataFrame(heard, orient="row", schema=found.select(found.columns[:3]).schema).write_csv()
    before = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert outcomes_digest(found, as_of, before) == before


def test_damaged_or_missing_impressions_are_said(tmp_path: Path) -> None:
    work = workspace(tmp_path, 50)
    slice_ = work.project.stream.slice_at(1)
    path = work.table("impressions").path(slice_)
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(DataError, match=f"materialise impressions for slice {slice_.key} again"):
        outcomes_of(work, impressions_of_labels(work, slice_), slice_.end)
    path.unlink()
    with pytest.raises(DataError, match=f"no slice {slice_.key}"):
        outcomes_of(work, impressions_of_labels(work, slice_), slice_.end)
