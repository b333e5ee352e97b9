"""The account of a run over one table of the log: what was read, kept, refused, and what lies outside the stream.

Belongs here: counting, the one sentence that says it, and when so little came that the run must stop.
Not here: reading (reader.py), the stored tables that tell whether anything ever came (assets/stream.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from exfm.stream import Stream
from pipeline.streams.contract import TIME, schema_of
from pipeline.streams.footers import may_hold
from pipeline.streams.layout import LogFiles
from pipeline.streams.reader import LogRead, columns_of_file, rows_of_file, times_of_file
from pipeline.tables import DataError
from pipeline.transforms.quarantine import ORPHAN, WITHDRAWN, count_reasons

LEAST_JUDGED = 100  # rows read from which on the refused share counts
FEW = 10  # rows from which on it is an error that all were refused, while more may come
MOST_NAMED = 8
COUNTED_FILES = 1_000  # outside the stream; of more, files are counted, not rows


@dataclass(frozen=True)
class SliceAccount:
    """What came of one slice of a table of the log.

    Args:
        young: refused orphans so early in the stream that their impressions may be older than it.
        reasons: rows refused, by reason.
        names: rows refused by the unknown name of their task.
        alone: rows kept that name no request.
    """

    read: int
    kept: int
    young: int
    reasons: Mapping[str, int]
    names: Mapping[str, int]
    alone: int = 0

    @classmethod
    def of(cls, read: LogRead, table: str, stream: Stream) -> "SliceAccount":
        young = 0
        if table == "outcomes":
            mature_at = stream.shown_since + stream.longest_window + stream.lateness
            orphan = pl.col("reason").str.starts_with(ORPHAN)
            young = read.quarantine.filter(orphan, pl.col(TIME["outcomes"]) < mature_at).height
        names = unknown_names(read.quarantine)
        request = stream.request.name if stream.request is not None and table == "impressions" else None
        alone = read.frame[request].null_count() if request is not None else 0
        return cls(read.rows_read, read.frame.height, young, count_reasons(read.quarantine), names, alone)

    @classmethod
    def none(cls) -> "SliceAccount":
        return cls(0, 0, 0, {}, {})

    def __add__(self, other: "SliceAccount") -> "SliceAccount":
        """Of two parts of a slice."""
        reasons, names = (
            dict(Counter(mine) + Counter(theirs))
            for mine, theirs in ((self.reasons, other.reasons), (self.names, other.names))
        )
        counts = (self.read + other.read, self.kept + other.kept, self.young + other.young)
        return SliceAccount(*counts, _most_first(reasons), _most_first(names), self.alone + other.alone)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda counted: (-counted[1], counted[0])))


@dataclass
class Account:
    """Counts over the slices of a run, of those that stand and those that are made."""

    files: LogFiles
    stream: Stream
    read: int = 0
    kept: int = 0
    young: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    alone: int = 0

    def add(self, counted: SliceAccount) -> None:
        """Count a slice."""
        self.read += counted.read
        self.kept += counted.kept
        self.young += counted.young
        self.alone += counted.alone
        self.reasons.update(counted.reasons)
        self.names.update(counted.names)

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    @property
    def excused(self) -> int:
        """Refused rows that say nothing of the log: orphans from before the stream, and what a person withdrew."""
        return self.young + self.reasons[WITHDRAWN]

    @property
    def judged(self) -> int:
        """Rows that the share of refused ones is of."""
        return self.read - self.excused

    def sentence(self) -> tuple[str, bool]:
        """All of it in one sentence, and whether any of it needs attention."""
        message = f"{self.files.table}: {self.read:,} rows read, {self.kept:,} kept, {self.quarantined:,} quarantined"
        if self.reasons:
            message += f" ({self._why()})"
        outside = self.outside()
        unread = self._unread()
        needs_attention = bool(self.reasons or outside or unread or not self.kept)
        parts = (message, self._alone(), self._after_until(), outside, unread, self._unread_columns())
        return "; ".join(part for part in parts if part), needs_attention

    def _why(self) -> str:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common())
        if self.names:
            listed += ": " + ", ".join(f"{name!r}" for name, _ in self.names.most_common(5))
        misfiled = self.reasons.get("outside its day folder", 0)
        return listed + (": a folder's day is the UTC day of its rows, not a local one" if misfiled else "")

    def _alone(self) -> str:
        request = self.stream.request
        if request is None or not self.alone:
            return ""
        return f"{self.alone:,} rows name no {request.name}, so NDCG and recall leave them out"

    def _unread(self) -> str:
        unread = self.files.unread
        return f"{len(unread):,} files are not read, for they don't end in .parquet: {unread[0]}" if unread else ""

    def _unread_columns(self) -> str:
        """Columns of the newest file that nothing declared reads: a weight or a price may be among them."""
        newest = next((paths[-1] for _, paths in sorted(self.files.days.items(), reverse=True)), None)
        known = schema_of(self.stream, self.files.table)
        try:
            held = columns_of_file(self.files, newest) if newest is not None else []
        except DataError:
            return ""  # a file that is not whole is said by the slice that reads it
        unread = [name for name in held if name not in known]
        more = f" and {len(unread) - MOST_NAMED} more" if unread[MOST_NAMED:] else ""
        named = ", ".join(unread[:MOST_NAMED]) + more
        return f"not read, for Stream declares no such column: {named}" if unread else ""

    def outside(self) -> str:
        """What the log holds before the stream's first slice or after its last, counted from the files' footers."""
        until = self._until()
        before = datetime.combine(self.stream.first_slice.date(), time(), UTC)
        paths = [
            path
            for day, listed in self.files.days.items()
            for path in listed
            if (moment := datetime.combine(day, time(), UTC)) < before or (until is not None and moment >= until)
        ]
        count = self._rows_on_edge_days(until) if len(paths) <= COUNTED_FILES else 0
        if len(paths) <= COUNTED_FILES:
            count += sum(rows_of_file(self.files, path) for path in paths)
            amount = f"{count:,} rows" if count else ""
        else:
            amount = f"{len(paths):,} files"
        if not amount:
            return ""
        ends = f" .. until {_day(self.stream.until)}" if self.stream.until else ""
        return (
            f"{amount} of the log lie outside the stream (first_slice {_day(self.stream.first_slice)}{ends}): "
            "move Stream.first_slice or until to take them in"
        )

    def _after_until(self) -> str:
        """Outcomes of a closed stream that are in no slice, because they came after the last one."""
        until, tail = self.stream.until, self._until()
        if until is None or tail is None or tail <= until:
            return ""
        count = 0
        for day, path in self.files.between(until, tail):
            if may_hold(path, day, self.files.table, until, tail):
                at = times_of_file(self.files, path)
                count += int(((at >= until) & (at < tail)).sum())
        return f"{count:,} more, after until, are read for labels alone" if count else ""

    def _until(self) -> datetime | None:
        """When the last row ends that the stream can use: labels read outcomes after the last slice."""
        if self.stream.until is None or self.files.table != "outcomes":
            return self.stream.until
        return self.stream.until + self.stream.longest_window + self.stream.lateness

    def _rows_on_edge_days(self, until: datetime | None) -> int:
        """Rows outside the stream in folders of days that are partly inside."""
        first, count = self.stream.first_slice, 0
        for edge in {first.date(), (until - timedelta(microseconds=1)).date() if until else first.date()}:
            start = datetime.combine(edge, time(), UTC)
            cut = start < first or (until is not None and until < start + timedelta(days=1))
            for path in self.files.days.get(edge, ()) if cut else ():
                at = times_of_file(self.files, path)
                inside = (at >= first) & (at < until) if until else at >= first
                count += int((~inside & (at.dt.date() == edge)).sum())
        return count


def unknown_names(quarantine: pl.DataFrame) -> dict[str, int]:
    """Names of tasks that outcomes were refused for, most frequent first."""
    unknown = quarantine.filter(pl.col("reason").str.starts_with("unknown task"))
    if unknown.is_empty():
        return {}
    return dict(unknown.group_by("task").len().sort(["len", "task"], descending=[True, False]).iter_rows())


def check_share(account: Account) -> None:
    """Stop a run of whose rows too many were refused.

    Raises:
        DataError: if more than ``Stream.quarantine_limit`` of at least ``LEAST_JUDGED`` rows were quarantined.
    """
    limit, refused = account.stream.quarantine_limit, account.quarantined - account.excused
    if account.judged >= LEAST_JUDGED and refused > limit * account.judged:
        message, _ = account.sentence()
        raise DataError(
            f"{message}: more than Stream.quarantine_limit ({limit:.0%}) allows: mend the log or the declaration, or "
            f"raise the limit; the rows are in quarantine/{account.files.table}"
        )


def check_any(account: Account, *, complete: bool) -> None:
    """Stop a run of a table of which no slice that is stored has a row.

    A live stream that pauses, or has not begun, is no fault, nor is one whose impressions have no outcome yet.

    Args:
        complete: whether every slice of a closed stream is stored, so that nothing more can come.

    Raises:
        DataError: if rows were read and all refused, or none can come.
    """
    refused, begun = account.quarantined - account.excused, account.files.table == "impressions"
    if refused and (complete or refused >= FEW):
        why = "every row was refused: mend the log or the declaration"
    elif not account.files.days and (complete or begun):
        why = f"{account.files.folder} holds no parquet file: write day=YYYY-MM-DD/*.parquet there, or set EXFM_DATA"
    elif not any(account.files.between(account.stream.first_slice, _last(account))) and (complete or begun):
        days = list(account.files.days)
        why = f"its files are of {days[0]} .. {days[-1]}, none of the stream: move Stream.first_slice or until"
    elif complete:
        why = "no slice of the stream has one: write the log, or move Stream.first_slice and until"
    else:
        return
    raise DataError(f"{account.sentence()[0]}, and no slice that is stored has a row: {why}")


def _last(account: Account) -> datetime:
    """The end of the days in which files can lie."""
    newest = datetime.combine(max(account.files.days, default=date.min), time(), UTC) + timedelta(days=1)
    return newest if account.stream.until is None else min(newest, account.stream.until)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}" if moment.time() == time() else f"{moment:%Y-%m-%dT%H:%M}"
