"""The label join against a loop over every impression, task and outcome."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline.transforms.labels import LabelledSlice, join_labels, part_orphans
from projects.simulated import STREAM

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TIME = pl.Datetime("us", "UTC")


def drawn(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    random = np.random.default_rng(seed)
    impressions = pl.DataFrame(
        {
            "impression_id": np.arange(40),
            "event_timestamp": [START + int(m) * MINUTE for m in random.integers(0, 24 * 60, 40)],
        },
        schema={"impression_id": pl.Int64, "event_timestamp": TIME},
    )
    # Delays on the windows' very ends are drawn often: 0, 30 minutes and 12 hours.
    delays = random.choice([-5, 0, 1, 29, 30, 31, 600, 720, 721, 900], 120)
    shown = random.integers(0, 45, 120)  # 40 to 44 are orphans
    minutes = [(shown_at - START) // MINUTE for shown_at in impressions["event_timestamp"]] + 5 * [0]
    at = [START + (minutes[number] + int(delay)) * MINUTE for number, delay in zip(shown, delays, strict=True)]
    tasks = random.choice(["click", "convert"], 120)
    schema = {"impression_id": pl.Int64, "task": pl.String, "outcome_timestamp": TIME}
    return impressions, pl.DataFrame({"impression_id": shown, "task": tasks, "outcome_timestamp": at}, schema=schema)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("hours", [1, 13, 24, 60])
def test_labels_are_what_a_loop_finds(seed: int, hours: int) -> None:
    impressions, outcomes = drawn(seed)
    as_of = START + timedelta(hours=hours)
    joined = join_labels(impressions, outcomes, STREAM, as_of)
    late = early = duplicates = 0
    for row, (impression, shown_at) in zip(joined.frame.iter_rows(named=True), impressions.iter_rows(), strict=True):
        assert row["impression_id"] == impression
        for task in STREAM.tasks:
            mine = outcomes.filter(pl.col("impression_id") == impression, pl.col("task") == task.name)
            ages = [at - shown_at for at in mine["outcome_timestamp"] if at <= as_of]
            inside = [age for age in ages if timedelta(0) <= age <= task.window]
            late += sum(age > task.window for age in ages)
            early += sum(age < timedelta(0) for age in ages)
            duplicates += max(len(inside) - 1, 0)
            expected = None if shown_at + task.window > as_of else int(bool(inside))
            assert row[task.name] == expected
        assert row["closed_at"] == shown_at + STREAM.longest_window
    assert (joined.late, joined.early, joined.duplicates) == (late, early, duplicates)


@pytest.mark.parametrize("rows", [1, 7, 20, 39, 40])
def test_parts_have_the_labels_of_the_whole(rows: int) -> None:
    impressions, outcomes = drawn(4)
    impressions = impressions.sort("event_timestamp")
    as_of, unknown = START + timedelta(hours=24), [(START + timedelta(hours=6), START + timedelta(hours=7))]
    whole = join_labels(impressions, outcomes, STREAM, as_of, unknown)
    labelled = LabelledSlice(STREAM, as_of, unknown)
    shown = impressions.with_row_index("row")
    parts = [impressions[start : start + rows] for start in range(0, 40, rows)]
    joined = list(labelled.joined(parts, outcomes.join(shown, on="impression_id").sample(fraction=1, shuffle=True)))
    assert [part.height for part in joined] == [part.height for part in parts]
    assert pl.concat(joined).equals(whole.frame)
    told = labelled.told()
    assert {"late": whole.late, "early": whole.early, "duplicates": whole.duplicates}.items() <= told.items()
    for task in STREAM.task_names:
        values = whole.frame[task].drop_nulls()
        assert told[f"rate/{task}"] == values.sum() / len(values)
        assert told[f"open/{task}"] == whole.frame[task].null_count() > 0


def test_orphans_are_outcomes_of_no_known_impression() -> None:
    impressions, outcomes = drawn(3)
    kept, orphans = part_orphans(outcomes, outcomes["impression_id"].is_in(impressions["impression_id"].implode()))
    assert orphans.height == sum(number >= 40 for number in outcomes["impression_id"]) > 0
    assert orphans["reason"].str.starts_with("orphan").all()
