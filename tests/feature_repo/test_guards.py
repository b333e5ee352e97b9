"""Leak rules on predictions: when written, when read."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_repo.guards import coverage, mask_leaks, split_leaks

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SOON = timedelta(microseconds=1)


def _prediction(**changes: object) -> dict[str, object]:
    good = {
        "impression_id": 1,
        "event_timestamp": NOW,
        "created_timestamp": NOW,
        "checkpoint": "c1",
        "trained_until": NOW - SOON,
        "click_logit": 0.5,
        "click_probability": 0.6,
    }
    return {**good, **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"trained_until": NOW}, "trained_until is not before event_timestamp"),
        ({"trained_until": None}, "trained_until is null"),
        ({"created_timestamp": NOW - SOON}, "created_timestamp is before event_timestamp"),
        ({"click_logit": float("nan")}, "click_logit is not finite"),
        ({"click_logit": float("inf")}, "click_logit is not finite"),
        ({"click_logit": None}, "click_logit is not finite"),
        ({"impression_id": None}, "impression_id is null"),
        ({"event_timestamp": None}, "event_timestamp is null"),
        ({"checkpoint": None}, "checkpoint is null"),
    ],
)
def test_each_rule(changes: dict[str, object], reason: str | None) -> None:
    rows = pl.DataFrame([_prediction(), _prediction(**changes)])
    kept, leaks = split_leaks(rows)
    assert kept.height + leaks.height == 2
    assert leaks["reason"].to_list() == ([reason] if reason else [])
    assert kept.columns == rows.columns


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['trained_until'\] are missing"):
        split_leaks(pl.DataFrame([_prediction()]).drop("trained_until"))
    with pytest.raises(ValueError, match="<task>_logit"):
        split_leaks(pl.DataFrame([_prediction()]).drop("click_logit"))


def test_reading_masks_and_counts() -> None:
    table = pl.DataFrame(
        {
            "impression_id": [1, 2, 3],
            "event_timestamp": [NOW] * 3,
            "teacher_large__trained_until": [NOW - SOON, NOW, None],
            "teacher_large__click_logit": [0.1, 0.2, None],
            "teacher_other__click_logit": [7.0, 7.0, 7.0],
        }
    )
    assert coverage(table, "teacher_large") == pytest.approx(2 / 3)
    masked, count = mask_leaks(table, "teacher_large")
    assert count == 1
    assert masked["teacher_large__click_logit"].to_list() == [0.1, None, None]
    assert masked["teacher_large__trained_until"].to_list() == [NOW - SOON, None, None]
    assert masked["teacher_other__click_logit"].to_list() == [7.0] * 3
    assert (masked.columns, masked["impression_id"].to_list()) == (table.columns, [1, 2, 3])
    assert coverage(masked, "teacher_large") == pytest.approx(1 / 3)
    assert coverage(masked.clear(), "teacher_large") == 0.0
    with pytest.raises(ValueError, match="teacher_small__trained_until"):
        coverage(table, "teacher_small")
