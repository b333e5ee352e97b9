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
    """The same, or one that is called so but for ``id``, ``number`` or the like at its end."""
    core = _core(column)
    alike = (each for each in other.profiles.values() if len(core) > 1 and _core(each) == core and not each.is_empty)
    return same(other, column) or next(alike, None)


def _core(each: Profile) -> str:
    """``kundennummer`` and ``kunde`` -> ``kunde``."""
    for end in ENDS:
        if each.joined.endswith(end) and len(each.joined) > len(end) + 1:
            return each.joined.removesuffix(end).rstrip("ns")
    return each.joined.rstrip("ns") if len(each.joined) > len("items") else each.joined


def same_by_value(
    connection: duckdb.DuckDBPyConnection, shown: Looked, column: Profile, other: Looked
) -> tuple[Profile, str] | None:
    """The column of other files that has most of a column's values, and how many; of a table's keys, the first such."""
    if not _tells(column):
        return None
    best: tuple[float, Profile, str] | None = None
    for each in other.profiles.values():
        if not _tells(each) or each.is_number != column.is_number:
            continue
        met, known = connection.sql(
            f"SELECT count(*) FILTER (v IN (SELECT ({each.value})::VARCHAR FROM {other.sample.table})), count(*) "
            f"FROM (SELECT DISTINCT ({column.value})::VARCHAR AS v FROM {shown.sample.table}) WHERE v IS NOT NULL"
        ).fetchall()[0]
        if met >= FEWEST and met >= SHARE * known and (best is None or met > best[0]):
            best = met, each, f"{met:,} of {known:,} values of {column.name!r} stand in {each.name!r}"
    return None if best is None else best[1:]


def _tells(each: Profile) -> bool:
    """Are its values such that no other column has them by accident?"""
    if each.is_empty or each.is_list or each.is_binary or each.distinct < FEWEST or each.spaces >= 1:
        return False
    if each.is_number:
        return each.is_int and each.low >= 0 and each.high > SPARSE * each.distinct and each.high > 10_000
    return sum(map(len, each.examples)) >= SHORTEST * len(each.examples)
