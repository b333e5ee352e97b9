"""Which impressions the log's outcomes are of, found part by part.

Belongs here: the outcomes of a slice's impressions, and a slice's outcomes that are of none.
Not here: what they make of labels (transforms/labels.py).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

import polars as pl

from exfm.stream import Slice, Stream
from pipeline.slices.log_withdrawals import read_sound_log_in_parts, withdrawn_impressions
from pipeline.streams.layout import LogFiles
from pipeline.streams.reader import LogRead
from pipeline.transforms.labels import find_orphans
from pipeline.workspace import Workspace


def recognised_since(stream: Stream, start: datetime) -> datetime:
    """An outcome at ``start`` may belong to an impression as old as this; of an older one it is an orphan."""
    return max(start - stream.longest_window - stream.lateness, stream.first_slice)


def outcomes_of(work: Workspace, slice_: Slice, until: datetime, files: LogFiles | None = None) -> pl.DataFrame:
    """The outcomes of a slice's impressions that the log has before ``until``, with the impressions' own times.

    They are in memory, the impressions are not.

    Raises:
        DataError: if the slice's impressions, or the log, can't be read.
    """
    shown = work.table("impressions").scan([slice_]).select("impression_id", "event_timestamp")
    parts = read_sound_log_in_parts(work, "outcomes", slice_.start, until, files)
    found = [part.frame.lazy().join(shown, on="impression_id").collect(engine="streaming") for part in parts]
    return pl.concat(found).sort("event_timestamp")


def without_orphans(work: Workspace, slice_: Slice, parts: Iterable[LogRead]) -> Iterator[LogRead]:
    """A slice's outcomes, of which orphans are quarantined with the reason.

    Raises:
        DataError: if a slice of the impressions that they may be of is missing or damaged.
    """
    stream = work.project.stream
    around = list(stream.slices(recognised_since(stream, slice_.start), slice_.end))
    shown = work.table("impressions").scan(around).select("impression_id")
    gone = withdrawn_impressions(work, around)
    for read in parts:
        wanted = read.frame.lazy().select("impression_id").unique()
        known = shown.join(wanted, on="impression_id", how="semi").collect(engine="streaming")
        orphans = find_orphans(read.frame, known, gone)
        yield LogRead(
            frame=read.frame.join(orphans.select("impression_id").unique(), on="impression_id", how="anti"),
            quarantine=pl.concat([read.quarantine, orphans], how="diagonal"),
            rows_read=read.rows_read,
        )
