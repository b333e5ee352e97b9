"""A project whose last slice was answered by its server: what was joined, what was served, by brute force.

Belongs here: answering, and what is expected then. Not here: tests (test_served_inputs.py).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from exfm.stream import Slice
from pipeline.verify.tables_current import stale
from pipeline.workspace import Workspace
from serving.answering import Answering
from serving.request_log import RequestLog
from tests.graph.runs import made_by, run
from tests.tiny import SLICES

TABLES = 'key:"impressions" or key:"logged_inputs" or key:"logged_teacher_features"'
INPUTS, OPINIONS = "logged_inputs", "logged_teacher_features"
PLACE = ["event_timestamp", "user_id", "item_id"]


@dataclass
class World:
    """A project whose last slice is answered by its server before it is logged."""

    work: Workspace
    joined: dict[str, pl.DataFrame]  # of the last slice, by table: what is joined where nothing was served
    log: RequestLog

    @property
    def slice(self) -> Slice:
        return self.work.project.stream.slice_at(SLICES - 1)

    def stored(self, table: str) -> pl.DataFrame:
        return self.work.table(table).read([self.slice]).sort("impression_id")

    def notes(self, table: str) -> dict:  # type: ignore[type-arg]
        sidecar = self.work.table(table).sidecar(self.slice)
        assert sidecar is not None
        return dict(sidecar.notes)

    def make(self) -> tuple[set[str], dict[str, str]]:
        """Tables whose slice was made, and checks that failed: what they said."""
        done = run(self.work, self.slice.key, self.slice.key, TABLES)
        assert done.success
        failed = {
            f"{each.asset_key.to_user_string()}:{each.check_name}": str(each.description)
            for each in done.get_asset_check_evaluations()
            if not each.passed
        }
        return {key.to_user_string() for key, _ in made_by(done)}, failed

    def stale(self) -> list[str]:
        return [str(each) for each in stale(self.work, [INPUTS, OPINIONS])]

    def load(self, until: datetime) -> None:
        """The online store as it stood then."""
        for path in self.work.state.feast.glob("online.db*"):
            path.unlink()
        names = [view.name for view in self.work.project.all_views if view.online]
        self.work.store.materialize(until - timedelta(days=60), until, feature_views=names)

    def answer(
        self,
        students: Iterable[str] = ("feed_click", "feed_convert"),
        country: str | None = None,
        *,
        mixed: bool = False,
    ) -> pl.DataFrame:
        """Ask a student for each of some impressions, then log them by the ids of the answers; they.

        Args:
            country: that requests bring in place of the one that is logged.
            mixed: take the id of the other candidate.
        """
        (path,) = (self.work.state.log / "impressions" / f"day={self.slice.key}").glob("*.parquet")
        logged = pl.read_parquet(path, hive_partitioning=False)
        clock = [self.slice.start]
        answering = Answering(self.work.project, self.work.state, log=self.log, now=lambda: clock[0])
        answering.releases.look()
        shown = logged.filter(surface="feed").head(200).with_row_index("at")
        ids, names = dict[int, int](), list(students)
        for row in shown.iter_rows(named=True):
            clock[0] = row["event_timestamp"] - timedelta(seconds=row["at"] % 7)
            candidates = [row["item_id"], row["item_id"] + 10**6]  # the other one is not shown
            context = {"device": row["device"], "country": country or row["country"]}
            body = {"user": row["user_id"], "context": context, "candidates": candidates}
            answer = answering.rank(names[row["at"] % len(names)], json.dumps(body).encode())
            chosen = next(each for each in answer.body["scores"] if (each["item"] == row["item_id"]) != mixed)
            ids[row["impression_id"]] = int(chosen["impression_id"])
        self.log.flush()
        assert self.log.fault is None
        new = logged.with_columns(pl.col("impression_id").replace(ids))
        new.write_parquet(path)
        for outcomes in (self.work.state.log / "outcomes").glob(f"*/from-{self.slice.key}.parquet"):
            frame = pl.read_parquet(outcomes, hive_partitioning=False)
            frame.with_columns(pl.col("impression_id").replace(ids)).write_parquet(outcomes)
        return new.filter(pl.col("impression_id").is_in(list(ids.values())))

    def joined_now(self, table: str) -> pl.DataFrame:
        """What is joined, by the ids that impressions have now."""
        stored = self.work.table("impressions").read([self.slice]).select("impression_id", *PLACE)
        rows = self.joined[table].drop("impression_id").join(stored, on=PLACE)
        return rows.select(self.joined[table].columns).sort("impression_id")

    def expected(self, table: str) -> tuple[pl.DataFrame, dict[str, tuple[int, int]]]:
        """By brute force over the request log's files: what is learnt from, and in how many rows columns differ."""
        rows = self.joined_now(table)
        served: dict[int, dict[str, object]] = {}
        for path in self.work.state.requests.glob("*/*/*.parquet"):
            frame = pl.read_parquet(path, hive_partitioning=False)
            served |= {row["impression_id"]: row for row in frame.iter_rows(named=True)}
        counts: dict[str, list[int]] = {}
        plain, columns = rows.to_dicts(), {*self.stored(table).columns}
        for row in plain:
            for name in served.get(row["impression_id"], {}).keys() & columns - {*PLACE[::2], "impression_id"}:
                value, joined = served[row["impression_id"]][name], row[name]
                near = value == joined or (
                    isinstance(value, float) and joined is not None and abs(value - joined) <= 1e-5 * abs(joined)
                )
                counted = counts.setdefault(name, [0, 0])
                counted[0], counted[1] = counted[0] + 1, counted[1] + (not near)
                row[name] = value if "__" in name else joined
        calendar = self.work.project.stream.calendar
        differ = {name: (rows_, count) for name, (rows_, count) in counts.items() if name not in calendar}
        return pl.DataFrame(plain, schema=rows.schema, strict=False), differ
