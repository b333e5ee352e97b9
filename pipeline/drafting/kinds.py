"""What a column is as an input of models: an id, a number, a list; or why it is none.

Belongs here: the guess for one column, and for columns that count up. Not here: columns with a role (roles.py).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import duckdb

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import NEARLY_ALL, Profile
from pipeline.drafting.words import ID_WORDS, TIME_WORDS
from pipeline.imports.reading import literal, quoted

FEW = 64  # different whole numbers that are read as ids
FEWEST_IN_SERIES = 4
MOST_ROWS = 2**20
SKEWED = 10.0
CUTS = ("^", "|", ";", ",", " ")


@dataclass(frozen=True)
class Kind:
    """What a column becomes.

    Args:
        what: ``out`` is no input, for the reason ``why``.
        rows: embedding rows, of a column or a bag.
        split: of a bag whose lists are texts.
        width: of a vector.
    """

    what: Literal["column", "number", "vector", "bag", "out"]
    why: str
    dtype: type = str
    rows: int = 0
    split: str | None = None
    width: int = 0
    treatment: str = "none"
    names: tuple[str, ...] = field(default=())


def rows_for(distinct: int, seen: int, estimated: int) -> int:
    """Embedding rows: twice the different values, as a power of two; where new ones still come, of all rows."""
    if distinct > 0.1 * seen and estimated > seen:
        distinct = round(distinct * estimated / seen)
    return int(min(max(2 ** math.ceil(math.log2(2 * max(distinct, 1))), 8), MOST_ROWS))


def dtype_of(each: Profile) -> type:
    """Whole numbers stay numbers; anything else, and what begins with a zero, is a text."""
    return int if each.is_int else str


def kind_of(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile) -> Kind:
    """Guess what a column is."""
    seen = f"in the {each.rows:,} rows looked at"
    if each.is_empty:
        return Kind("out", f"no value {seen}")
    if each.kind.startswith(("MAP", "STRUCT", "BLOB", "UNION")):
        return Kind("out", f"values of the type {each.kind.split('(')[0]} are no input")
    if each.is_list:
        return _of_lists(connection, looked, each)
    if each.distinct == 1 and each.known == each.rows:
        return Kind("out", f"always {_short(each.examples[0])} {seen}")
    if each.object > each.known / 2:
        return Kind("out", "objects of JSON are no input: reach into them by a path ($.a.b)")
    if each.listed >= NEARLY_ALL * each.known:
        return _of_json_lists(connection, looked, each)
    if each.kind.startswith(("TIMESTAMP", "DATE", "TIME", "INTERVAL")) or each.moment >= NEARLY_ALL * each.known:
        return Kind("out", "a moment: what matters of it is a number, such as the age then; make it by From(sql=...)")
    if each.is_number:
        return _of_numbers(looked, each)
    if each.is_fraction:
        kind = _of_numbers(looked, each)
        odd = next((example for example in each.examples if not _is_number(example)), None)
        shown = f" ({odd!r})" if odd is not None else ""
        many = each.known - each.number
        why = f"{kind.why}; {many:,} of {each.known:,} {'are' if many > 1 else 'is'} no number{shown}: quarantined"
        return replace(kind, why=why)
    if (cut := _cut_of(each)) is not None:
        return _bag(connection, looked, each, f"string_split({each.value}, {literal(cut)})", cut)
    if each.spaces >= 3 or each.longest > 120:
        return Kind("out", "free text: an embedding of it could be a Vector")
    if each.distinct > 0.5 * each.known and each.known > 100:
        return Kind("out", f"too many different values to learn from each ({each.distinct:,} in {each.known:,} rows)")
    return _column(looked, each)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "...")


def _column(looked: Looked, each: Profile, why: str = "") -> Kind:
    rows = rows_for(each.distinct, each.known, looked.sample.estimated)
    said = why or f"{each.distinct:,} different values"
    return Kind("column", said, dtype=dtype_of(each), rows=rows)


def _of_numbers(looked: Looked, each: Profile) -> Kind:
    if {*each.words} & TIME_WORDS and each.low > 600_000_000:
        return Kind("out", "a moment: what matters of it is a number, such as the age then; make it by From(sql=...)")
    dotted = each.dotted > 0 or each.kind in ("DOUBLE", "FLOAT") or each.kind.startswith("DECIMAL")
    named = each.words[-1] in ID_WORDS or each.padded
    if each.is_whole and (named or not dotted):
        sparse = each.high > 20 * each.distinct and each.distinct > FEW and each.low >= 0 and each.high > 100_000
        if named or each.distinct <= FEW or sparse:
            if each.distinct > 0.5 * each.known and each.known > 100:
                return Kind(
                    "out", f"too many different ids to learn from each ({each.distinct:,} in {each.known:,} rows)"
                )
            return _column(looked, each)
    skewed = each.low >= 0 and each.most > SKEWED * (each.median + 1)
    treatment = "log1p" if skewed else "none"
    why = f"{each.low:g} to {each.high:g}" + (", most of them small: log1p" if skewed else "")
    if each.origin.sql is not None and each.origin.sql.startswith("replace("):
        why += "; its decimal commas are read as points"
    return Kind("number", why, treatment=treatment)


def _cut_of(each: Profile) -> str | None:
    """What separates the ids of a list that is written as a text."""
    for cut in CUTS:
        held = each.cut[cut]
        if held < 0.2 * each.known or any(cut == each.examples[0][:1] for _ in each.examples[:1]):
            continue
        parts = [part for example in each.examples for part in example.split(cut)]
        coded = all(part.replace("_", "").replace("-", "").isalnum() for part in parts)
        if cut in (",", " ") and not (coded and all(len(part) <= 24 for part in parts)):
            continue
        if cut == " " and not all(any(letter.isdigit() for letter in part) for part in parts):
            continue
        if all(0 < len(part) <= 40 for part in parts) and max(part.count(" ") for part in parts) <= 2:
            return cut
    return None


def _of_json_lists(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile) -> Kind:
    values = f"from_json(CASE WHEN json_valid({each.value}) THEN {each.value} END, '[\"VARCHAR\"]')"
    if any(example.strip().startswith(("[{", "[[")) for example in each.examples):
        return Kind("out", "lists of objects are no input")
    return _vector(connection, looked, each, values) or _bag(connection, looked, each, values, None)


def _of_lists(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile) -> Kind:
    inner = each.kind[: each.kind.rindex("[")]
    if inner.endswith("]") or inner.startswith(("STRUCT", "MAP")):
        return Kind("out", "lists of lists or objects are no input")
    values = f"({each.value})::VARCHAR[]"
    if inner in ("FLOAT", "DOUBLE"):
        return _vector(connection, looked, each, values) or Kind("out", "lists of numbers of several lengths")
    return _bag(connection, looked, each, values, None)


def _vector(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile, values: str) -> Kind | None:
    """A list of so many floats in each row."""
    part = f"SELECT {values} AS v FROM {looked.sample.table} WHERE {each.value} IS NOT NULL"
    low, high, other, dotted = connection.sql(
        "SELECT min(len(v)), max(len(v)), count(*) FILTER (len(list_filter(v, lambda x: try_cast(x AS DOUBLE) IS NULL)"
        ") > 0), count(*) FILTER (len(list_filter(v, lambda x: contains(x, '.') OR contains(x, 'e'))) > 0) "
        f"FROM ({part})"
    ).fetchall()[0]
    if low != high or low < 2 or other or not dotted:
        return None
    return Kind("vector", f"{low} numbers in each row", width=int(low))


def _bag(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile, values: str, split: str | None) -> Kind:
    table = looked.sample.table
    distinct, ids, whole, padded, longest = connection.sql(
        "SELECT count(DISTINCT x), count(x), count(*) FILTER (regexp_full_match(x, '[+-]?[0-9]{1,18}')), "
        "count(*) FILTER (regexp_matches(x, '^0[0-9]')), max(length(x)) "
        f"FROM (SELECT unnest({values}) AS x FROM {table} WHERE {quoted(each.name)} IS NOT NULL)"
    ).fetchall()[0]
    if not ids:
        return Kind("out", f"empty lists in the {each.rows:,} rows looked at")
    if longest > 120:
        return Kind("out", "lists of free texts are no input")
    dtype = int if whole == ids and not padded else str
    cut = f", cut at {split!r}" if split is not None else ""
    why = f"several ids at once{cut}: {distinct:,} different"
    return Kind("bag", why, dtype=dtype, rows=rows_for(distinct, ids, looked.sample.estimated), split=split)


def kind_of_series(looked: Looked, names: list[str], kinds: dict[str, Kind]) -> Kind | None:
    """Columns that count up, if all are numbers: one vector where every file has all of them, and always a value."""
    members = [looked.profiles[name] for name in names]
    if len(members) < FEWEST_IN_SERIES or not all(each.is_number or each.is_empty for each in members):
        return None
    if not any(each.dotted or kinds[each.name].what == "number" for each in members):
        return None
    whole = all(each.known == each.rows for each in members) and {*names} <= looked.shape.common
    if whole:
        return Kind("vector", f"{len(names)} numbers in every file and row", width=len(names), names=tuple(names))
    return Kind(
        "number",
        f"{len(names)} numbers, of which some are null or not in every file, so they are no vector",
        names=tuple(names),
    )
