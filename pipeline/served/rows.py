"""Rows of the request log by impression: what was served of those that were shown, over all students.

Belongs here: finding them. Not here: the log's files (files.py), what is made of their features (inputs.py).

In memory are the rows that were found, and one batch of one file: of what was ranked little is shown.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from exfm.served_inputs import ServedInputs
from exfm.stream import Stream
from pipeline.served.files import DAMAGED, ID, ROWS_AT_ONCE, TIME, RequestFile, batches_of, fault_of, files_between
from pipeline.workspace import Workspace

CLOCKS = timedelta(minutes=5)  # by which a server's clock may be ahead of the sender's
RELEASE, STUDENT = "served_version", "served_student"
_SHOWN, _ROW, _OF = "_shown_at", "_row", "_of"


@dataclass
class Served:
    """Rows of some impressions, each once.

    Args:
        groups: rows of releases that read the same columns: ``impression_id``, ``event_timestamp`` (of the request),
            the item, ``served_version``, ``served_student``, then those columns.
        late: rows of requests that were too long before, so far as they lie in the files that were read.
        other_items: rows whose impression shows another item than they ranked: its id was mixed up by who logged it.
        passed_over: why -> how many files.
    """

    groups: list[pl.DataFrame]
    late: int = 0
    other_items: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return sum(group.height for group in self.groups)


def served_rows(
    work: Workspace, declared: ServedInputs, shown: pl.DataFrame, columns: Sequence[str], folder: Path | None = None
) -> Served:
    """What servers answered for impressions.

    Args:
        shown: ``impression_id``, ``event_timestamp`` and the item of impressions.
        columns: those wanted; a release that did not read one has none.
        folder: of the log; ``None``: that of answers.
    """
    served = Served([])
    if shown.is_empty():
        return served
    item = work.project.stream.item.name
    first, last = shown[TIME].min(), shown[TIME].max()
    files = files_between(folder or work.state.requests, first - declared.within, last + CLOCKS)  # type: ignore[operator, arg-type]
    known = shown.select(ID, item, pl.col(TIME).alias(_SHOWN))
    wanted = list(dict.fromkeys((ID, TIME, item, RELEASE, *columns)))
    found: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    for file in files:
        for frame in _read(file, known, wanted, work.project.stream, declared.within, served):
            same = frame[item].eq_missing(frame[f"{item}_shown"])
            served.other_items += int((~same).sum())
            kept = frame.filter(same).drop(f"{item}_shown", _SHOWN)
            if kept.height:
                found.setdefault(tuple(zip(kept.columns, map(str, kept.dtypes), strict=True)), []).append(kept)  # type: ignore[arg-type]
    served.groups = _once([pl.concat(frames) for frames in found.values()])
    return served


def _read(
    file: RequestFile, known: pl.DataFrame, wanted: Sequence[str], stream: Stream, within: timedelta, served: Served
) -> Iterator[pl.DataFrame]:
    """Rows of a file whose impressions are known and were shown in time; one that can't be read is counted."""
    if (fault := fault_of(file, stream.item.name, stream.item.dtype)) is not None:
        served.passed_over[fault] += 1
        return
    in_time = (pl.col(_SHOWN) - pl.col(TIME)).is_between(-CLOCKS, within)
    try:
        for batch in batches_of(file, wanted):
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                frame = pl.from_arrow(batch.slice(start, ROWS_AT_ONCE))
                assert isinstance(frame, pl.DataFrame)
                both = frame.join(known, on=ID, how="inner", suffix="_shown", maintain_order="left")
                kept = both.filter(in_time).with_columns(pl.lit(file.student).alias(STUDENT))
                served.late += both.height - kept.height
                yield kept
    except (pa.ArrowException, OSError):
        served.passed_over[DAMAGED] += 1


def _once(groups: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Each impression's row once, however often it was found: the first by request, student and release."""
    if not groups:
        return []
    keys = [
        group.select(
            ID, TIME, STUDENT, RELEASE, pl.lit(at).alias(_OF), pl.Series(_ROW, np.arange(group.height), pl.Int64)
        )
        for at, group in enumerate(groups)
    ]
    first = pl.concat(keys).sort(TIME, STUDENT, RELEASE, _OF, _ROW).unique(ID, keep="first", maintain_order=True)
    kept = [group[first.filter(pl.col(_OF) == at)[_ROW].sort()] for at, group in enumerate(groups)]
    return [group for group in kept if group.height]
