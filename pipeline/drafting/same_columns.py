"""Which column of other files has the ids of a column of the impressions: by its name, or by its values.

Belongs here: keys of users and items in other files. Not here: ids of impressions (ids_by_value.py), what follows of it
(tables.py).
"""

import duckdb

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile

ENDS = ("kennung", "nummer", "number", "code", "hash", "uuid", "key", "num", "id", "nr", "no")
SHARE = 0.5  # of a column's different values that another one must have
FEWEST = 5
SHORTEST = 4  # characters of the mean text: shorter ones, and counted numbers, are the same by accident
SPARSE = 20  # times as high as there are numbers: they are no count


def same(other: Looked, column: Profile) -> Profile | None:
    """The column with the same name, however it is written."""
    return next((each for each in other.profiles.values() if each.joined == column.joined and not each.is_empty), None)


def nearly_same(other: Looked, column: Profile) -> Profile | None:
    """The same, or one that is called so but for ``id`` at its end."""
    core = column.joined.removesuffix("id")
    alike = (
        each
        for each in other.profiles.values()
        if core and each.joined.removesuffix("id") == core and not each.is_empty
    )
    return same(other, column) or next(alike, None)


def _stem(each: Profile) -> str:
    """``kundennummer`` and ``kunde`` -> ``kunde``."""
    end = next((end for end in ENDS if each.joined.endswith(end) and len(each.joined) > len(end) + 1), "")
    return each.joined.removesuffix(end).rstrip("ns")


def with_ids_of(
    connection: duckdb.DuckDBPyConnection, shown: Looked, column: Profile, other: Looked
) -> tuple[Profile, str] | None:
    """The column of other files with the ids of one of the impressions, and what tells it where no name does.

    One that is called the same; else, of those that have at least half of its values, one that is called alike but for
    its end, or the one that has most of them.
    """
    if (named := nearly_same(other, column)) is not None:
        return named, ""
    alike = [each for each in other.profiles.values() if _stem(each) == _stem(column) and each.distinct >= FEWEST]
    others = [each for each in other.profiles.values() if _tells(each) and _tells(column)]
    for some in (alike, others):
        found = [
            (met, -place, each)
            for place, each in enumerate(some)
            if (met := _met(connection, shown, column, other, each))
        ]
        if found:
            met, _, each = max(found, key=lambda one: one[:2])
            return each, f"{met[0]:,} of {met[1]:,} values of {column.name!r} stand in {each.name!r}"
    return None


def _met(
    connection: duckdb.DuckDBPyConnection, shown: Looked, column: Profile, other: Looked, each: Profile
) -> tuple[int, int] | None:
    """How many of a column's different values stand in another one, of how many; ``None`` of fewer than half."""
    if each.is_number != column.is_number or each.is_list:
        return None
    met, known = shared(connection, shown, column, other, each)
    return (met, known) if met >= FEWEST and met >= SHARE * known else None


def shared(
    connection: duckdb.DuckDBPyConnection, mine: Looked, column: Profile, other: Looked, each: Profile
) -> tuple[int, int]:
    """How many of the different values of a column another one has, too, and of how many, in the rows looked at."""
    met, known = connection.sql(
        f"SELECT count(*) FILTER (v IN (SELECT ({each.value})::VARCHAR FROM {other.sample.table})), count(*) "
        f"FROM (SELECT DISTINCT ({column.value})::VARCHAR AS v FROM {mine.sample.table}) WHERE v IS NOT NULL"
    ).fetchall()[0]
    return int(met), int(known)


def _tells(each: Profile) -> bool:
    """Are its values such that no other column has them by accident?"""
    if each.is_empty or each.is_list or each.is_binary or each.distinct < FEWEST or each.spaces >= 1:
        return False
    if each.is_number:
        return each.is_int and each.low >= 0 and each.high > SPARSE * each.distinct and each.high > 10_000
    return sum(map(len, each.examples)) >= SHORTEST * len(each.examples)
