"""Values that mean something else than they stand for: numbers with a decimal comma, yes and no.

Belongs here: telling them by what nearly all values are, and the expression that mends them. Not here: profiles
(looking.py), which column becomes a label (roles.py).
"""

from dataclasses import replace

import duckdb

from pipeline.drafting.looking import DECIMAL, NEARLY_ALL, Profile, known_text
from pipeline.drafting.sampling import Origin, Sample
from pipeline.imports.reading import quoted

YES_NO = (
    ("ja", "nein"), ("j", "n"), ("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("wahr", "falsch"),
    ("oui", "non"), ("o", "n"), ("si", "no"), ("sí", "no"), ("s", "n"), ("sim", "não"), ("tak", "nie"),
)  # fmt: skip
MOST = 12  # different values of a column that is looked at for yes and no
FEW = 0.2  # of values that have a comma, below which they are no numbers


def with_points(connection: duckdb.DuckDBPyConnection, sample: Sample, nulls: tuple[str, ...]) -> Sample:
    """A sample whose numbers with a decimal comma have a point, and say by which expression."""
    origins = dict(sample.origins)
    for name, origin in sample.origins.items():
        if sample.kinds[name] != "VARCHAR" or origin.of is None:
            continue
        value = f"({known_text(name, 'VARCHAR', nulls)})"
        known, commas, wholes, dots = connection.sql(
            f"SELECT count(v), count(*) FILTER (regexp_full_match(v, '{DECIMAL}')), "
            "count(*) FILTER (regexp_full_match(v, '\\s*[+-]?[0-9]+\\s*')), count(*) FILTER (contains(v, '.')) "
            f"FROM (SELECT {value} AS v FROM {sample.table})"
        ).fetchall()[0]
        if not known or commas < FEW * known or commas + wholes < NEARLY_ALL * known:
            continue

        def mended(column: str, dots: int = dots) -> str:
            bare = f"replace({column}, '.', '')" if dots else column
            return f"replace({bare}, ',', '.')"

        connection.execute(f"UPDATE {sample.table} SET {quoted(name)} = {mended(quoted(name))}")
        origins[name] = Origin(sql=mended(quoted(origin.of)))
    return replace(sample, origins=origins)


def with_yes_no(
    connection: duckdb.DuckDBPyConnection, sample: Sample, profiles: dict[str, Profile], nulls: tuple[str, ...]
) -> dict[str, Profile]:
    """Profiles that say which texts mean yes and no."""
    found = dict(profiles)
    for name, each in profiles.items():
        if each.kind != "VARCHAR" or not 2 <= each.distinct <= MOST or each.is_binary:
            continue
        value = known_text(name, "VARCHAR", nulls)
        rows = connection.sql(
            f"SELECT lower(trim(v)), count(*) FROM (SELECT {value} AS v FROM {sample.table}) "
            "WHERE v IS NOT NULL GROUP BY 1"
        ).fetchall()
        counted = dict(rows)
        for yes, no in YES_NO:
            if yes in counted and no in counted and counted[yes] + counted[no] >= NEARLY_ALL * each.known:
                found[name] = replace(each, yes_no=(yes, no))
                break
    return found
