"""What the values of each column are like: how many, of which type, how large.

Belongs here: profiles by DuckDB, over a sample. Not here: what a column is to a project (roles.py, kinds.py).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb

from pipeline.drafting.naming import joined, words
from pipeline.drafting.sampling import Origin, Sample
from pipeline.imports.reading import literal, quoted

AT_ONCE = 40  # columns of one query
NEARLY_ALL = 0.95  # of the values, which are enough to say what a column is
NULLS = ("NULL", "null", "\\N")  # that mean no value in any column
NULLS_OF_NUMBERS = ("NA", "N/A", "nan", "NaN", "None", "none", "-", "#N/A", "NAN")  # and in one of numbers
DECIMAL = r"\s*[+-]?([0-9]+|[0-9]{1,3}(\.[0-9]{3})+),[0-9]+\s*"  # 1,33 and 1.234,56
CUTS = ("^", "|", ";", ",", " ")


@dataclass(frozen=True)
class Profile:
    """A column of a sample.

    Args:
        name: in the files. ``kind``: DuckDB's type.
        rows, known, distinct: all, with a value, different values.
        whole, number, flag, object, listed, moment: values that are a whole number, a number, true or false, a JSON
            object, a JSON list, and a time in the form of ISO 8601.
        dotted: numbers with a point. padded: that begin with a zero before digits.
        low, high, median, most: of numbers; ``most`` is the 99th percentile.
        longest, spaces: characters of the longest value, blanks in the mean one.
        cut: for each separator the values that hold it.
        examples: some values, the most frequent first.
        binary: values that are 0, 1, true or false. ``decimal``: numbers with a comma before their fraction.
        yes_no: the texts, in small letters, that nearly all are, where they mean yes and no.
        note: how its values are read, where that is not as they stand.
    """

    name: str
    origin: Origin
    kind: str
    place: int
    rows: int
    known: int
    distinct: int
    whole: int
    dotted: int
    number: int
    flag: int
    object: int
    listed: int
    moment: int
    padded: int
    low: float
    high: float
    median: float
    most: float
    longest: int
    spaces: float
    cut: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    binary: int = 0
    decimal: int = 0
    yes_no: tuple[str, str] | None = None
    note: str = ""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return words(self.name)

    @cached_property
    def joined(self) -> str:
        return joined(self.name)

    @property
    def is_list(self) -> bool:
        return self.kind.endswith("]")

    @property
    def is_empty(self) -> bool:
        return self.known == 0

    @property
    def is_number(self) -> bool:
        """Are all values numbers?"""
        return 0 < self.known == self.number and not self.is_list

    @property
    def is_whole(self) -> bool:
        return 0 < self.known == self.whole and not self.is_list

    @property
    def is_int(self) -> bool:
        """Are all whole numbers that lose nothing as such?"""
        return self.is_whole and not self.padded and abs(self.low) < 2**63 and abs(self.high) < 2**63

    @property
    def is_binary(self) -> bool:
        """Are nearly all values 0, 1, true or false, and no others numbers?"""
        return self.binary > 0 and self.binary >= NEARLY_ALL * self.known and self.binary == self.number + self.flag

    @property
    def is_decimal(self) -> bool:
        """Are nearly all values numbers, of which many have a comma before their fraction?"""
        return self.decimal > 0 and self.decimal + self.whole >= NEARLY_ALL * self.known

    @property
    def is_fraction(self) -> bool:
        """Are nearly all values numbers, half of them with a point? Some may be broken."""
        return self.known > 0 and self.number >= NEARLY_ALL * self.known and self.dotted >= self.known / 2

    @property
    def is_unique(self) -> bool:
        return self.known == self.rows == self.distinct

    @property
    def value(self) -> str:
        return quoted(self.name)


def nulls_of(connection: duckdb.DuckDBPyConnection, sample: Sample) -> tuple[str, ...]:
    """Texts of a sample that mean that a value is not known, the empty one first."""
    texts = [name for name, kind in sample.kinds.items() if kind == "VARCHAR" and name in sample.origins]
    found: dict[str, None] = {}
    for part in _parts(texts):
        for kind, listed in (("any", NULLS), ("numbers", NULLS_OF_NUMBERS)):
            values = ", ".join(literal(text) for text in (*listed, *NULLS, ""))
            of = ", ".join(
                f"CASE WHEN {'true' if kind == 'any' else _only_numbers(name, values)} THEN "
                f"list(DISTINCT {quoted(name)}) FILTER ({quoted(name)} IN ({', '.join(map(literal, listed))})) END"
                for name in part
            )
            row = connection.sql(f"SELECT {of} FROM {sample.table}").fetchall()[0]
            found |= dict.fromkeys(str(text) for texts_found in row for text in texts_found or [])
    return ("", *found)


def _only_numbers(name: str, nulls: str) -> str:
    value = quoted(name)
    known = f"{value} IS NOT NULL AND {value} NOT IN ({nulls})"
    return f"count(*) FILTER ({known}) > 0 AND count(*) FILTER ({known} AND try_cast({value} AS DOUBLE) IS NULL) = 0"


def profiles_of(connection: duckdb.DuckDBPyConnection, sample: Sample, nulls: tuple[str, ...]) -> dict[str, Profile]:
    """Look at each column of a sample."""
    profiles: dict[str, Profile] = {}
    for part in _parts(sample.origins):
        queries = ", ".join(_query(f"v{place}", f"d{place}") for place in range(len(part)))
        texts = ", ".join(
            f"{known_text(name, sample.kinds[name], nulls)} AS v{place}" for place, name in enumerate(part)
        )
        numbers_of = ", ".join(f"try_cast(v{place} AS DOUBLE) AS d{place}" for place in range(len(part)))
        rows = f"(SELECT *, {numbers_of} FROM (SELECT {texts} FROM {sample.table}))"
        row = connection.sql(f"SELECT {queries} FROM {rows}").fetchall()[0]
        for name, told in zip(part, row, strict=True):
            numbers: dict[str, Any] = {
                each: float(told[each] or 0.0) for each in ("low", "high", "median", "most", "spaces")
            }
            counts: dict[str, Any] = {each: int(told[each] or 0) for each in _COUNTS}
            cut = {each: int(told[f"cut{place}"] or 0) for place, each in enumerate(CUTS)}
            profiles[name] = Profile(
                name, sample.origins[name], sample.kinds[name], list(sample.origins).index(name), sample.rows,
                **counts, **numbers, cut=cut, examples=tuple(map(str, told["examples"] or ())),
            )  # fmt: skip
    return profiles


_COUNTS = ("known", "distinct", "whole", "dotted", "number", "flag", "object", "listed", "moment", "padded", "longest",
           "binary", "decimal")  # fmt: skip


def known_text(name: str, kind: str, nulls: tuple[str, ...]) -> str:
    """A column's value as a text; null where it means none."""
    value = f"({quoted(name)})::VARCHAR"
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isfinite({quoted(name)}) THEN {value} END"
    if kind != "VARCHAR":
        return value
    return f"CASE WHEN {value} NOT IN ({', '.join(literal(text) for text in nulls)}) THEN {value} END"


def _query(v: str, number: str) -> str:
    """A struct of all that is counted of one column.

    Args:
        v: its values as texts; ``number``: as numbers.
    """
    finite = f"CASE WHEN isfinite({number}) THEN {number} END"
    iso = f"length({v}) >= 8 AND {number} IS NULL AND try_cast({v} AS TIMESTAMPTZ) IS NOT NULL"
    told = {
        "known": f"count({v})",
        "distinct": f"count(DISTINCT {v})",
        "whole": f"count(*) FILTER (regexp_full_match({v}, '\\s*[+-]?[0-9]+(\\.0*)?\\s*'))",
        "dotted": f"count(*) FILTER (contains({v}, '.'))",
        "number": f"count(*) FILTER (isfinite({number}))",
        "flag": f"count(*) FILTER (lower({v}) IN ('true', 'false'))",
        "binary": f"count(*) FILTER ({number} IN (0, 1) OR lower({v}) IN ('true', 'false'))",
        "decimal": f"count(*) FILTER (regexp_full_match({v}, '{DECIMAL}'))",
        "object": f"count(*) FILTER (starts_with({v}, '{{'))",
        "listed": f"count(*) FILTER (starts_with(ltrim({v}), '[') AND ends_with(rtrim({v}), ']'))",
        "moment": f"count(*) FILTER ({iso})",
        "padded": f"count(*) FILTER (regexp_matches({v}, '^0[0-9]'))",
        "longest": f"max(length({v}))",
        "spaces": f"avg(length({v}) - length(replace({v}, ' ', '')))",
        "low": f"min({finite})",
        "high": f"max({finite})",
        "median": f"quantile_cont({finite}, 0.5)",
        "most": f"quantile_cont({finite}, 0.99)",
        "examples": f"approx_top_k({v}, 8)",
    }
    told |= {f"cut{place}": f"count(*) FILTER (contains({v}, {literal(cut)}))" for place, cut in enumerate(CUTS)}
    return "{" + ", ".join(f"{literal(key)}: {value}" for key, value in told.items()) + "}"


def _parts(names: Iterable[str]) -> list[list[str]]:
    listed = list(names)
    return [listed[start : start + AT_ONCE] for start in range(0, len(listed), AT_ONCE)]


def series_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Columns that differ in a number at their end, counting up without a gap: what stands before it -> the names."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?\D)(0|[1-9]\d*)", name):
            found.setdefault(match[1], {})[int(match[2])] = name
    return {
        start: [numbered[number] for number in sorted(numbered)]
        for start, numbered in found.items()
        if len(numbered) >= 2 and max(numbered) - min(numbered) + 1 == len(numbered) and min(numbered) in (0, 1)
    }
