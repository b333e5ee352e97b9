"""Which impressions the log's outcomes are of, found part by part.

Belongs here: the outcomes of a slice's impressions, and a slice's outcomes that are of none.
Not here: what they make of labels (transforms/labels.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

import polars as pl

from exfm.stream import Slice, Stream
from pipeline.sidecar import hashed_beside
from pipeline.slices.log_withdrawals import read_sound_log_in_parts, withdrawn_impressions
from pipeline.slices.narrow import NarrowSlice
from pipeline.streams.layout import LogFiles
from pipeline.streams.reader import LogRead
from pipeline.tables import SliceTable
from pipeline.transforms.labels import part_orphans
from pipeline.workspace import Workspace

LOOKED_UP = 1 << 23  # outcomes whose impressions are looked for at once: some 40 bytes each


def recognised_since(stream: Stream, start: datetime) -> datetime:
    """An outcome at ``start`` may belong to an impression as old as this; of an older one it is an orphan."""
    return max(start - stream.longest_window - stream.lateness, stream.first_slice)


def outcomes_of(work: Workspace, shown: NarrowSlice, until: datetime, files: LogFiles | None = None) -> pl.DataFrame:
    """The outcomes of a slice's impressions that the log has before ``until``: they are in memory.

    Args:
        shown: the impressions' ``impression_id`` and ``event_timestamp``.

    Returns:
        The log's columns, and of the impression ``event_timestamp`` and its ``row`` in the slice; in the log's order
        (by time, then keys), however many were looked for at once.

    Raises:
        DataError: if the slice's impressions, or the log, can't be read.
    """
    log = read_sound_log_in_parts(work, "outcomes", shown.slice_.start, until, files)
    found, groups = [], _beside_check(shown.table, [shown.slice_], log)
    rows = shown.lazy().select("impression_id", "event_timestamp").with_row_index("row")
    for some in groups:
        outcomes = pl.concat([part.frame for part in some])
        theirs = _among(rows, outcomes["impression_id"])
        found.append(outcomes.join(theirs, on="impression_id", maintain_order="left"))
    return pl.concat(found).select(pl.all().exclude("row"), "row")


def without_orphans(work: Workspace, slice_: Slice, parts: Iterable[LogRead]) -> Iterator[LogRead]:
    """A slice's outcomes, of which orphans are quarantined with the reason.

    Raises:
        DataError: if a slice of the impressions that they may be of is missing or damaged.
    """
    stream = work.project.stream
    around = list(stream.slices(recognised_since(stream, slice_.start), slice_.end))
    impressions = work.table("impressions")
    groups, gone = _beside_check(impressions, around, parts), withdrawn_impressions(work, around)
    shown = impressions.scan(around).select("impression_id")
    for some in groups:
        ids = pl.concat([read.frame["impression_id"] for read in some])
        is_known, row = ids.is_in(_among(shown, ids)["impression_id"].implode()), 0
        theirs = gone.filter(pl.col("impression_id").is_in(ids.implode()))
        for read in some:
            kept, orphans = part_orphans(read.frame, is_known.slice(row, read.frame.height), theirs)
            row += read.frame.height
            yield LogRead(
                frame=kept, quarantine=pl.concat([read.quarantine, orphans], how="diagonal"), rows_read=read.rows_read
            )


def _beside_check(
    impressions: SliceTable, slices: Sequence[Slice], parts: Iterable[LogRead]
) -> Iterator[list[LogRead]]:
    """Outcomes in groups of parts, of which the first is read while the impressions' files are hashed.

    That takes one core; whoever reads the impressions next need not wait for it.
    """
    groups = _together(parts)
    with hashed_beside(map(impressions.path, slices)):
        first = list(islice(groups, 1))
    return chain(first, groups)


def _together(parts: Iterable[LogRead]) -> Iterator[list[LogRead]]:
    """Several parts at once, since each look at the impressions reads the ids of all of them."""
    some: list[LogRead] = []
    for part in parts:
        if some and sum(each.rows_read for each in some) + part.rows_read > LOOKED_UP:
            yield some
            some = []
        some.append(part)
    if some:
        yield some


def _among(shown: pl.LazyFrame, ids: pl.Series) -> pl.DataFrame:
    """The impressions that have one of these ids."""
    return shown.filter(pl.col("impression_id").is_in(ids.implode())).collect(engine="streaming")
