"""Rows of views that are made of the log, slice by slice; of more of the log than fits into memory, by entities.

Belongs here: which slices a view reads, and how much of them at once. Not here: what its rows are (transforms/).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.stream import Slice
from pipeline.parts import folder_aside
from pipeline.sorted_parts import sorted_parts
from pipeline.transforms.aggregates import counted
from pipeline.transforms.labels import with_labelled
from pipeline.transforms.view_rows import LogView, reads_interactions, since, view_rows
from pipeline.workspace import Workspace

PARTS_AT_ONCE = 32  # of a table's rows: only entities and times of them are read, and what a history lists
NUMBERS_AT_ONCE = 192  # the same of counts, for each of which a row has a number beside those two
Rows = pl.DataFrame | Iterable[pl.DataFrame]


def made_rows(work: Workspace, view: LogView, slices: Sequence[Slice]) -> Iterator[tuple[Slice, Rows]]:
    """A view's rows of adjacent slices, computed together (equal to one by one: a test holds that).

    An entity's rows depend on its own events alone, so of many events they are made for a share of entities at a time.
    What SQL or a function of the user's makes is made at once: nobody else knows what its rows depend on.
    """
    stream = work.project.stream
    around = list(stream.slices(since(view, stream, slices[0].start), slices[-1].end))
    tables = ["impressions", "outcomes", *(["interactions"] if reads_interactions(view) else [])]
    rows = sum(work.table(name).rows(slice_) for name in tables for slice_ in around)
    shares = -(-rows // (parts_at_once(view) * stream.part_rows)) if isinstance(view, FeatureView | HistoryView) else 1
    if shares <= 1:
        made = _made(work, view, slices, around, lambda events: events)
        for slice_ in slices:
            yield slice_, made.filter(_stamped_in(slice_))
        return
    with folder_aside(work.features(view.name).folder, "shares") as aside:
        files = [aside / f"{share:06}.parquet" for share in range(shares)]
        for share, file in enumerate(files):
            made = _made(work, view, slices, around, _of_share(view, share, shares))
            made.write_parquet(file, compression="lz4")
        order = ("event_timestamp", *view.entities)
        for slice_ in slices:
            yield slice_, sorted_parts(files, _stamped_in(slice_), order, stream.part_rows)


def parts_at_once(view: FeatureView | HistoryView) -> int:
    """How many parts of the log a view is made of at once, by what is held of each row."""
    if isinstance(view, HistoryView):
        return PARTS_AT_ONCE
    return max(NUMBERS_AT_ONCE // (2 + len(counted(view)) * len(view.windows)), 1)


def _made(
    work: Workspace,
    view: LogView,
    slices: Sequence[Slice],
    around: Sequence[Slice],
    chosen: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> pl.DataFrame:
    """The view's rows stamped in some slices, of chosen events of the slices around them."""
    stream = work.project.stream
    impressions, outcomes = (work.table(name).scan(around) for name in ("impressions", "outcomes"))
    outcomes = with_labelled(stream, impressions, outcomes)
    # Read only if the view counts them: it may be requested before they are there.
    interactions = chosen(work.table("interactions").scan(around)) if reads_interactions(view) else pl.LazyFrame()
    return view_rows(view, stream, chosen(impressions), outcomes, interactions, slices[0].start, slices[-1].end)


def _of_share(view: LogView, share: int, shares: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Events of a share of the view's entities."""
    mine = pl.struct(view.entities).hash(seed=0) % shares == share
    return lambda events: events.filter(mine)


def _stamped_in(slice_: Slice) -> pl.Expr:
    return pl.col("event_timestamp").is_between(slice_.start, slice_.end, closed="right")
