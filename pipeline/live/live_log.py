"""The log of a live world: what was shown and what came of it, written as files of the canonical log.

Belongs here: what is in the log by when. Not here: what was shown (visits.py), reading a log (streams/reader.py).

A slice's files are written when it ends, each whole or not there. An outcome is in the log by the end of the slice in
which it happened, not earlier. What a killed process loses is what it had not written: the slice under way.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from exfm.atomic_write import atomic_write
from exfm.stream import Slice, Stream
from pipeline.live.visits import Shown, context_values
from pipeline.streams.contract import schema_of
from pipeline.tables import write_parquet


@dataclass
class LiveLog:
    """What is to be written to a log.

    Args:
        folder: of the canonical log.
        began: names this process's files, so that a later one that writes of the same slice replaces none of them.
    """

    stream: Stream
    folder: Path
    began: datetime
    _shown: list[Shown] = field(default_factory=list)
    _visited: list[tuple[datetime, int, int]] = field(default_factory=list)
    _to_come: list[tuple[datetime, int, str, int, int]] = field(default_factory=list)  # a heap of outcomes

    def add(self, shown: Shown) -> None:
        """Log what was shown; its outcomes are in the log once they have happened."""
        self._shown.append(shown)
        for row, column in zip(*shown.logged.nonzero(), strict=True):
            at = shown.visit.at + timedelta(seconds=float(shown.delays[row, column]))
            task = self.stream.tasks[column].name
            item = int(shown.items[row])
            heapq.heappush(self._to_come, (at, int(shown.ids[row]), task, shown.visit.user, item))

    def add_visits(self, visited: Sequence[tuple[datetime, int, int]]) -> None:
        """Log users who came to items by themselves."""
        self._visited += visited

    def keep(self, path: Path) -> None:
        """Keep outcomes that are still to come, for who goes on; what is logged so far has been written."""
        plain = [(at.isoformat(), *others) for at, *others in self._to_come]
        with atomic_write(path) as file:
            file.write(json.dumps(plain).encode())

    def take_up(self, path: Path) -> None:
        """Take up outcomes that were kept; those that have happened meanwhile are in the next file."""
        if path.is_file():
            for at, *others in json.loads(path.read_bytes()):
                heapq.heappush(self._to_come, (datetime.fromisoformat(at), *others))
            path.unlink()

    def write(self, slice_: Slice, until: datetime | None = None) -> int:
        """Write what a slice holds, up to a moment within it; how many impressions that is."""
        end = min(slice_.end, until or slice_.end)
        shown = [each for each in self._shown if each.visit.at < end]
        self._shown = [each for each in self._shown if each.visit.at >= end]
        visited = [each for each in self._visited if each[0] < end]
        self._visited = [each for each in self._visited if each[0] >= end]
        came: list[tuple[datetime, int, str, int, int]] = []
        while self._to_come and self._to_come[0][0] < end:
            came.append(heapq.heappop(self._to_come))
        clicked = [(at, user, item) for at, _, task, user, item in came if task == self.stream.tasks[0].name]
        impressions = pl.DataFrame(list(self._impressions(shown)), schema=schema_of(self.stream, "impressions"))
        tables = {
            "truth": self._truth(shown),
            "outcomes": self._frame("outcomes", [(ids, task, at) for at, ids, task, _, _ in came]),
            "interactions": self._frame("interactions", sorted([*clicked, *visited])),
            "impressions": impressions.sort("event_timestamp"),
        }
        for table, frame in tables.items():
            self._write(table, frame, slice_)
        return impressions.height

    def _write(self, table: str, frame: pl.DataFrame, slice_: Slice) -> None:
        if frame.is_empty():
            (self.folder / table).mkdir(parents=True, exist_ok=True)
            return
        name = f"{slice_.folder.removeprefix('slice=')}-by-{self.began:%Y%m%dT%H%M%S}.parquet"
        write_parquet(frame, self.folder / table / f"day={slice_.start:%Y-%m-%d}" / name)

    def _frame(self, table: str, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        schema = schema_of(self.stream, table)
        names = {
            "outcomes": ("impression_id", "task", "outcome_timestamp"),
            "interactions": ("event_timestamp", self.stream.user.name, self.stream.item.name),
        }[table]
        return pl.DataFrame(rows, schema={name: schema[name] for name in names}, orient="row").select(list(schema))

    def _impressions(self, shown: Sequence[Shown]) -> Iterator[dict[str, Any]]:
        stream = self.stream
        for each in shown:
            context = context_values(stream, each.visit.context)
            for impression, item in zip(each.ids.tolist(), each.items.tolist(), strict=True):
                yield {
                    "impression_id": impression, "event_timestamp": each.visit.at, stream.user.name: each.visit.user,
                    stream.item.name: item, stream.surface.name: stream.surfaces[each.visit.surface], **context,
                }  # fmt: skip

    def _truth(self, shown: Sequence[Shown]) -> pl.DataFrame:
        """The true probability of each task's label."""
        schema = {"impression_id": pl.Int64(), **{task: pl.Float64() for task in self.stream.task_names}}
        rows = [
            (impression, *probabilities)
            for each in shown
            for impression, probabilities in zip(each.ids.tolist(), each.probabilities.tolist(), strict=True)
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")
