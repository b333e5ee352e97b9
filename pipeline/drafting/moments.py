"""When rows happened: which column says it, in which unit or form.

Belongs here: the guess of a time. Not here: the stream that is cut by it (slices.py).
"""

from dataclasses import dataclass, replace
from datetime import datetime

import duckdb

from exfm.log_files import TIME_UNITS, EventTime
from pipeline.drafting.given import option
from pipeline.drafting.looking import NEARLY_ALL, Profile
from pipeline.drafting.sampling import Sample
from pipeline.drafting.times_counted import EARLIEST, LATEST, counted_as, that_may_fit, value_of
from pipeline.drafting.words import (
    AFTERWARDS,
    HOURS,
    ID_WORDS,
    IMPRESSIONS,
    ITEMS,
    NOT_OF_ROWS,
    REQUESTS,
    TIME_WORDS,
    TIMES,
    USERS,
)
from pipeline.imports.reading import literal, quoted
from pipeline.imports.values import moment
from pipeline.tables import DataError

BY_VALUE, BY_NUMBER = 12.0, 8.0  # ranks of times that no name tells, below all that a name does
GIVEN = 1_000.0
BY_OPTION = ": --time sets another"
# Of whole numbers, the letters of strptime by how many digits they have.
DIGITS = {8: ("%Y%m%d", "%y%m%d%H"), 10: ("%Y%m%d%H", "%y%m%d%H%M"), 12: ("%Y%m%d%H%M", "%y%m%d%H%M%S"),
          14: ("%Y%m%d%H%M%S",), 6: ("%y%m%d",)}  # fmt: skip
FORMS = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d/%b/%Y:%H:%M:%S %z", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z",
    "%Y-%m-%d %H:%M:%S,%f", "%Y-%m-%d-%H-%M-%S", "%Y-%m-%d_%H:%M:%S", "%Y-%m-%d-%H", "%Y-%m-%d %H", "%Y%m%d %H:%M:%S",
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y",
)  # fmt: skip
FEW_FORMS = 4  # that are counted one by one
PLAUSIBLE = datetime(2005, 1, 1), datetime(2035, 1, 1)  # of numbers that no name calls a time
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Moment:
    """A column (or two) of time.

    Args:
        used: names in the files that it is made of.
        expression: of the moment, over the sample.
        finest: seconds of its finest unit.
        rank: how sure it is; the highest wins.
        zoneless: whether its values name no zone, and nobody named it.
    """

    time: EventTime
    used: tuple[str, ...]
    why: str
    expression: str
    finest: int
    rank: float
    zoneless: bool = False


def moments_of(
    connection: duckdb.DuckDBPyConnection,
    sample: Sample,
    profiles: dict[str, Profile],
    nulls: tuple[str, ...],
    given: str | None = None,
    zone: str | None = None,
) -> list[Moment]:
    """Every column that may say when rows happened, the likeliest first.

    Args:
        given: the one that a person named. ``zone``: that of times that name none, if a person named one.

    Raises:
        DataError: if that one holds no times.
    """
    found = [
        made
        for each in profiles.values()
        if (each.known >= NEARLY_ALL * each.rows or each.name == given)
        and (made := _moment_of(connection, sample, each, nulls, given, zone)) is not None
    ]
    if given in profiles and not any(given in each.used for each in found):
        raise DataError(
            f"--time: less than {NEARLY_ALL:.0%} of {given!r} are times of a form that is known, such as "
            f"{', '.join(map(repr, profiles[given].examples[:3])) or 'null'}: declare it by hand, "
            f"EventTime(format=...), or {option('time', [name for each in found for name in each.used])}"
        )
    found += _of_date_and_hour(connection, sample, profiles, found, zone)
    return sorted(found, key=lambda each: -each.rank)


def _rank(each: Profile, given: str | None) -> float:
    if each.name == given:
        return GIVEN
    if each.joined in TIMES:
        return 100 - TIMES.index(each.joined)
    said = 30.0 if {*each.words} & TIME_WORDS or each.joined.endswith(("time", "timestamp", "date")) else 0.0
    return said - (60 if {*each.words} & (AFTERWARDS | NOT_OF_ROWS) else 0)


def _moment_of(
    connection: duckdb.DuckDBPyConnection,
    sample: Sample,
    each: Profile,
    nulls: tuple[str, ...],
    given: str | None,
    zone: str | None,
) -> Moment | None:
    rank, shown = _rank(each, given), each.examples[0] if each.examples else ""
    by_value = rank == 0
    numbers = each.number >= NEARLY_ALL * each.known
    if by_value and numbers and not _may_be_time(each):
        return None
    forms = _forms(each)
    if len(forms) > FEW_FORMS:
        may_fit = that_may_fit(connection, sample, each, nulls, [time for time, _, _ in forms])
        forms = [form for form in forms if form[0] in may_fit]
    for time, why, finest in forms:
        if by_value and time.format is not None and numbers and not time.format.startswith("%Y"):
            continue
        counted = counted_as(connection, sample, each, nulls, time, PLAUSIBLE if by_value and numbers else None)
        if counted.share < NEARLY_ALL:
            continue
        said = f"{each.name!r} is {why} (as {shown})"
        if by_value:
            rank = BY_NUMBER if numbers else BY_VALUE
            said += f", a guess by its values, for its name does not tell{BY_OPTION}"
        elif rank == GIVEN:
            said += ", set by --time"
        if (twin := _swapped(time.format)) is not None:
            other = counted_as(connection, sample, each, nulls, replace(time, format=twin))
            if other.share >= NEARLY_ALL and other.span < counted.span:
                time, counted = replace(time, format=twin), other
                said = f"{each.name!r} is a time in the form {twin} (as {shown})"
            if other.share >= NEARLY_ALL:
                said += (
                    f"; day and month could be swapped: {time.format} is taken, for the times then lie closer together"
                )
        finest = max(finest, counted.finest)
        if finest >= 3600 and by_value:
            rank -= 6 if finest >= 86_400 else 2
        elif finest >= 3600:
            rank -= 20 if finest >= 86_400 else 5
        if counted.bad:
            said += (
                f"; {_share_told(counted.share)} are times, {counted.bad:,} of {each.known:,} "
                f"{'are' if counted.bad > 1 else 'is'} not ({counted.example!r}): such rows are quarantined"
            )
        zoneless = not (time.unit != "iso" or counted.zoned or "%z" in (time.format or ""))
        if not zoneless:
            return Moment(time, (each.name,), said, counted.expression, finest, rank)
        time = replace(time, zone=zone or "UTC")
        expression = moment(value_of(each, nulls), each.kind, time)
        said += f"; it names no zone, so it is {_zone_told(zone)}"
        return Moment(time, (each.name,), said, expression, finest, rank, zoneless=zone is None)
    return None


def _zone_told(zone: str | None) -> str:
    if zone is not None:
        return f"taken as of {zone}, set by --zone"
    return "taken as UTC: if it is another, write zone='Europe/Berlin', or draft it anew with --zone"


def _may_be_time(each: Profile) -> bool:
    """May numbers be times, though their name does not say so? Not if it says that they are ids."""
    return not ({*each.words} & (ID_WORDS - {"zone"}) or each.joined in (*USERS, *ITEMS, *IMPRESSIONS, *REQUESTS))


def _share_told(share: float) -> str:
    """``99.99 %``, never rounded to all."""
    return f"{min(share, 0.9999):.2%}".replace("%", " %")


def _swapped(form: str | None) -> str | None:
    """A form with day and month the other way round, if they stand side by side as numbers."""
    for one, other in (("%d/%m", "%m/%d"), ("%m/%d", "%d/%m"), ("%d-%m", "%m-%d"), ("%m-%d", "%d-%m")):
        if form is not None and form.startswith(one):
            return other + form.removeprefix(one)
    return None


def _forms(each: Profile) -> list[tuple[EventTime, str, int]]:
    """Forms that a column's values may have: with how a sentence calls each, and its finest unit."""
    time = EventTime(of=each.origin.of) if each.origin.of is not None else EventTime(sql=each.origin.sql)
    if each.kind.startswith("TIMESTAMP") or each.kind == "DATE":
        return [(time, f"a column of {'moments' if each.kind != 'DATE' else 'days'}", 1)]
    if each.is_list or each.distinct < 2 and each.rows > 1:
        return []
    if each.whole >= NEARLY_ALL * each.known and not each.dotted:
        lengths = {len(example.strip()) for example in each.examples if example.strip().isdigit()}
        formats = DIGITS.get(lengths.pop(), ()) if len(lengths) == 1 else ()
        listed = [(replace(time, format=form), f"a number in the form {form}", 1) for form in formats]
        return _of_numbers(each, time, listed)
    if each.number >= NEARLY_ALL * each.known:
        return _of_numbers(each, time, [])
    if each.moment >= NEARLY_ALL * each.known:
        return [(time, "a time as ISO 8601 writes it", 1)]
    return [(replace(time, format=form), f"a time in the form {form}", 1) for form in FORMS]


def _of_numbers(
    each: Profile, time: EventTime, formats: list[tuple[EventTime, str, int]]
) -> list[tuple[EventTime, str, int]]:
    """Since 1970, by how large it is; what reads as a date first where the moment would lie ahead."""
    listed: list[tuple[EventTime, str, int]] = []
    for unit in TIME_UNITS:
        low, high = (moment_.timestamp() * PER_SECOND[unit] for moment_ in (EARLIEST, LATEST))
        if low <= each.median <= high:
            words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
            listed.append((replace(time, unit=unit), f"{words} since 1970, UTC, by its size", 1))  # type: ignore[arg-type]
    ahead = each.median > datetime(2030, 1, 1).timestamp()
    return [*formats, *listed] if ahead or not listed else [*listed, *formats]


def _of_date_and_hour(
    connection: duckdb.DuckDBPyConnection,
    sample: Sample,
    profiles: dict[str, Profile],
    moments: list[Moment],
    zone: str | None,
) -> list[Moment]:
    """A column of days beside one of hours or times of the day."""
    days = [each for each in moments if each.finest >= 86_400 and each.rank > 0]
    hours = [each for each in profiles.values() if each.joined in HOURS and each.known >= NEARLY_ALL * each.rows]
    made = []
    for day in days:
        for hour in hours:
            if hour.name in day.used:
                continue
            clock = hour.value if hour.origin.of is None else quoted(hour.origin.of)
            date = day.time.sql or quoted(str(day.time.of))
            if day.time.format is not None:
                date = f"try_strptime(({date})::VARCHAR, {literal(day.time.format)})::DATE::VARCHAR"
            elif profiles[day.used[0]].kind != "VARCHAR":
                date = f"({date})::DATE::VARCHAR"
            if hour.is_whole and hour.low >= 0 and hour.high <= 23:
                clock, finest = f"lpad(({clock})::VARCHAR, 2, '0') || ':00:00'", 3600
            elif hour.examples and all(":" in example for example in hour.examples):
                clock, finest = f"({clock})::VARCHAR", 1
            elif hour.is_whole and hour.low >= 0 and hour.high <= 2359:
                digits = f"lpad(({clock})::VARCHAR, 4, '0')"
                clock, finest = f"{digits}[1:2] || ':' || {digits}[3:4] || ':00'", 60
            else:
                continue
            time = EventTime(sql=f"{date} || ' ' || {clock}", zone=zone or "UTC")
            expression = moment(f"({time.sql})", "VARCHAR", time)
            parsed = connection.sql(f"SELECT count({expression}) FROM {sample.table}").fetchall()[0][0]
            if parsed >= NEARLY_ALL * sample.rows:
                why = (
                    f"{day.used[0]!r} says the day and {hour.name!r} the hour; they name no zone, so it is "
                    f"{_zone_told(zone)}"
                )
                used = (*day.used, hour.name)
                made.append(Moment(time, used, why, expression, finest, day.rank + 30, zoneless=zone is None))
    return made
