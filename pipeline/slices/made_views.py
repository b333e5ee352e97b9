"""Rows of views that are made of the log, slice by slice; of more of the log than fits into memory, by entities.

Belongs here: which slices a view reads, and how much of them at once. Not here: what its rows are (transforms/), how
events are put aside (events_aside.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import polars as pl

from exfm.history_views import HistoryView
from exfm.stream import Slice
from pipeline.parts import folder_aside, silent, with_progress
from pipeline.slices.events_aside import LogTables, Share, put_aside
from pipeline.sorted_parts import LEAST_BATCH, MOST_BATCH, Merged, sorted_parts
from pipeline.transforms.view_rows import EventView, LogView, reads_interactions, rows_of_events, rows_of_log, since
from pipeline.workspace import Workspace

JOINED_AT_ONCE = 32  # parts of impressions to which outcomes are joined in memory
NUMBERS_AT_ONCE = 192  # parts of rows of one number: 400 MB of 262,144 rows a part
THREADS = 2  # that make shares at the same time: those of half a size, since much of it is done by one core
MOST_SHARES = 256  # files of them are open at once; of more events shares are larger
Rows = pl.DataFrame | Iterable[pl.DataFrame]
Say = Callable[[str], object]


def made_rows(
    work: Workspace, view: LogView, slices: Sequence[Slice], say: Say = silent
) -> Iterator[tuple[Slice, Rows]]:
    """A view's rows of adjacent slices, computed together (equal to one by one: a test holds that).

    An entity's rows depend on its own events alone, so of many events they are made for a share of entities at a time.
    What SQL or a function of the user's makes is made at once: nobody else knows what its rows depend on.

    Args:
        say: is told how far it is, where that takes long.
    """
    stream = work.project.stream
    around = list(stream.slices(since(view, stream, slices[0].start), slices[-1].end))
    log = LogTables.of(work, around, interactions=reads_interactions(view))
    if isinstance(view, EventView) and (shares := _shares(work, view, log)):
        yield from _made_of_shares(work, view, slices, log, shares, say)
        return
    made = rows_of_log(view, stream, log.impressions, log.outcomes, log.interactions, slices[0].start, slices[-1].end)
    yield from _by_slice(made, slices)


def events_at_once(view: EventView, part_rows: int) -> int:
    """Of how many events a view is made at once, by the numbers that their rows have at most.

    An event changes a row when it enters and when it leaves each window. A row of counts has one of each in each
    window; a row of a list as many as it is long of each feature, and their places; and each its entity and stamp.

    Args:
        part_rows: of a part, see ``Stream``.
    """
    if isinstance(view, HistoryView):
        numbers = 2 * (2 + view.length * (1 + len(view.features)))
    else:
        numbers = (1 + len(view.windows)) * (2 + len(view.sources) * len(view.windows))
    return max(NUMBERS_AT_ONCE * part_rows // numbers, 1)


def _shares(work: Workspace, view: EventView, log: LogTables) -> int:
    """In how many shares of its entities a view is made from events that are put aside; 0: of the log itself."""
    stream = work.project.stream
    at_once, events = events_at_once(view, stream.part_rows), log.events_at_most(view, stream)
    if events > at_once:
        return min(-(-THREADS * events // at_once), MOST_SHARES)
    joined = log.rows["impressions"] if log.joins(view, stream) else 0
    return 1 if joined > JOINED_AT_ONCE * stream.part_rows else 0


def _made_of_shares(
    work: Workspace, view: EventView, slices: Sequence[Slice], log: LogTables, shares: int, say: Say
) -> Iterator[tuple[Slice, Rows]]:
    """Rows of events that are put aside."""
    stream, order = work.project.stream, ("event_timestamp", *view.entities)

    def made(share: Share) -> pl.DataFrame:
        return rows_of_events(view, stream, share.events, slices[0].start, slices[-1].end)

    with folder_aside(work.features(view.name).folder, "shares") as aside:
        given = put_aside(view, stream, log, shares, aside, say)
        if shares == 1:
            yield from _by_slice(made(given[0]), slices)
            return
        files = {aside / f"{number:06}.parquet": share for number, share in enumerate(given)}
        at_once = events_at_once(view, stream.part_rows)
        batch = min(max(at_once // shares, LEAST_BATCH), MOST_BATCH)
        stamped = _written(files, made, batch, f"{view.name} from its events", say)
        if max(stamped.values(), default=0) > at_once:
            for slice_ in slices:
                yield slice_, sorted_parts(list(files), _stamped_in(slice_), order, stream.part_rows)
            return
        with Merged(list(files), order, batch) as merged:
            for slice_ in slices:
                yield slice_, merged.between(slice_.start, slice_.end)


def _written(
    files: Mapping[Path, Share], made: Callable[[Share], pl.DataFrame], batch: int, name: str, say: Say
) -> Counter[datetime]:
    """Make the rows of shares, several at a time, write each as a file, and count them by their stamps.

    Args:
        batch: rows of a file that will be read at once.
    """

    def write(file: Path, share: Share) -> dict[datetime, int]:
        rows = made(share)
        rows.write_parquet(file, compression="lz4", row_group_size=batch)
        return dict(rows.group_by("event_timestamp").len().iter_rows())

    stamped, rows = Counter[datetime](), sum(map(len, files.values()))
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            waiting = iter([pool.submit(write, file, share) for file, share in files.items()])
            for _ in with_progress(files.values(), name, rows, say):
                stamped.update(next(waiting).result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return stamped


def _by_slice(made: pl.DataFrame, slices: Sequence[Slice]) -> Iterator[tuple[Slice, pl.DataFrame]]:
    for slice_ in slices:
        yield slice_, made.filter(_stamped_in(slice_))


def _stamped_in(slice_: Slice) -> pl.Expr:
    return pl.col("event_timestamp").is_between(slice_.start, slice_.end, closed="right")
