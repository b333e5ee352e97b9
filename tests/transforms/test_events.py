"""Events of tasks whose label is a column of the impressions: those that outcomes would tell of."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from exfm.log_columns import Task
from exfm.stream import Stream
from pipeline.transforms.events import events_of
from pipeline.transforms.labels import with_labelled
from projects.simulated import STREAM

HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")
LABELS = {
    "said": (Task(name="click", window=HOUR, label="said"), pl.Series([1, 0, None, 1, 0, 1], dtype=pl.Int8)),
    "above": (Task(name="click", window=HOUR, label="s", above=3.0), pl.Series([3.0, 3.5, None, 0.0, np.nan, 9.0])),
    "ceiling": (Task(name="click", window=HOUR, label="s", ceiling=9.0), pl.Series([0.0, 0.1, None, 99.0, np.nan, 0])),
}
BY_HAND = {"said": [0, 3, 5], "above": [1, 5], "ceiling": [1, 3]}


@pytest.mark.parametrize("kind", LABELS)
def test_events_of_a_label_are_those_of_outcomes_that_say_the_same(kind: str) -> None:
    task, values = LABELS[kind]
    stream: Stream = replace(STREAM, tasks=(task, *STREAM.tasks[1:]))
    shown = pl.LazyFrame({
        "impression_id": range(6), "event_timestamp": [STREAM.first_slice + n * HOUR for n in range(6)],
        "user_id": [n % 3 for n in range(6)], str(task.label): values,
    }, schema_overrides={"event_timestamp": TIME})  # fmt: skip
    none = pl.LazyFrame(schema={"impression_id": pl.Int64, "task": pl.String, "outcome_timestamp": TIME})
    found = events_of("click", ["user_id"], stream, shown, none, pl.LazyFrame()).collect()
    by_outcomes = replace(stream, tasks=STREAM.tasks)
    by_outcomes = replace(by_outcomes, tasks=(replace(by_outcomes.tasks[0], window=HOUR), *by_outcomes.tasks[1:]))
    told = with_labelled(stream, shown, none)
    expected = events_of("click", ["user_id"], by_outcomes, shown, told, pl.LazyFrame()).collect()
    assert found.sort("at").equals(expected.sort("at"))
    hand = [(n % 3, STREAM.first_slice + (n + 1) * HOUR) for n in BY_HAND[kind]]
    assert found.sort("at").rows() == hand
