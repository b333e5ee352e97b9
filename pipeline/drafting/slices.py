"""The stream's ends, its slices and windows: from the times of all rows, where that is cheap.

Belongs here: when. Not here: which column says it (moments.py).
"""

import math
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from exfm.log_files import EventTime
from exfm.time_zones import begin, day_lengths
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import known_text
from pipeline.drafting.moments import Moment
from pipeline.imports.converting import names_of
from pipeline.imports.finding import SourceFile
from pipeline.imports.line_ends import SeveralEnds, reading_any_ends
from pipeline.imports.lines import lines_of
from pipeline.imports.reading import naming, quoted, relation_of
from pipeline.imports.values import moment

MEASURED = {"csv": 128 * 2**20, "json": 128 * 2**20, "parquet": 512 * 2**20}  # bytes that are read as a whole
PACKED = 5  # times as much, unpacked
MEASURED_FILES = 2_000
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LENGTHS = (
    *(hours * HOUR for hours in (12, 8, 6, 4, 3, 2, 1)), *(minutes * MINUTE for minutes in (30, 20, 15, 10, 5, 2, 1))
)  # fmt: skip
FEWEST, MOST = 7, 40
FAR = 0.5  # of the span of nearly all rows, beyond which a time is a mistake
GUESSED = 30 * MINUTE


@dataclass(frozen=True)
class Measured:
    """A table of a log: its rows, and when the first and the last happened.

    Args:
        table: of DuckDB, with ``id`` and ``moment`` and ``task``.
        whole: whether all rows were read.
        stray: rows that lie far from all others.
    """

    table: str
    rows: int
    first: datetime
    newest: datetime
    whole: bool
    stray: int


def measure(
    connection: duckdb.DuckDBPyConnection,
    looked: Looked,
    time: Moment,
    id_: str | None,
    task: str | None,
    number: int,
    keys: dict[str, str],
) -> Measured:
    """Read times and keys of all rows, or of those looked at where that is much.

    Args:
        id_: name of the column that identifies an impression; ``task``: an expression.
        keys: further columns -> expressions over the files' columns.

    Raises:
        DataError: if a file is damaged.
    """
    table, whole = f"measured_{number}", _is_cheap(looked)
    told = {"id": "NULL" if id_ is None else f"({quoted(id_)})::VARCHAR", "task": task or "NULL", **keys}
    select = ", ".join(f"({value})::VARCHAR AS {quoted(name)}" for name, value in told.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} (moment TIMESTAMPTZ, "
        + ", ".join(f"{quoted(name)} VARCHAR" for name in told)
        + ")"
    )
    if not whole:
        connection.execute(f"INSERT INTO {table} SELECT {time.expression}, {select} FROM {looked.sample.table}")

    def add(source: SourceFile) -> None:
        SeveralEnds.refuse(source, lines_of(source))
        wanted = [name for name in (*looked.profiles, *names_of(source.files)) if name.startswith("$")]
        relation = relation_of(connection, source, wanted)
        made = _moment(connection, looked, time.time, relation.sql)
        connection.execute(
            f"INSERT INTO {table} SELECT {made}, {select} FROM {relation.sql} WHERE ({relation.bad}) IS NULL"
        )

    for source in looked.shape.sources if whole else ():
        with naming(source), tempfile.TemporaryDirectory() as aside:
            reading_any_ends(source, Path(aside), add)
    rows, low, high = connection.sql(
        f"SELECT count(*), epoch(quantile_disc(moment, 0.001)), epoch(quantile_disc(moment, 0.999)) FROM {table}"
    ).fetchall()[0]
    reach = max((high - low) * FAR, 86_400)
    first, newest, inside, timed = connection.sql(
        f"SELECT epoch_us(min(moment)), epoch_us(max(moment)), count(*), (SELECT count(moment) FROM {table}) "
        f"FROM {table} "
        f"WHERE epoch(moment) BETWEEN {low - reach} AND {high + reach}"
    ).fetchall()[0]
    begun, ended = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at) for at in (first, newest))
    return Measured(table, rows if whole else looked.sample.estimated, begun, ended, whole, timed - inside)


def _is_cheap(looked: Looked) -> bool:
    sources = looked.shape.sources
    size = sum(
        source.path.stat().st_size * (PACKED if source.name.endswith((".gz", ".zst")) else 1) for source in sources
    )
    return len(sources) <= MEASURED_FILES and size <= MEASURED[sources[0].kind]


def _moment(connection: duckdb.DuckDBPyConnection, looked: Looked, time: EventTime, relation: str) -> str:
    origin = quoted(time.of) if time.of is not None else f"({time.sql})"
    kind = str(connection.sql(f"DESCRIBE SELECT {origin} AS value FROM {relation}").fetchall()[0][1])
    if time.of is not None and kind == "VARCHAR":
        origin = known_text(time.of, kind, looked.nulls)
    return moment(origin, kind, time)


@dataclass(frozen=True)
class Cut:
    """How a stream is cut.

    Args:
        zone: by whose clock.
        count: how many slices.
        impressions_from: where interactions begin before the first slice with impressions, its start.
    """

    first: datetime
    length: timedelta
    until: datetime
    why: str
    zone: str = "UTC"
    impressions_from: datetime | None = None

    @property
    def count(self) -> int:
        return slices_between(self.first, self.until, self.length)

    @property
    def shortest(self) -> timedelta:
        """The length of the shortest slice: where clocks are changed, a day has 23 hours once a year."""
        return day_lengths(self.zone, self.first, None)[0] if self.length == DAY else self.length


def cut_of(first: datetime, newest: datetime, zone: str = "UTC") -> Cut:
    """Days by the clock of a zone; of less than a week, hours or minutes so that 7 to 40 slices result.

    Slices that are shorter than a day are those of UTC where the zone changes its clock.
    """
    after = newest + timedelta(microseconds=1)
    for length in (DAY, *LENGTHS):
        clock = zone if length == DAY or len({*day_lengths(zone, first, None)}) == 1 else "UTC"
        start, end = _floor(first, length, clock), _ceil(after, length, clock)
        count = slices_between(start, end, length)
        if count >= FEWEST or length == LENGTHS[-1]:
            break
    days, (low, high) = (after - first) / DAY, (at.astimezone(ZoneInfo(zone)) for at in (first, newest))
    why = (
        f"rows are from {low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} {zone}, {days:.1f} days: {count:,} slices of "
        f"{told(length)}"
    )
    why += "" if clock == zone else f" by UTC, for the clock of {zone} is changed twice a year"
    return Cut(start, length, end, why, clock)


def earlier_by(cut: Cut, begun: datetime, most: int) -> Cut:
    """The same, beginning with a slice in which rows of another table begin, so many slices before it at the most."""
    earliest = _floor(cut.first - most * cut.length + cut.length / 2, cut.length, cut.zone)
    first = max(_floor(begun, cut.length, cut.zone), earliest)
    if first >= cut.first:
        return cut
    why = f"{cut.why}, and {slices_between(first, cut.first, cut.length)} before them"
    return replace(cut, first=first, why=why, impressions_from=cut.first)


def slices_between(start: datetime, end: datetime, length: timedelta) -> int:
    """How many slices lie between two ends of slices; days may be an hour shorter or longer."""
    return round((end - start) / length)


def _floor(at: datetime, length: timedelta, zone: str) -> datetime:
    midnight = begin(ZoneInfo(zone), at.astimezone(ZoneInfo(zone)).date())
    return midnight if length == DAY else midnight + (at - midnight) // length * length


def _ceil(at: datetime, length: timedelta, zone: str) -> datetime:
    floor = _floor(at, length, zone)
    if floor == at:
        return floor
    return floor + length if length < DAY else _floor(floor + 1.25 * DAY, length, zone)


def told(length: timedelta) -> str:
    """``4 hours``."""
    for unit, word in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if length % unit == timedelta(0):
            count = length // unit
            return (
                f"{count} {word}{'s' if count > 1 else ''}" if count > 1 else f"a{'n' if word == 'hour' else ''} {word}"
            )
    return str(length)


@dataclass(frozen=True)
class Delays:
    """How long after their impressions outcomes of a task come.

    Args:
        met: outcomes whose impression was found, of ``rows``.
        early: of these, how many come before it. ``earliest``: seconds after it, of nearly the first (1 %).
    """

    window: timedelta
    why: str
    met: int
    rows: int
    early: int = 0
    earliest: float = 0.0


def delays_of(connection: duckdb.DuckDBPyConnection, shown: Measured, outcomes: Measured) -> dict[str, Delays]:
    """The window of each task: within which 99 % of its outcomes come, rounded up."""
    rows = connection.sql(
        "SELECT o.task, count(i.moment), count(*), quantile_cont(epoch(o.moment) - epoch(i.moment), 0.99) "
        "FILTER (o.moment >= i.moment), count(*) FILTER (o.moment < i.moment), "
        "coalesce(quantile_cont(epoch(o.moment) - epoch(i.moment), 0.01), 0) "
        f"FROM {outcomes.table} o LEFT JOIN {shown.table} i USING (id) "
        "WHERE o.task IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    found = {}
    for task, met, count, seconds, early, earliest in rows:
        if not met or seconds is None:
            found[task] = Delays(GUESSED, _unknown(met), met, count, early, earliest)
            continue
        window = rounded_up(seconds)
        why = f"99 % of {met:,} outcomes come within {timedelta(seconds=round(seconds))}: {told(window)}, rounded up"
        found[task] = Delays(window, why, met, count, early, earliest)
    return found


def _unknown(met: int) -> str:
    if met:
        return "30 minutes is a guess: all outcomes that were looked at come before their impressions"
    return "30 minutes is a guess: no outcome met its impression"


def rounded_up(seconds: float) -> timedelta:
    """A length that people use: 5, 10, 30 minutes, 1, 2, 6, 12 hours, days."""
    for length in (
        MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY
    ):  # fmt: skip
        if seconds <= length.total_seconds():
            return length
    return math.ceil(seconds / DAY.total_seconds()) * DAY
