"""Columns of the impressions that tell what came of them, as only what is written down afterwards can.

Belongs here: telling it by the values, in any language. Not here: telling it by names (roles.py).
"""

from collections.abc import Iterable, Mapping

import duckdb

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile, known_text

FEWEST = 20  # rows with the outcome, and without
AUC = 0.95  # of one column alone: no model of all that is known before reaches it on a log of clicks
ALONE = 0.98  # share of rows with the outcome among those with a value
USUAL = 0.5  # share of rows with the outcome among all, up to which that says anything
CAME_OF_A_VALUE = 5  # outcomes of each text at the least in the mean: rates of fewer follow the outcomes by accident


def leaks_of(
    connection: duckdb.DuckDBPyConnection, looked: Looked, columns: Iterable[Profile], labels: Mapping[str, str]
) -> dict[str, str]:
    """Columns that are known only afterwards -> why it seems so.

    Args:
        labels: task -> an expression over the sample: whether it came of a row.
    """
    found: dict[str, str] = {}
    for each in columns:
        if each.is_list or each.is_empty or each.kind.startswith(("MAP", "STRUCT", "BLOB", "UNION")):
            continue
        for task, label in labels.items():
            if (why := _tells(connection, looked, each, task, label)) is not None:
                found[each.name] = why
                break
    return found


def _tells(connection: duckdb.DuckDBPyConnection, looked: Looked, each: Profile, task: str, label: str) -> str | None:
    """How much better than chance a column says whether an outcome came: of one that says it too well."""
    text = known_text(each.name, each.kind, looked.nulls)
    value = f"try_cast({text} AS DOUBLE)" if each.is_number else text
    order = "value NULLS FIRST" if each.is_number else "came / rows"
    is_set = "value IS NOT NULL AND value <> 0" if each.is_number else "value IS NOT NULL"
    came, not_came, area, with_value, came_of_these = connection.sql(
        f"WITH counted AS (SELECT {value} AS value, count(*) AS rows, "
        f"count(*) FILTER ({label}) AS came FROM {looked.sample.table} GROUP BY 1), "
        f"placed AS (SELECT *, sum(rows - came) OVER (ORDER BY {order}, value ROWS UNBOUNDED PRECEDING) "
        "- (rows - came) / 2 AS below FROM counted) "
        "SELECT sum(came), sum(rows - came), sum(came * below), "
        f"coalesce(sum(rows) FILTER ({is_set}), 0), coalesce(sum(came) FILTER ({is_set}), 0) FROM placed"
    ).fetchall()[0]
    if came < FEWEST or not_came < FEWEST:
        return None
    share, usual = came_of_these / max(with_value, 1), came / (came + not_came)
    told = "it seems to be known only afterwards: no input; if it is known when a student is asked, add it by hand"
    if with_value >= FEWEST and share >= ALONE and usual <= USUAL:
        of = f"{share:.0%} of the {with_value:,.0f} rows with a value of it"
        return f"{of} have {task!r}, of all {usual:.1%}: {told}"
    if not each.is_number and came < CAME_OF_A_VALUE * each.distinct:
        return None
    auc = max(area / (came * not_came), 1 - area / (came * not_came))
    if auc >= AUC:
        return f"it alone tells {task!r} with an AUC of {auc:.3f} in the rows looked at: {told}"
    return None
