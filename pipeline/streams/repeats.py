"""Repeated impressions: ids that a window of the log has more than once, or that a sound row before it has already.

Belongs here: which ids those are, and which of their rows is the first. Not here: reading the rows (reader.py).
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.parts import folder_aside
from pipeline.streams.contract import AGAIN

Earlier = Callable[[pl.Series], pl.DataFrame]  # ids -> those of a sound row before the window, with its ``_slice``
IDS_AT_ONCE = 1 << 24  # of which 24 bytes each are in memory


def ids_by_groups(rows: pl.LazyFrame, about: int, beside: Path) -> Generator[pl.Series]:
    """The ids among rows, ``IDS_AT_ONCE`` at a time, equal ones together; null is none.

    More of them are put aside in files first, so that the rows are read once. Close it: the files go then.

    Args:
        rows: ``impression_id``, so many about; collected once.
        beside: the folder in whose file system the files lie.
    """
    ids, groups = pl.col("impression_id"), -(-about // IDS_AT_ONCE)
    wanted = rows.select(ids).filter(ids.is_not_null())
    if groups <= 1:
        yield wanted.collect(engine="streaming")["impression_id"]
        return
    with folder_aside(beside, "ids") as aside:
        group = (ids.hash(seed=0) % groups).alias("group")
        files = pl.PartitionBy(aside, key=group, include_key=False)
        wanted.sink_parquet(files, compression="lz4", statistics=False, engine="streaming")
        for folder in sorted(aside.iterdir()):
            yield pl.read_parquet(sorted(folder.iterdir()), hive_partitioning=False, glob=False)["impression_id"]


class _Sorted:
    """Ids that are looked for, part by part: a search in each costs by its rows, not by how many ids there are."""

    def __init__(self, ids: pl.Series) -> None:
        self._ids = ids.to_numpy()

    def places(self, ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        """Which of these are among them, (N,) bool, and where each of those stands; null is not."""
        asked = ids.fill_null(0).to_numpy()
        places = np.minimum(np.searchsorted(self._ids, asked), max(len(self._ids) - 1, 0))
        found = (
            (self._ids[places] == asked) & ids.is_not_null().to_numpy() if len(self._ids) else np.zeros(len(ids), bool)
        )
        return found, places[found]


@dataclass
class Repeats:
    """What is known of repeated ids while a window is read part by part, in the order of time.

    Args:
        doubtful: ids that several rows of the window have, sound or not.
        earlier: ``impression_id`` and ``_slice`` of those that a row before the window has.
    """

    doubtful: pl.Series
    earlier: pl.DataFrame

    def __post_init__(self) -> None:
        self.doubtful, self.earlier = self.doubtful.sort(), self.earlier.sort("impression_id")
        self._doubtful, self._earlier = _Sorted(self.doubtful), _Sorted(self.earlier["impression_id"])
        self._seen = np.zeros(len(self.doubtful), dtype=np.bool_)

    @classmethod
    def among(cls, ids: Iterable[pl.Series], earlier: Earlier) -> "Repeats":
        """Look for them.

        Args:
            ids: of the window, equal ones in one of these groups.
        """
        doubtful, before = [pl.Series(dtype=pl.Int64)], [earlier(pl.Series(dtype=pl.Int64))]
        for each in ids:
            some = each.sort()  # sorting finds pairs in a third of the time of hashing
            doubtful.append(some.filter(some == some.shift(1)).unique())
            before.append(earlier(some))
        return cls(pl.concat(doubtful), pl.concat(before))

    def mark(self, part: pl.DataFrame, sound: Iterable[pl.Expr]) -> pl.DataFrame:
        """With ``AGAIN``: a broken row repeats nothing, and nothing repeats it.

        Args:
            part: in the order of the log's contract; the next one after those that were marked before.
            sound: what a row breaks that is not sound.
        """
        if self.doubtful.is_empty():
            return part.with_columns(pl.lit(False).alias(AGAIN))
        found, places = self._doubtful.places(part["impression_id"])
        rows = np.flatnonzero(found)
        broken = pl.any_horizontal(each.fill_null(False) for each in sound)
        is_sound = ~part[rows].select(broken).to_series().to_numpy()
        rows, places = rows[is_sound], places[is_sound]
        is_first = pl.Series(places).is_first_distinct().to_numpy()
        again = rows[self._seen[places] | ~is_first]
        self._seen[places] = True
        marks = np.zeros(part.height, dtype=np.bool_)
        marks[again] = True
        return part.with_columns(pl.Series(AGAIN, marks))

    def part_earlier(self, kept: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows whose id no earlier slice has, and the others with the reason."""
        if self.earlier.is_empty():
            return kept, kept.head(0).with_columns(reason=pl.lit(None, pl.String))
        found, places = self._earlier.places(kept["impression_id"])
        slices = self.earlier["_slice"][places]
        reason = pl.format("repeated impression_id: {} is in slice {} already", pl.col("impression_id"), slices)
        return kept.filter(~pl.Series(found)), kept.filter(pl.Series(found)).with_columns(reason=reason)
