"""Answering a question, in memory or by DuckDB: entity rows in, the same rows with their features out, in chunks.

Belongs here: which engine, running it. Not here: how rows are found (history.py), SQL (sql.py).
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from feast import FeatureView

from feast_asof.casting import fit
from feast_asof.connection import WHOLE, Engine, Session, pieces_of, register_places
from feast_asof.errors import RetrievalError
from feast_asof.files import SourceFile
from feast_asof.history import History, files_for, matches, prepare, rows_of_files, rows_of_groups
from feast_asof.plan import Feature, Plan, plan_view
from feast_asof.rows import EVENT_TIMESTAMP, Clock, EntityRows, Rows, first_line, load_rows
from feast_asof.sql import ROWS, join_query, keys_query, rows_query
from feast_asof.sweep import NotInOrder, Sweep, views_of
from feast_asof.turns import Found, newest_of, turns_of
from feast_asof.types import MOMENT, width

_ARRANGING = 3  # a history takes about so many times its columns' size while it is being arranged


@dataclass(frozen=True)
class Window:
    """A question without entity rows: for every key that has a row in [first, last], microseconds, as of ``last``."""

    first: int
    last: int


@dataclass(frozen=True)
class Question:
    """A historical retrieval: each view with the requested features.

    Args:
        stamped: as ``Clock`` has it.
    """

    entity_rows: EntityRows | Window
    views: tuple[tuple[FeatureView, tuple[str, ...]], ...]
    full_names: bool
    cutoff: bool
    repo_path: Path | None
    stamped: tuple[int, int] | None = None

    def chunks(self, session: Session, engine: Engine, size: int) -> Iterator[pa.Table]:
        """The entity rows in their order, with one column per feature, at most ``size`` rows per chunk.

        Raises:
            RetrievalError: if rows, files and definitions do not fit.
        """
        rows = self.load(session, stream=size != WHOLE)
        plans = self._plans(rows.checked_types)
        clock = rows.measure(key.entity for plan in plans for key in plan.keys)
        clock = clock if clock is None else replace(clock, stamped=self.stamped)
        _refuse_taken(rows, plans)
        if clock is None:
            yield from _without_clock(rows, plans, size)
        elif engine.choose(_bytes_needed(plans, clock, engine, cutoff=self.cutoff)) == "memory":
            yield from _in_memory(rows, plans, clock, engine, size, cutoff=self.cutoff)
        elif engine.kind == "auto" and size != WHOLE:
            yield from _in_order_of_time(rows, plans, clock, engine, size, cutoff=self.cutoff)
        else:
            yield from _in_duckdb(rows, plans, clock, size, cutoff=self.cutoff)

    def load(self, session: Session, *, stream: bool) -> Rows:
        """The entity rows; for a window, the keys that the views have in it."""
        if not isinstance(self.entity_rows, Window):
            return load_rows(session, self.entity_rows, stream=stream)
        window = self.entity_rows
        plans = self._plans(None)
        register_places(session.connection, (plan.source.location for plan in plans))
        query = keys_query(plans, window.first, window.last, EVENT_TIMESTAMP)
        return load_rows(session, query, stream=stream)

    def _plans(self, types: Any) -> list[Plan]:
        return [
            plan_view(view, names, full_names=self.full_names, types=types, repo_path=self.repo_path)
            for view, names in self.views
        ]


def _refuse_taken(rows: Rows, plans: Sequence[Plan]) -> None:
    names = [feature.name for plan in plans for feature in plan.features]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RetrievalError(f"features: {twice} are asked of two views: ask with full_feature_names=True")


def _bytes_needed(plans: Sequence[Plan], clock: Clock, engine: Engine, *, cutoff: bool) -> int:
    """About how much memory the views' histories take while they are arranged.

    By whole files; if that is too much, by the row groups that can matter, which are the only ones that are read.
    """
    for count in (rows_of_files, rows_of_groups):
        needed = sum(count(plan, clock, cutoff=cutoff) * _width(plan) for plan in plans)
        if needed <= engine.limit:
            break
    return needed


def _width(plan: Plan) -> int:
    """Bytes of a row of a view while it is arranged."""
    columns = [key.source for key in plan.keys] + [plan.source.timestamp] * 2
    types = [plan.source.files[0].types.get(name, pa.string()) for name in columns]
    return _ARRANGING * (sum(map(width, types)) + sum(width(feature.dtype) for feature in plan.features))


def _without_clock(rows: Rows, plans: Sequence[Plan], size: int) -> Iterator[pa.Table]:
    for chunk in rows.batches(size):
        for plan in plans:
            for feature in plan.features:
                chunk = chunk.append_column(feature.name, pa.nulls(chunk.num_rows, feature.dtype))
        yield chunk


def _in_memory(
    rows: Rows, plans: Sequence[Plan], clock: Clock, engine: Engine, size: int, *, cutoff: bool
) -> Iterator[pa.Table]:
    files = [files_for(plan, clock, cutoff=cutoff) for plan in plans]
    with ThreadPoolExecutor(engine.threads or os.cpu_count()) as pool:
        if size == WHOLE:
            chunk = rows.table()
            served = _serve_in_turns(pool, chunk, rows.clock, plans, clock, files, cutoff=cutoff)
            yield _with_columns(chunk, plans, served)
            return
        futures = [pool.submit(prepare, *pair, clock, None, cutoff=cutoff) for pair in zip(plans, files, strict=True)]
        histories = [future.result() for future in futures]
        for chunk in rows.batches(size):
            yield _answered(chunk, rows.clock, plans, histories, pool)


def _in_order_of_time(
    rows: Rows, plans: Sequence[Plan], clock: Clock, engine: Engine, size: int, *, cutoff: bool
) -> Iterator[pa.Table]:
    """Histories are read along with the entity rows; where these are in no order of time, DuckDB answers the rest."""
    views, given = views_of(plans, clock, [_width(plan) for plan in plans], cutoff=cutoff), 0
    if views is not None:
        with ThreadPoolExecutor(engine.threads or os.cpu_count()) as pool:
            sweep = Sweep(views, engine.limit, pool)
            try:
                for chunk in sweep.along(rows.batches(size), rows.clock):
                    yield _answered(chunk, rows.clock, plans, [view.arranged for view in views], pool)
                    given += chunk.num_rows
                return
            except NotInOrder:
                del sweep, views
    for chunk in _in_duckdb(rows, plans, clock, size, cutoff=cutoff):
        if given < chunk.num_rows:
            yield chunk.slice(given)
        given = max(given - chunk.num_rows, 0)


def _answered(
    chunk: pa.Table, clock: str, plans: Sequence[Plan], histories: Sequence[History], pool: ThreadPoolExecutor
) -> pa.Table:
    keys, moments = [_keys(chunk, plan) for plan in plans], _moments(chunk, clock)
    found = matches(histories, keys, moments, pool)
    indices = [history.indices(rows) for history, rows in zip(histories, found, strict=True)]
    frames = [history.frame for history in histories]
    return _with_columns(chunk, plans, list(pool.map(_columns, plans, frames, indices)))


def _serve_in_turns(
    pool: ThreadPoolExecutor,
    chunk: pa.Table,
    clock_name: str,
    plans: Sequence[Plan],
    clock: Clock,
    files: Sequence[Sequence[SourceFile]],
    *,
    cutoff: bool,
) -> list[list[pa.ChunkedArray]]:
    """The columns of each view. A long history is read in turns, and of each turn only what it serves is held."""
    moments = _moments(chunk, clock_name)

    def turn(plan: Plan, some: Sequence[SourceFile]) -> Found:
        keys = _keys(chunk, plan)
        history = prepare(plan, some, clock, keys, cutoff=cutoff)
        return Found.of(history, history.find(keys, moments))

    def at_once(plan: Plan, all_files: Sequence[SourceFile]) -> list[pa.ChunkedArray]:
        keys = _keys(chunk, plan)
        history = prepare(plan, all_files, clock, keys, cutoff=cutoff)
        return _columns(plan, history.frame, history.indices(history.find(keys, moments)))

    tasks: dict[int, list[Future[Any]]] = {}
    # The view with the most rows first: the others then fill the time of the threads that are done.
    for i in sorted(range(len(plans)), key=lambda i: -sum(file.rows for file in files[i])):
        turns = turns_of(files[i], chunk.num_rows)
        serve = turn if len(turns) > 1 else at_once
        tasks[i] = [pool.submit(serve, plans[i], some) for some in turns]
    served = []
    for i, plan in enumerate(plans):
        results = [future.result() for future in tasks[i]]
        if len(results) > 1:
            served.append(_columns(plan, *newest_of(plan, results, chunk.num_rows)))
        else:
            served.append(results[0])
    return served


def _with_columns(chunk: pa.Table, plans: Sequence[Plan], served: Sequence[Sequence[pa.ChunkedArray]]) -> pa.Table:
    columns = [*chunk.columns, *(column for columns in served for column in columns)]
    names = [*chunk.column_names, *(feature.name for plan in plans for feature in plan.features)]
    return pa.Table.from_arrays(columns, names=names)


def _keys(table: pa.Table, plan: Plan) -> pl.DataFrame:
    """The key columns of entity rows, in the order of the view's keys."""
    columns = {f"k{i}": pl.from_arrow(table[key.entity]) for i, key in enumerate(plan.keys)}
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=table.num_rows)


def _moments(chunk: pa.Table, clock: str) -> pl.Series:
    return pl.Series(pl.from_arrow(chunk[clock].cast(pa.int64())))


def _columns(plan: Plan, frame: pl.DataFrame, indices: pl.Series) -> list[pa.ChunkedArray]:
    """The view's features in the requested order; ``indices`` are the rows of ``frame`` to gather."""
    # One gather a column: of all at once, polars would hold every column twice.
    return [_column(frame[feature.source].gather(indices), feature, plan.view) for feature in plan.features]


def _column(values: pl.Series, feature: Feature, view: str) -> pa.ChunkedArray:
    try:
        column = values.to_arrow(compat_level=pl.CompatLevel.oldest())
        if column.type != feature.dtype:
            column = _cast(column, feature)
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise RetrievalError(
            f"view {view!r}: feature {feature.source!r} does not fit its declared type ({error}): declare a wider one"
        ) from None
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column], type=feature.dtype)


def _cast(column: pa.Array, feature: Feature) -> pa.Array | pa.ChunkedArray:
    if feature.sql_type is None:
        return fit(pa.chunked_array([column]), feature.dtype)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    return column.cast(feature.dtype, safe=not pa.types.is_timestamp(feature.dtype))


def _as_in_memory(chunk: pa.Table, schema: pa.Schema) -> pa.Table:
    """DuckDB's columns with the names and types that the other engine gives."""
    columns = []
    for column, field in zip(chunk.columns, schema, strict=True):
        try:
            columns.append(fit(column, field.type))
        except pa.ArrowException:  # what DuckDB knows better, such as the answer of an SQL query, stays as it is
            columns.append(column)
    return pa.Table.from_arrays(columns, names=schema.names)


def _in_duckdb(rows: Rows, plans: Sequence[Plan], clock: Clock, size: int, *, cutoff: bool) -> Iterator[pa.Table]:
    connection = rows.session.connection
    register_places(connection, (plan.source.location for plan in plans))
    relation, names = rows.source, list(rows.types)
    if isinstance(relation, pa.Table):
        # DuckDB knows no names that differ in case alone: within it, columns have numbers.
        names = [f"given{i}" for i in range(relation.num_columns)]
        connection.register("asof_table", relation.rename_columns(names))
        relation = "asof_table"
    given = {name: MOMENT if name == rows.clock else dtype for name, dtype in rows.types.items()}
    features = {feature.name: feature.dtype for plan in plans for feature in plan.features}
    schema = pa.schema([*given.items(), *features.items()])
    try:
        connection.execute(f"CREATE TEMP TABLE {ROWS} AS {rows_query(relation, names, rows)}")
        answer = connection.sql(join_query(plans, list(rows.types), clock, cutoff=cutoff))
        for chunk in pieces_of(answer, size):
            yield _as_in_memory(chunk, schema)
    except duckdb.Error as error:
        raise RetrievalError(f"entity rows and views: DuckDB refused the join: {first_line(error)}") from None
