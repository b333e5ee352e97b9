"""Events of more of the log than fits into memory, put aside by entity, so that it is not read for each share of them.

Belongs here: joining outcomes to more impressions than memory holds, files of the events of a share of entities.
Not here: when that is needed and what is made of them (made_views.py), what an event is (transforms/events.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from exfm.feature_views import INTERACTIONS
from exfm.stream import Slice, Stream
from pipeline.slices.attributed import LOOKED_UP
from pipeline.transforms.events import Events
from pipeline.transforms.view_rows import EventView, events_for
from pipeline.workspace import Workspace

_SHARE = "exfm share"  # what no column is called


@dataclass(frozen=True)
class LogTables:
    """What a view reads of the log.

    Args:
        rows: of each table that it reads.
    """

    impressions: pl.LazyFrame
    outcomes: pl.LazyFrame
    interactions: pl.LazyFrame
    rows: Mapping[str, int]

    @classmethod
    def of(cls, work: Workspace, slices: Sequence[Slice], *, interactions: bool) -> "LogTables":
        """Those of some slices; interactions only if they are read, since they may not be there yet.

        Raises:
            DataError: if a slice is missing or damaged.
        """
        names = ("impressions", "outcomes", *([INTERACTIONS] if interactions else []))
        rows = {name: sum(map(work.table(name).rows, slices)) for name in names}
        impressions, outcomes = (work.table(name).scan(slices) for name in names[:2])
        met = work.table(INTERACTIONS).scan(slices) if interactions else pl.LazyFrame()
        return cls(impressions, outcomes, met, rows)

    def events(self, view: EventView, stream: Stream) -> Events:
        """What a view counts or lists of them."""
        return events_for(view, stream, self.impressions, self.outcomes, self.interactions)

    def events_at_most(self, view: EventView, stream: Stream) -> int:
        """How many those can be, before outcomes are looked at: each is of one task and counts once."""
        tables = [_table(source, stream) for source in view.sources]
        return sum(self.rows[table] * (1 if table == "outcomes" else tables.count(table)) for table in set(tables))

    def joins(self, view: EventView, stream: Stream) -> bool:
        """Are there outcomes to be joined to their impressions?"""
        return any(_table(source, stream) == "outcomes" for source in view.sources)

    def among(self, look: int, looks: int) -> "LogTables":
        """One of so many groups of impressions, with their outcomes."""
        if looks == 1:
            return self
        mine = pl.col("impression_id").hash(seed=1) % looks == look
        return LogTables(self.impressions.filter(mine), self.outcomes.filter(mine), self.interactions, self.rows)


@dataclass(frozen=True)
class Share:
    """The events of a share of the entities: as many as its ``len``."""

    events: Events
    rows: int

    def __len__(self) -> int:
        return self.rows


def put_aside(
    view: EventView, stream: Stream, log: LogTables, shares: int, folder: Path, say: Callable[[str], object]
) -> list[Share]:
    """A view's events by shares of its entities, in files of a folder.

    A table is read once for each source of events. Outcomes are joined in the streaming engine, which holds them and
    not the impressions: ``LOOKED_UP`` in a pass.

    Args:
        say: is told what is read.
    """
    share = (pl.struct(view.entities).hash(seed=0) % shares).alias(_SHARE)
    for number, source in enumerate(view.sources):
        table = _table(source, stream)
        looks = -(-log.rows["outcomes"] // LOOKED_UP) if table == "outcomes" else 1
        for look in range(looks):
            say(f"{view.name}: {_read(source, log.rows, table)}, pass {look + 1} of {looks}")
            events = log.among(look, looks).events(view, stream)[source]
            files = pl.PartitionBy(folder / f"{number}-{look}", key=share, include_key=False)
            events.sink_parquet(files, compression="lz4", statistics=False, engine="streaming")
    schemas = {source: events.collect_schema() for source, events in log.events(view, stream).items()}
    return [_share(folder, schemas, number) for number in range(shares)]


def _share(folder: Path, schemas: Mapping[str, pl.Schema], share: int) -> Share:
    """What was put aside of one share: nothing, where no entity fell into it."""
    events, rows = {}, 0
    for number, (source, schema) in enumerate(schemas.items()):
        files = sorted(folder.glob(f"{number}-*/{_SHARE}={share}/*.parquet"))
        stored = [pl.scan_parquet(file, hive_partitioning=False, glob=False) for file in files]
        events[source] = pl.concat([pl.LazyFrame(schema=schema), *stored])
        rows += sum(int(each.select(pl.len()).collect().item()) for each in stored)
    return Share(events, rows)


def _read(source: str, rows: Mapping[str, int], table: str) -> str:
    """What a pass reads."""
    if table == "outcomes":
        return f"looks for the impressions of {rows[table]:,} outcomes ({source!r}) among {rows['impressions']:,}"
    return f"reads {source!r}, of {rows[table]:,} {table}"


def _table(source: str, stream: Stream) -> str:
    """Which rows of the log a source's events are: a label of an impression is not an outcome in a table."""
    if source in stream.outcome_tasks:
        return "outcomes"
    return INTERACTIONS if source == INTERACTIONS else "impressions"
