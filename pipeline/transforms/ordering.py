"""Putting rows in order where most have a moment of their own, as a log's do.

Belongs here: the sort. Not here: which order tables are kept in (streams/contract.py).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

_ROW = "_row"
MOST_TIED = 4  # of rows of which more than one in so many share their time, all columns are sorted by at once


def in_order(rows: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """``rows.sort(order, maintain_order=True, nulls_last=True)``, in a tenth of the time where few share their time.

    Rows are sorted by their time alone, and only those that share one by the other columns too. Rows that are in order
    already, as most logs are written, stay as they are.

    Args:
        order: a time or a whole number, then columns of any kind that can be sorted.
    """
    at = rows[order[0]].to_physical()
    if at.null_count():
        return rows.sort(order, maintain_order=True, nulls_last=True)
    found = np.arange(rows.height) if at.is_sorted() else at.arg_sort().to_numpy(writable=True)
    times = at.to_numpy()[found]
    alike = times[1:] == times[:-1]
    tied = np.flatnonzero(np.append(alike, False) | np.insert(alike, 0, False)) if alike.any() else found[:0]
    if len(tied) * MOST_TIED > rows.height:
        return rows.sort(order, maintain_order=True, nulls_last=True)
    if len(tied):
        among = rows.select(order)[found[tied]].with_columns(pl.Series(_ROW, found[tied]))
        found[tied] = among.sort([*order, _ROW], nulls_last=True)[_ROW].to_numpy()
    return rows if at.is_sorted() and (found[tied] == tied).all() else rows[found]
