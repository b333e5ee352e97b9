"""Repeated impressions: ids that a window of the log has more than once, or that a sound row before it has already.

Belongs here: which ids those are, and which of their rows is the first. Not here: reading the rows (reader.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import polars as pl

from pipeline.streams.contract import AGAIN

Ids = Callable[[int, int], pl.Series]  # residue, divisor -> ids of the window with that residue
Earlier = Callable[[pl.Series], pl.DataFrame]  # ids -> those of a sound row before the window, with its ``_slice``
IDS_AT_ONCE = 1 << 24  # of which 24 bytes each are in memory


@dataclass
class Repeats:
    """What is known of repeated ids while a window is read part by part, in the order of time.

    Args:
        doubtful: ids that several rows of the window have, sound or not.
        earlier: ``impression_id`` and ``_slice`` of those that a row before the window has.
    """

    doubtful: pl.Series
    earlier: pl.DataFrame
    _seen: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))

    @classmethod
    def among(cls, ids: Ids, rows: int, earlier: Earlier) -> "Repeats":
        """Look for them, ``IDS_AT_ONCE`` at a time.

        Args:
            rows: of the window, about.
        """
        divisor = -(-max(rows, 1) // IDS_AT_ONCE)
        doubtful, before = [], []
        for residue in range(divisor):
            some = ids(residue, divisor).drop_nulls().sort()  # sorting finds pairs in a third of the time of hashing
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
        doubtful = part.lazy().with_row_index("_row").filter(pl.col("impression_id").is_in(self.doubtful.implode()))
        broken = pl.any_horizontal(each.fill_null(False) for each in sound)
        first = doubtful.filter(~broken).select("_row", "impression_id").collect()
        known = pl.col("impression_id").is_in(self._seen.implode())
        again = first.filter(known | ~pl.col("impression_id").is_first_distinct())["_row"]
        self._seen = pl.concat([self._seen, first["impression_id"]]).unique()
        marks = pl.Series(AGAIN, [False]).new_from_index(0, part.height)
        return part.with_columns(marks.scatter(again, True))

    def part_earlier(self, kept: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows whose id no earlier slice has, and the others with the reason."""
        if self.earlier.is_empty():
            return kept, kept.head(0).with_columns(reason=pl.lit(None, pl.String))
        joined = kept.join(self.earlier, on="impression_id", how="left", maintain_order="left")
        reason = pl.format(
            "repeated impression_id: {} is in slice {} already", pl.col("impression_id"), pl.col("_slice")
        )
        repeated = joined.filter(pl.col("_slice").is_not_null()).with_columns(reason=reason).drop("_slice")
        return joined.filter(pl.col("_slice").is_null()).drop("_slice"), repeated
