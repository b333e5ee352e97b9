"""Leak rules on a teacher's predictions, enforced when they are written and again when they are read.

Belongs here: which predictions may supervise. Not here: quarantine folders, checks and metadata (exfm_assets/).

A teacher that trained on an impression, or on anything after it, knows its label; a prediction that claims to be older
than its impression has a wrong clock. Feast enforces neither.
"""

import polars as pl

from exfm.columns import FeatureColumn

REASON = "reason"
_KEYS = ("impression_id", "event_timestamp", "created_timestamp", "checkpoint")


def split_leaks(predictions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Before writing: predictions that may be kept, and those that may not, each with the first ``reason``.

    Args:
        predictions: ``impression_id, event_timestamp, created_timestamp, checkpoint, trained_until`` and
            ``<task>_logit`` columns; others are carried along.

    Raises:
        ValueError: if a column is missing.
    """
    logits = [name for name in predictions.columns if name.endswith("_logit")]
    missing = [name for name in (*_KEYS, "trained_until") if name not in predictions.columns]
    if missing or not logits:
        raise ValueError(f"predictions: columns {missing or ['<task>_logit']} are missing: write them")
    # The order is the order in which reasons are given; a null key or clock can't be judged, so it is not kept.
    rules = [(pl.col(name).is_null(), f"{name} is null") for name in (*_KEYS, "trained_until")]
    rules += [
        (pl.col("trained_until") >= pl.col("event_timestamp"), "trained_until is not before event_timestamp"),
        (pl.col("created_timestamp") < pl.col("event_timestamp"), "created_timestamp is before event_timestamp"),
        *((~pl.col(name).is_finite().fill_null(False), f"{name} is not finite") for name in logits),
    ]
    reason = pl.coalesce(pl.when(broken).then(pl.lit(words)) for broken, words in rules)
    judged = predictions.with_columns(reason.alias(REASON))
    return judged.filter(pl.col(REASON).is_null()).drop(REASON), judged.filter(pl.col(REASON).is_not_null())


def mask_leaks(table: pl.DataFrame, view: str) -> tuple[pl.DataFrame, int]:
    """After reading: null every ``<view>__`` column of rows whose teacher trained on the impression or later.

    Args:
        table: impressions with their own ``event_timestamp`` and the columns of a teacher's view.
        view: the teacher's view, for example ``teacher_large``.

    Returns:
        the table with the same rows and columns, and how many rows were masked.

    Raises:
        ValueError: if a clock is missing.
    """
    trained = _trained_until(table, view)
    if "event_timestamp" not in table.columns:
        raise ValueError("table: column 'event_timestamp' is missing: keep the impressions' own one")
    leaks = (pl.col(trained) >= pl.col("event_timestamp")).fill_null(False)
    count = table.select(leaks.sum()).item()
    theirs = [name for name in table.columns if FeatureColumn.of(name).view == view]
    masked = table.with_columns(pl.when(~leaks).then(pl.col(name)).alias(name) for name in theirs)
    return masked, int(count)


def coverage(table: pl.DataFrame, view: str) -> float:
    """Share of impressions that have a prediction of a teacher's view, in [0, 1]; 0.0 for no impressions.

    Raises:
        ValueError: if the table has no column of that view.
    """
    trained = _trained_until(table, view)
    return 1.0 - table[trained].null_count() / table.height if table.height else 0.0


def _trained_until(table: pl.DataFrame, view: str) -> str:
    name = FeatureColumn(view, "trained_until").name
    if name not in table.columns:
        raise ValueError(f"table: column {name!r} is missing: read view {view!r} with full feature names")
    return name
