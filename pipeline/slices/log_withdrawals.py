"""Slices of the log that were withdrawn: their rows are quarantined, and what they would have told is unknown.

Belongs here: reading the log without them, and telling what was made before. Not here: the record (withdrawals.py),
what becomes of releases (releases/withdrawing.py).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from exfm.declaration import digest
from exfm.stream import Slice
from pipeline.slices.withdrawals import Withdrawal, withdrawals
from pipeline.streams.contract import TIME
from pipeline.streams.layout import LogFiles, log_files
from pipeline.streams.reader import LogRead, read_log_in_parts, whole
from pipeline.transforms.quarantine import WITHDRAWN
from pipeline.workspace import Workspace

LOG_TABLES = tuple(TIME)
Window = tuple[datetime, datetime]


def of_log(work: Workspace, *tables: str) -> Iterator[tuple[Slice, Withdrawal]]:
    """Withdrawn slices of some tables of the log; one that the stream no longer has is passed over."""
    every = [each for each in withdrawals(work) if each.model in (tables or LOG_TABLES)]
    if every:
        stream = work.project.stream
        by_key = {slice_.key: slice_ for slice_ in stream.slices(stream.first_slice, work.now())}
        yield from ((by_key[each.slice], each) for each in every if each.slice in by_key)


def withdrawn_between(work: Workspace, table: str, start: datetime, end: datetime) -> list[tuple[Slice, Withdrawal]]:
    """What is withdrawn now of a table in [start, end)."""
    found = of_log(work, table)
    return [(slice_, each) for slice_, each in found if not each.restored and slice_.start < end and start < slice_.end]


def withdrawn_digest(work: Workspace, table: str, start: datetime, end: datetime) -> dict[str, str]:
    """The same as an entry of what a slice is made of; none where nothing is withdrawn."""
    found = withdrawn_between(work, table, start, end)
    return {WITHDRAWN: digest([each.digest for _, each in found])} if found else {}


def read_sound_log(
    work: Workspace, table: str, start: datetime, end: datetime, files: LogFiles | None = None
) -> LogRead:
    """``read_log`` of a workspace; rows of withdrawn slices are quarantined, each with the reason."""
    return whole(read_sound_log_in_parts(work, table, start, end, files))


def read_sound_log_in_parts(
    work: Workspace, table: str, start: datetime, end: datetime, files: LogFiles | None = None
) -> Iterator[LogRead]:
    """The same in parts: see ``read_log_in_parts``."""
    withdrawn = withdrawn_between(work, table, start, end)
    listed, aside = files or log_files(work, table), work.table(table).folder
    for read in read_log_in_parts(work.state.log, work.project.stream, table, start, end, listed, aside):
        sound = read
        for slice_, each in withdrawn:
            gone = pl.col(TIME[table]).is_between(slice_.start, slice_.end, closed="left")
            broken = sound.frame.filter(gone).with_columns(reason=pl.lit(f"{WITHDRAWN}: {each.why}"))
            quarantine = pl.concat([sound.quarantine, broken], how="diagonal")
            sound = LogRead(sound.frame.filter(~gone), quarantine, sound.rows_read)
        yield sound


def unknown_outcomes(work: Workspace, start: datetime, end: datetime) -> list[Window]:
    """Stretches of [start, end) of which outcomes are not known: nobody can say that there was none."""
    return [(slice_.start, slice_.end) for slice_, _ in withdrawn_between(work, "outcomes", start, end)]


def withdrawn_impressions(work: Workspace, slices: Sequence[Slice]) -> pl.DataFrame:
    """Ids of the impressions of some slices that were withdrawn: ``impression_id``."""
    start, end = slices[0].start, slices[-1].end
    gone = [slice_ for slice_, _ in withdrawn_between(work, "impressions", start, end)]
    no_rows = pl.DataFrame(schema={"impression_id": pl.Int64})
    if not gone:
        return no_rows
    quarantine = work.quarantine("impressions")
    found = quarantine.read([slice_ for slice_ in gone if quarantine.has(slice_)], columns=["impression_id", "reason"])
    return found.filter(pl.col("reason").str.starts_with(WITHDRAWN)).select("impression_id")


def withdrawn_since(work: Workspace, slice_: Slice, path: Path) -> Withdrawal | None:
    """The withdrawal of a slice of the log, or its end, that a file was made before and may hang on.

    Such a change is made good however old the slice is.
    """
    for first, each in of_log(work):
        at = datetime.fromisoformat(each.restored or each.at)
        if slice_.index >= reach(work, each.model, first) and path.is_file():
            made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if made < at:
                return each
    return None


def reach(work: Workspace, table: str, slice_: Slice) -> int:
    """The index of the first slice that may hang on a slice of the log: outcomes are those of earlier impressions."""
    if table != "outcomes":
        return slice_.index
    stream = work.project.stream
    return stream.index_at(max(slice_.start - stream.longest_window, stream.first_slice))
