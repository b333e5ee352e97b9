"""Windows of the log that fit into memory: a window is cut by time so that each part has few enough rows.

Belongs here: how many rows lie where. Not here: reading them (reader.py).
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl

Window = tuple[datetime, datetime]
Counts = Callable[[datetime, datetime, timedelta], pl.DataFrame]  # -> ``step``, ``len`` of steps that have rows
STEPS = 1024
SHORTEST = timedelta(microseconds=1)


def cut_by_time(start: datetime, end: datetime, most: int, count: Counts) -> list[Window]:
    """Adjacent windows over [start, end) of at most ``most`` rows each, where time can tell rows apart."""
    step = max(-(-(end - start) // STEPS), SHORTEST)
    counted = dict(count(start, end, step).sort("step").iter_rows())
    if sum(counted.values()) <= most or end - start <= SHORTEST:
        return [(start, end)]
    windows: list[Window] = []
    since, rows = start, 0
    for number, here in counted.items():
        first = start + number * step
        if rows and rows + here > most:
            windows.append((since, first))
            since, rows = first, 0
        rows += here
        if here > most:
            (_, cut), *others = cut_by_time(first, min(first + step, end), most, count)
            windows += [(since, cut), *others]
            since, rows = windows[-1][1], 0
    return [*windows, (since, end)] if since < end else windows
