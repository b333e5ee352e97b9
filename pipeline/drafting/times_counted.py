"""How many values of a column are moments, if they are read in one way.

Belongs here: counting over a sample. Not here: which ways are tried, and which is taken (moments.py).
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from exfm.log_files import EventTime
from pipeline.drafting.looking import NEARLY_ALL, Profile, known_text
from pipeline.drafting.sampling import Sample
from pipeline.imports.reading import literal, quoted
from pipeline.imports.values import moment

EARLIEST, LATEST = datetime(1995, 1, 1), datetime(2060, 1, 1)


@dataclass(frozen=True)
class Counted:
    """Values of a column, read as moments.

    Args:
        share: of all known values, those that are moments. ``span``: seconds between the first and the last.
        finest: seconds of their finest unit.
        zoned: whether all name a zone.
        expression: of the moment, over the sample.
        bad: values that are none. ``example``: one of them.
    """

    share: float
    span: float
    finest: int
    zoned: bool
    expression: str
    bad: int
    example: str


def counted_as(
    connection: duckdb.DuckDBPyConnection,
    sample: Sample,
    each: Profile,
    nulls: tuple[str, ...],
    time: EventTime,
    within: tuple[datetime, datetime] | None = None,
) -> Counted:
    """How many values are moments that a log can have, how fine they are, and whether they name a zone."""
    value = value_of(each, nulls)
    made = moment(value, each.kind, time)
    text = f"trim(({value})::VARCHAR)"
    low, high = within or (EARLIEST, LATEST)
    inside = f"m BETWEEN {literal(str(low))} AND {literal(str(high))}"
    good, span, seconds, minutes, hours, zoned, bad, example = connection.sql(
        f"SELECT count(*) FILTER ({inside}), "
        f"coalesce(max(epoch(m)) FILTER ({inside}) - min(epoch(m)) FILTER ({inside}), 0), "
        "count(*) FILTER (epoch(m) % 60 <> 0), "
        "count(*) FILTER (epoch(m) % 3600 <> 0), "
        "count(*) FILTER (epoch(m) % 86400 <> 0), "
        f"bool_and(regexp_matches(t, '([zZ]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$') AND length(t) > 10) FILTER ({inside}), "
        "count(*) FILTER (m IS NULL AND t IS NOT NULL), any_value(t) FILTER (m IS NULL AND t IS NOT NULL) "
        f"FROM (SELECT {made} AS m, {text} AS t FROM {sample.table})"
    ).fetchall()[0]
    finest = 1 if seconds else 60 if minutes else 3600 if hours else 86_400
    zoned = bool(zoned) or each.kind == "TIMESTAMP WITH TIME ZONE"
    return Counted(int(good) / max(each.known, 1), float(span), finest, zoned, made, int(bad), str(example)[:30])


def that_may_fit(
    connection: duckdb.DuckDBPyConnection, sample: Sample, each: Profile, nulls: tuple[str, ...], times: list[EventTime]
) -> list[EventTime]:
    """Of many ways to read a column those by which nearly all values are moments, whenever: asked in one statement."""
    counted = ", ".join(f"count({moment(value_of(each, nulls), each.kind, time)})" for time in times)
    found = connection.sql(f"SELECT {counted} FROM {sample.table}").fetchall()[0]
    return [time for time, count in zip(times, found, strict=True) if count >= NEARLY_ALL * each.known]


def value_of(each: Profile, nulls: tuple[str, ...]) -> str:
    """A column's value over the sample, as a moment is read of it."""
    return quoted(each.name) if each.kind != "VARCHAR" else known_text(each.name, each.kind, nulls)
