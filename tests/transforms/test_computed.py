"""Computed views: against loops over the log as it was; whatever they are, the future changes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import polars as pl
import pytest

from exfm.computed_views import PythonView, SqlView
from exfm.errors import DeclarationError
from exfm.inputs import Bag, Number, Vector
from exfm.log_columns import Column
from exfm.stream import Stream
from pipeline.streams.simulator import simulate
from pipeline.tables import DataError
from pipeline.transforms.computed import computed, computed_needed_since, sees_no_future
from pipeline.transforms.labels import with_labelled
from tests.tiny import tiny_project

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BOTH = Vector(name="both", width=2)
LAST_ITEM = "SELECT user_id, arg_max(item_id, event_timestamp) AS last_item FROM impressions GROUP BY user_id"


@cache
def log_of() -> tuple[Stream, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Three days of the tiny project's log, late and repeated outcomes included."""
    tiny = tiny_project()
    assert tiny.simulation is not None
    days = [simulate(tiny.simulation, tiny.stream, tiny.stream.slice_at(index)) for index in range(3)]
    frames = (pl.concat([getattr(day, name) for day in days]) for name in ("impressions", "outcomes", "interactions"))
    shown, happened, visits = frames
    return tiny.stream, shown, happened, visits


def sql(**changes: Any) -> SqlView:
    plain = {
        "name": "mine", "entities": ("user_id",), "inputs": (Column(name="last_item", rows=9),), "sql": LAST_ITEM,
        "reach": DAY, "every": 6 * HOUR,
    }  # fmt: skip
    return SqlView(**{**plain, **changes})


def python(function: str = "mean_hour", **changes: Any) -> PythonView:
    plain = {
        "name": "mine", "entities": ("user_id",), "inputs": (Number(name="hour"),), "reach": DAY, "every": 6 * HOUR,
        "function": f"{__name__}:{function}",
    }  # fmt: skip
    return PythonView(**{**plain, **changes})


def mean_hour(impressions: pl.LazyFrame, stamp: datetime) -> pl.LazyFrame:
    hours = pl.col("event_timestamp").dt.hour().cast(pl.Float64)
    return impressions.group_by("user_id").agg(hour=hours.mean())


def rows_of(view: SqlView | PythonView, start: datetime, end: datetime) -> pl.DataFrame:
    stream, shown, happened, visits = log_of()
    return computed(view, stream, shown.lazy(), happened.lazy(), visits.lazy(), start, end)


def test_each_stamp_sees_what_was_known_then() -> None:
    stream, shown, _, _ = log_of()
    start, end = stream.slice_at(1).start, stream.slice_at(2).start
    view = sql(delay=HOUR)
    rows = rows_of(view, start, end)
    assert rows["event_timestamp"].unique().sort().to_list() == [start + hours * HOUR for hours in (6, 12, 18, 24)]
    assert (rows["created_timestamp"] - rows["event_timestamp"]).unique().to_list() == [HOUR]
    for stamp in rows["event_timestamp"].unique():
        seen = shown.filter(pl.col("event_timestamp") >= stamp - DAY, pl.col("event_timestamp") < stamp)
        expected = {user: group.sort("event_timestamp")["item_id"][-1] for (user,), group in seen.group_by("user_id")}
        mine = rows.filter(pl.col("event_timestamp") == stamp)
        assert dict(mine.select("user_id", "last_item").iter_rows()) == expected and mine["user_id"].is_sorted()


def test_outcomes_are_seen_from_their_own_time_inside_their_window_and_once() -> None:
    stream, shown, happened, _ = log_of()
    start = stream.slice_at(2).start
    view = sql(
        reads=("outcomes",), inputs=(Number(name="clicks"),), every=DAY,
        sql="SELECT user_id, count(*) AS clicks FROM outcomes WHERE task = 'click' GROUP BY user_id",
    )  # fmt: skip
    rows = rows_of(view, start, start + DAY)
    assert computed_needed_since(view, stream, start) == start - DAY - stream.longest_window
    window, expected = stream.task("click").window, {}
    by_id = {row["impression_id"]: row for row in shown.iter_rows(named=True)}
    counted: set[int] = set()
    for row in happened.filter(pl.col("task") == "click").sort("outcome_timestamp").iter_rows(named=True):
        impression = by_id.get(row["impression_id"])
        if impression is None or row["impression_id"] in counted:
            continue
        if timedelta(0) <= row["outcome_timestamp"] - impression["event_timestamp"] <= window:
            counted.add(row["impression_id"])
            if start <= row["outcome_timestamp"] < start + DAY:
                expected[impression["user_id"]] = expected.get(impression["user_id"], 0) + 1
    assert len(expected) > 20 and dict(rows.select("user_id", "clicks").iter_rows()) == expected


def test_a_label_beside_the_impression_is_not_seen_before_it_is_known() -> None:
    stream, shown, happened, visits = log_of()
    clicked = shown["impression_id"].is_in(happened["impression_id"].implode())
    shown = shown.with_columns(clicked=clicked.cast(pl.Int8))
    first, second = stream.tasks
    labelled = replace(stream, tasks=(replace(first, label="clicked"), second))
    start = stream.slice_at(1).start
    told = with_labelled(labelled, shown.lazy(), happened.filter(pl.col("task") != first.name).lazy())
    view = sql(
        inputs=(Number(name="clicks"),), sql="SELECT user_id, sum(clicked) AS clicks FROM impressions GROUP BY 1"
    )
    with pytest.raises(DataError, match=r"^SqlView\(mine\)\.sql: .*clicked.*: mend the query"):
        computed(view, labelled, shown.lazy(), told, visits.lazy(), start, start + DAY)
    view = replace(view, reads=("outcomes",), sql=f"SELECT user_id, count(*) AS clicks FROM outcomes "
                   f"WHERE task = '{first.name}' GROUP BY 1")  # fmt: skip
    rows = computed(view, labelled, shown.lazy(), told, visits.lazy(), start, start + 6 * HOUR)
    known = pl.col("event_timestamp") + first.window
    expected = shown.filter(pl.col("clicked") == 1, known >= start - 18 * HOUR, known < start + 6 * HOUR)
    assert rows["clicks"].sum() == expected.height > 20


VIEWS: dict[str, SqlView | PythonView] = {
    "sql": sql(),
    "outcomes": sql(reads=("impressions", "outcomes"), inputs=(Number(name="rate"),), sql="""
        SELECT user_id, count(o.task) / count(*) AS rate FROM impressions LEFT JOIN outcomes o
        USING (impression_id, user_id) GROUP BY user_id"""),
    "interactions": sql(reads=("interactions",), inputs=(Bag(name="items", rows=9),), sql="""
        SELECT user_id, list(DISTINCT item_id ORDER BY item_id) AS items FROM interactions GROUP BY user_id"""),
    "vector": sql(inputs=(Vector(name="both", width=2),), entities=("item_id",), sql="""
        SELECT item_id, [count(*), count(DISTINCT user_id)] AS both FROM impressions GROUP BY item_id"""),
    "python": python(),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_the_future_changes_nothing_and_slices_are_those_of_a_range(name: str) -> None:
    view, (stream, shown, happened, visits) = VIEWS[name], log_of()
    start, end = stream.slice_at(1).start, stream.slice_at(2).end
    whole = rows_of(view, start, end)
    assert whole.height > 100
    assert sees_no_future(view, stream, shown, happened, visits, start, end)
    middle = stream.slice_at(2).start
    assert pl.concat([rows_of(view, start, middle), rows_of(view, middle, end)]).equals(whole)


ELSEWHERE: list[pl.DataFrame] = []


def peeking(impressions: pl.LazyFrame, stamp: datetime) -> pl.LazyFrame:
    """Reads the whole log from elsewhere."""
    return ELSEWHERE[-1].lazy().filter(pl.col("event_timestamp") < stamp + DAY).group_by("user_id").agg(hour=pl.len())


def test_the_leak_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, shown, happened, visits = log_of()
    start, end = stream.slice_at(1).start, stream.slice_at(1).end
    inner = computed

    def watched(view: PythonView, of: Stream, impressions: pl.LazyFrame, *rest: Any) -> pl.DataFrame:
        ELSEWHERE.append(impressions.collect())  # what a function finds elsewhere is what there is
        return inner(view, of, impressions, *rest)

    monkeypatch.setattr("pipeline.transforms.computed.computed", watched)
    assert not sees_no_future(python("peeking"), stream, shown, happened, visits, start, end)
    assert sees_no_future(python(), stream, shown, happened, visits, start, end)


def several(impressions: pl.LazyFrame, stamp: datetime) -> pl.LazyFrame:
    return impressions.select("user_id", hour=pl.lit(1.0))


def nothing(impressions: pl.LazyFrame, stamp: datetime) -> None:
    return None


def failing(impressions: pl.LazyFrame, stamp: datetime) -> None:
    raise KeyError("price")


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (sql(sql="SELECT user_id FROM"), r"^SqlView\(mine\)\.sql: Parser Error.*: mend the query"),
        (sql(sql="SELECT user_id, 1 AS last_item FROM outcomes"), r"\.sql: Catalog Error.*outcomes.*: mend the query"),
        (sql(sql="SELECT * FROM read_parquet('/etc/x')"), r"\.sql: Permission Error.*: mend the query"),
        (sql(sql="CREATE TABLE x (y INT)"), r"it gives Count, and no 'user_id'"),
        (sql(sql="SELECT user_id, 1 AS item FROM impressions"), r"it gives user_id, item, and no 'last_item': name a"),
        (sql(sql="SELECT user_id, 1 AS last_item FROM impressions"), r"several rows of one user_id: group by them"),
        (sql(sql="SELECT 1 AS user_id, 'a' AS last_item"), r"\.last_item: String can't be read as Int64: cast it"),
        (
            sql(sql="SELECT 1 AS user_id, [1] AS both", inputs=(Vector(name="both", width=2),)),
            r"\.both: a vector of another",
        ),
        (python("missing"), r"^PythonView\(mine\)\.function: .* failed \(AttributeError: .*missing.*\): mend it"),
        (python("failing"), r"failed \(KeyError: 'price'\): mend it"),
        (python("nothing"), r"gave a NoneType: return a polars frame"),
        (python("several"), r"several rows of one user_id: group by them"),
        (replace(python(), function="no_such_module:f"), r"failed \(ModuleNotFoundError: .*no_such_module"),
    ],
)
def test_what_is_wrong_is_said(view: SqlView | PythonView, sentence: str) -> None:
    start = log_of()[0].slice_at(1).start
    with pytest.raises(DataError, match=sentence):
        rows_of(view, start, start + 6 * HOUR)


def test_rows_without_an_entity_are_nobodys() -> None:
    start = log_of()[0].slice_at(1).start
    view = sql(sql="SELECT NULL::BIGINT AS user_id, 1 AS last_item UNION ALL SELECT 7, 2")
    rows = rows_of(view, start, start + 6 * HOUR)
    assert rows.select("user_id", "last_item").rows() == [(7, 2)]


def test_they_must_divide_the_slice() -> None:
    tiny = tiny_project()
    with pytest.raises(DeclarationError, match=r"^SqlView\(mine\)\.every: .* does not divide the slice"):
        replace(tiny, feature_views=(*tiny.feature_views, sql(every=5 * HOUR, reach=5 * HOUR)))
