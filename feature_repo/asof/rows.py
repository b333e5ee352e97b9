"""The entity rows of a question: from pandas, Arrow or SQL to one numbered table in the connection.

Belongs here: what entity rows must look like. Not here: what is joined to them.
"""

from dataclasses import dataclass
from typing import TypeAlias

import duckdb
import pandas as pd
import pyarrow as pa

from feature_repo.asof.errors import RetrievalError
from feature_repo.asof.sql import CLOCK, ROW, ROWS, Clock, quoted
from feature_repo.asof.types import TIMESTAMP, family_of_duckdb

EntityRows: TypeAlias = pd.DataFrame | pa.Table | str
_EVENT_TIMESTAMP = "event_timestamp"
_GIVEN = "asof_given"


@dataclass(frozen=True)
class Rows:
    """The table ``ROWS``: DuckDB types of the given columns in their order, and which one is the clock."""

    types: dict[str, str]
    clock: str


def load_rows(connection: duckdb.DuckDBPyConnection, given: EntityRows) -> Rows:
    """Number the entity rows in their order and make their timestamp microseconds UTC (naive ones are UTC).

    Raises:
        RetrievalError: if there is no timestamp column, or more than one and none is called ``event_timestamp``.
    """
    if isinstance(given, str):
        query = f"({given})"
    else:
        table = given if isinstance(given, pa.Table) else pa.Table.from_pandas(given, preserve_index=False)
        connection.register(_GIVEN, table)
        query = _GIVEN
    types = {name: dtype for name, dtype, *_ in connection.execute(f"DESCRIBE SELECT * FROM {query}").fetchall()}
    clock = _clock_column(types)
    if ROW in types or CLOCK in types:
        raise RetrievalError(f"entity rows: the column names {ROW!r} and {CLOCK!r} are taken: rename yours")
    name = quoted(clock)
    connection.execute(
        f"CREATE TEMP TABLE {ROWS} AS SELECT * REPLACE (CAST({name} AS TIMESTAMPTZ) AS {name}), "
        f"CAST({name} AS TIMESTAMPTZ) AS {CLOCK}, row_number() OVER () AS {ROW} FROM {query}"
    )
    return Rows(types, clock)


def _clock_column(types: dict[str, str]) -> str:
    timestamps = [name for name, dtype in types.items() if family_of_duckdb(dtype) == TIMESTAMP]
    if _EVENT_TIMESTAMP in timestamps:
        return _EVENT_TIMESTAMP
    if _EVENT_TIMESTAMP in types:
        raise RetrievalError(
            f"entity rows: column {_EVENT_TIMESTAMP!r} is {types[_EVENT_TIMESTAMP]}, not a timestamp: cast it to one"
        )
    if len(timestamps) != 1:
        raise RetrievalError(
            f"entity rows: {len(timestamps)} timestamp columns {timestamps} and none is called "
            f"{_EVENT_TIMESTAMP!r}: name the clock {_EVENT_TIMESTAMP!r}"
        )
    return timestamps[0]


def measure(connection: duckdb.DuckDBPyConnection, keys: set[str]) -> Clock | None:
    """What the rows span in time and in each integer key; ``None`` if no row has a timestamp."""
    names = sorted(keys)
    parts = [f"epoch_us(min({CLOCK}))", f"epoch_us(max({CLOCK}))"]
    parts += [f"{end}({quoted(name)})" for name in names for end in ("min", "max")]
    [(first, last, *ranges)] = connection.execute(f"SELECT {', '.join(parts)} FROM {ROWS}").fetchall()
    if first is None:
        return None
    pairs = zip(names, ranges[::2], ranges[1::2], strict=True)
    return Clock(first, last, {name: (low, high) for name, low, high in pairs if low is not None})


def given_columns(connection: duckdb.DuckDBPyConnection, rows: Rows) -> pa.Table:
    """The entity rows as they were given, in their order."""
    names = ", ".join(map(quoted, rows.types))
    return connection.sql(f"SELECT {names} FROM {ROWS} ORDER BY {ROW}").to_arrow_table()
