"""What an expression that a declaration gives does to the rows of a file.

Belongs here: whether each row keeps one value. Not here: the value's type and form (converting.py).
"""

import json
from contextlib import suppress

import duckdb

from pipeline.imports.reading import Relation

_ROW_BY_ROW = ("PROJECTION", "FILTER", "READ_CSV", "READ_PARQUET")  # steps of a plan


def is_row_by_row(connection: duckdb.DuckDBPyConnection, relation: Relation, expression: str) -> bool:
    """Has each row one value? What is no expression at all is said where its type is asked for.

    Most plans tell already: the first row of a compressed file takes long to read.
    """
    first = f"(SELECT * FROM {relation.sql} LIMIT 1)"
    counted = f"(SELECT count(*) FROM (SELECT {expression} AS value FROM {first}))"
    with suppress(duckdb.Error):
        if not _is_projection(connection, relation, expression):
            asked = connection.sql(f"SELECT {counted} = (SELECT count(*) FROM {first})")
            return bool(asked.fetchall()[0][0])
    return True


def _is_projection(connection: duckdb.DuckDBPyConnection, relation: Relation, expression: str) -> bool:
    """Does the plan for an expression make neither more rows nor fewer?"""
    plan = connection.sql(f"EXPLAIN (FORMAT json) SELECT {expression} AS value FROM {relation.sql}").fetchall()
    steps = json.loads(plan[0][1])
    while len(steps) == 1 and steps[0]["name"].strip() in _ROW_BY_ROW:
        steps = steps[0]["children"]
    return not steps
