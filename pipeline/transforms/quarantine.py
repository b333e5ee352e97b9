"""Quarantine: rows that break a contract, each with its reason; counted, never dropped.

Belongs here: parting and counting rows. Not here: the rules (streams/contract.py), files.
"""

from collections.abc import Sequence

import polars as pl

WITHDRAWN = "withdrawn"  # how the reason of a row begins that a person took back
ORPHAN = "orphan"  # how the reason of an outcome begins that belongs to no impression


def part(frame: pl.DataFrame, rules: Sequence[tuple[pl.Expr, pl.Expr]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that keep all rules and those that break one.

    Args:
        rules: (broken, reason) pairs; the first broken rule names the reason.

    Returns:
        kept rows, and quarantined rows with ``reason`` (String).
    """
    reason: pl.Expr = pl.lit(None, pl.String)
    for broken, why in reversed(rules):
        reason = pl.when(broken.fill_null(False)).then(why).otherwise(reason)
    judged = frame.with_columns(reason.alias("reason"))
    return judged.filter(pl.col("reason").is_null()).drop("reason"), judged.filter(pl.col("reason").is_not_null())


def count_reasons(quarantine: pl.DataFrame) -> dict[str, int]:
    """How many rows each kind of reason holds (the part before its colon), most frequent first."""
    kinds = quarantine.select(pl.col("reason").str.split(":").list.first().alias("kind"))
    counted = kinds.group_by("kind").len().sort(["len", "kind"], descending=[True, False])
    return {kind: count for kind, count in counted.iter_rows()}
