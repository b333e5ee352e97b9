"""Teacher features against a brute-force walk over impressions: what was known by then, and nothing else."""

import random
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.prediction_views import PredictionView, known_after
from pipeline.transforms.predicted import bucket, empty, needed, predicted, together
from projects.simulated import PROJECT, STREAM
from tests.tiny import tiny_project

DAY = timedelta(days=1)
UTC = pl.Datetime("us", "UTC")
START = STREAM.first_slice
Row = dict[str, Any]


def view(**changes: Any) -> PredictionView:
    fields: dict[str, Any] = {
        "name": "opinion", "teacher": "large", "tasks": ("click", "convert"), "entities": ("user_id",),
        "windows": (DAY, 3 * DAY),
    }  # fmt: skip
    return PredictionView(**{**fields, **changes})


def world(seed: int) -> list[list[Row]]:
    """Eight slices of scored impressions of a few users; some scored by a teacher that had seen them."""
    draw = random.Random(seed)
    slices: list[list[Row]] = []
    for day in range(8):
        rows = []
        for index in range(draw.choice([0, 12])):
            at = START + day * DAY + timedelta(seconds=draw.randrange(86_400))
            leak = draw.random() < 0.1
            rows.append({
                "impression_id": day * 100 + index, "event_timestamp": at, "user_id": draw.choice([1, 2, 3, None]),
                "click_logit": draw.uniform(-3, 1), "convert_logit": draw.uniform(-5, -1),
                "trained_until": at + timedelta(seconds=1) if leak else START + (day - 1) * DAY,
            })  # fmt: skip
        slices.append(rows)
    return slices


def frames(rows: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame]:
    schema = {"impression_id": pl.Int64, "event_timestamp": UTC, "user_id": pl.Int64, "trained_until": UTC,
              "click_logit": pl.Float32, "convert_logit": pl.Float32}  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema)
    return frame.drop("trained_until", "click_logit", "convert_logit"), frame.drop("event_timestamp", "user_id")


def in_parts(declared: PredictionView, rows: list[Row], parts: int) -> pl.DataFrame:
    """A slice's bucket, made of some of its rows after the other, as they are stored."""
    ordered = sorted(rows, key=lambda row: (row["event_timestamp"], row["impression_id"]))
    size = max(-(-len(rows) // parts), 1)
    made = [bucket(declared, *frames(ordered[first : first + size]))[0] for first in range(0, max(len(rows), 1), size)]
    return together(declared, made)


def brute(declared: PredictionView, slices: list[list[Row]], after: timedelta, user: int, stamp: Any) -> Row:
    def known(window: timedelta) -> list[Row]:
        return [
            row
            for day, rows in enumerate(slices)
            if START + (day + 1) * DAY + after <= stamp and START + day * DAY >= stamp - window
            for row in rows
            if row["user_id"] == user and row["trained_until"] < row["event_timestamp"]
        ]

    def mean(task: str, window: timedelta) -> float | None:
        logits = [row[f"{task}_logit"] for row in known(window)]
        return sum(logits) / len(logits) if logits else None

    newest = max(known(3 * DAY), key=lambda row: (row["event_timestamp"], row["impression_id"]), default=None)
    expected: Row = {"count_1d": len(known(DAY)), "count_3d": len(known(3 * DAY))}
    for task in declared.tasks:
        expected |= {f"{task}_mean_1d": mean(task, DAY), f"{task}_mean_3d": mean(task, 3 * DAY)}
        expected[f"{task}_last"] = newest[f"{task}_logit"] if newest else None
    expected["age_hours"] = (stamp - newest["event_timestamp"]).total_seconds() / 3600 if newest else None
    return expected


@pytest.mark.parametrize("after", [timedelta(0), timedelta(hours=10), 2 * DAY])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("parts", [1, 4])
def test_at_every_stamp_the_newest_row_is_what_was_known(seed: int, after: timedelta, parts: int) -> None:
    declared, slices = view(), world(seed)
    buckets = {STREAM.slice_at(day).key: in_parts(declared, rows, parts) for day, rows in enumerate(slices)}
    known: dict[int, Row] = {}
    written = 0
    for day in range(14):
        stamp = START + (day + 1) * DAY
        wanted = needed(declared, STREAM, after, stamp)
        empties = {slice_.key: buckets.get(slice_.key, bucket(declared, *frames([]))[0]) for slice_ in wanted}
        rows = predicted(declared, STREAM, after, empties, stamp)
        assert rows.schema == empty(declared, STREAM).schema
        written += rows.height
        known |= {row["user_id"]: row for row in rows.iter_rows(named=True)}
        for user in (1, 2, 3):
            expected = brute(declared, slices, after, user, stamp)
            got = {name: known.get(user, {}).get(name) for name in expected}
            for name, value in expected.items():
                if name == "age_hours" and expected["count_3d"]:
                    continue  # rows are written when something changes; the age is the stamp's
                if not value:
                    assert got[name] in (None, 0), name
                else:
                    assert got[name] == pytest.approx(value, rel=1e-5), name
    assert 0 < written < 14 * 3  # a row when something changed, none when nothing did
    assert all(row["count_3d"] == 0 and row["click_last"] is None for row in known.values())  # all has left


def test_a_prediction_that_had_seen_its_impression_is_kept_out_and_counted() -> None:
    rows = world(1)[0] + world(2)[1] + world(3)[2]
    leaks = sum(row["trained_until"] >= row["event_timestamp"] for row in rows)
    result, kept_out = bucket(view(), *frames(rows))
    assert leaks > 0 and kept_out == leaks
    assert result["count"].sum() == sum(row["user_id"] is not None for row in rows) - sum(
        row["user_id"] is not None and row["trained_until"] >= row["event_timestamp"] for row in rows
    )


def test_predictions_are_known_when_their_scorer_could_be_trained() -> None:
    teacher = PROJECT.teachers[0]  # conversions close after 12 hours, the scorer is a day older: in time
    assert known_after(teacher, STREAM) == timedelta(0)
    from dataclasses import replace

    slow = replace(STREAM, tasks=(STREAM.tasks[0], replace(STREAM.tasks[1], window=3 * DAY)))
    assert known_after(teacher, slow) == 2 * DAY
    assert known_after(replace(teacher, lag=2), slow) == DAY
    told = "less lag=1 slice\\), later than labels of 'click' \\(0:30:00\\): declare a .* or give .*large\\) lag=3"
    with pytest.raises(DeclarationError, match=told):
        tiny_project(stream=replace(slow, until=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "small"}, "PredictionView\\(opinion\\).teacher"),
        ({"tasks": ("buy",)}, "task of teacher large"),
        ({"entities": ("nobody",)}, "column of the log"),
        ({"windows": (timedelta(hours=30),)}, "not a multiple of the slice length"),
    ],
)
def test_a_view_that_does_not_fit_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        view(**changes).check(STREAM, PROJECT.teachers)


def test_a_teacher_can_not_read_what_teachers_say() -> None:
    from dataclasses import replace

    teacher = tiny_project().teachers[0]
    with pytest.raises(DeclarationError, match="'user_opinion' is made of a teacher's predictions"):
        tiny_project(teachers=(replace(teacher, inputs=(*teacher.inputs, "user_opinion")),))
