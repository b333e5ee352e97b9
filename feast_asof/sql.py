"""The SQL of a question, for answers that do not fit in memory, and of pulls.

Belongs here: text. Not here: running it (answering.py), whether it may be asked (plan.py).

The rule is that of history.py: an as-of join on ``known = max(t, c)``, over only those rows that are the newest known
one in the moment that they become known: a row below the running maximum of t is superseded before anyone saw it.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

import pyarrow as pa

from feast_asof.files import SourceFile, meeting
from feast_asof.history import bounds_of, closed, files_for
from feast_asof.plan import Plan, Source
from feast_asof.rows import Clock, is_fine, moment, quoted

ROWS, ROW, CLOCK = "asof_rows", "__asof_row", "__asof_clock"


def text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"


def instant(microseconds: int) -> str:
    """A moment; a constant, so that the comparison reaches the parquet scan."""
    return f"make_timestamptz({microseconds})"


def _within(column: str, low: int | None, high: int | None) -> list[str]:
    wanted = [] if low is None else [f"{moment(column)} >= {instant(low)}"]
    return wanted + ([] if high is None else [f"{moment(column)} <= {instant(high)}"])


def scan(files: Sequence[SourceFile], columns: Iterable[str]) -> str:
    """The columns of files, one SELECT for those that agree in types and folder values; all joined by UNION ALL."""
    names = list(dict.fromkeys(columns))

    def likeness(file: SourceFile) -> tuple[str | None, ...]:
        return tuple(str(file.types[name]) if name in file.types else f"/{file.partitions[name]}" for name in names)

    parts = []
    for _, group in groupby(files, likeness):
        alike = list(group)
        values = [_value(alike[0], name) for name in names]
        listed = ", ".join(text(file.path) for file in alike)
        parts.append(f"SELECT {', '.join(values)} FROM read_parquet([{listed}], hive_partitioning = false)")
    return f"({' UNION ALL '.join(parts)})"


def _value(file: SourceFile, name: str) -> str:
    if name in file.types:
        return f"{moment(name, file.types[name])} AS {quoted(name)}" if is_fine(file.types[name]) else quoted(name)
    value = file.partitions[name]
    return f"CAST({'NULL' if value is None else text(value)} AS VARCHAR) AS {quoted(name)}"


def rows_query(relation: str, clock: str, dtype: pa.DataType) -> str:
    """The entity rows, numbered in their order, their clock beside them."""
    now = moment(clock, dtype)
    return (
        f"SELECT * REPLACE ({now} AS {quoted(clock)}), {now} AS {CLOCK}, row_number() OVER () AS {ROW} FROM {relation}"
    )


def join_query(plans: Sequence[Plan], given: Sequence[str], clock: Clock | None, *, cutoff: bool) -> str:
    """A query with one row per entity row of ``ROWS``, in their order: the given columns, then one per feature.

    Args:
        clock: ``None`` if there are no entity rows or none has a timestamp: every feature is null.
        cutoff: whether a row counts only from its created timestamp on.
    """
    columns = [f"e.{quoted(name)}" for name in given]
    joins = []
    stands = clock is not None and clock.stands
    for number, plan in enumerate(plans):
        f = f"f{number}"
        expired = f" AND epoch_us(e.{CLOCK}) - epoch_us({f}.{f}t) <= {plan.ttl}" if plan.ttl else ""
        for i, feature in enumerate(plan.features):
            value = f"CASE WHEN {f}.{f}t IS NOT NULL{expired} THEN {f}.{f}v{i} END"
            value = f"CAST({value} AS {feature.sql_type})" if feature.sql_type else value
            columns.append(f"{value} AS {quoted(feature.name)}")
        equal = [f"e.{quoted(key.entity)} = {f}.{f}k{i}" for i, key in enumerate(plan.keys)]
        on = " AND ".join([*equal, f"e.{CLOCK} >= {f}.{f}{'t' if stands else 'known'}"])
        history = _history(plan, f, clock, cutoff=cutoff)
        joins.append(f"{'LEFT JOIN' if stands else 'ASOF LEFT JOIN'} ({history}) {f}\n  ON {on}")
    return "\n".join([f"SELECT {', '.join(columns)}", f"FROM {ROWS} e", *joins, f"ORDER BY e.{ROW}"])


def _history(plan: Plan, f: str, clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of a view that can be served: unique per key and ``known``; per key alone if the clock stands."""
    source = plan.source
    keys = ", ".join(f"{f}k{i}" for i in range(len(plan.keys)))
    values = ", ".join(f"{f}v{i}" for i in range(len(plan.features)))
    # Rows that tie on key, t and c are told apart by their values, or threads would decide.
    order = [f"{f}t", *([f"{f}c"] if source.created else []), f"hash({values})"]
    known = f"greatest({f}t, {f}c)" if cutoff and source.created else f"{f}t"
    partition = f"PARTITION BY {keys}" if keys else ""
    inner = f"SELECT *, {known} AS {f}known FROM ({_candidates(plan, f, clock, cutoff=cutoff)})"
    chosen = f"SELECT {keys}{', ' if keys else ''}{f}t, {f}known, {values} FROM ({inner})"
    if clock is not None and clock.stands:
        newest = ", ".join(f"{column} DESC" for column in order)
        return f"{chosen} QUALIFY row_number() OVER ({partition} ORDER BY {newest}) = 1"
    return (
        f"{chosen} WINDOW in_turn AS ({partition} ORDER BY {f}known, {', '.join(order)}) "
        f"QUALIFY lead({f}known) OVER in_turn IS DISTINCT FROM {f}known AND max({f}t) OVER in_turn = {f}t"
    )


def _candidates(plan: Plan, f: str, clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of the files that may matter to the entity rows: what is filtered here is never sorted."""
    source, files = plan.source, plan.source.files
    columns = [f"{_key(plan, i)} AS {f}k{i}" for i in range(len(plan.keys))]
    columns.append(f"{moment(source.timestamp)} AS {f}t")
    if source.created:
        columns.append(f"coalesce({moment(source.created)}, TIMESTAMPTZ '-infinity') AS {f}c")
    columns += [f"{quoted(feature.source)} AS {f}v{i}" for i, feature in enumerate(plan.features)]
    wanted = [f"{quoted(key.source)} IS NOT NULL" for key in plan.keys]
    if clock is None:
        wanted.append("false")
    else:
        bounds = bounds_of(plan, clock, cutoff=cutoff)
        files = files_for(plan, clock, cutoff=cutoff)
        clocks = {source.timestamp, source.created}
        for name, (low, high) in bounds.items():
            wanted += _within(name, low, high) if name in clocks else [f"{quoted(name)} BETWEEN {low} AND {high}"]
    if plan.keys and clock is not None:
        mine = ", ".join(_key(plan, i) for i in range(len(plan.keys)))
        theirs = ", ".join(quoted(key.entity) for key in plan.keys)
        wanted.append(f"({mine}) IN (SELECT ({theirs}) FROM {ROWS})")
    names = [key.source for key in plan.keys] + [feature.source for feature in plan.features]
    names += [source.timestamp, *([source.created] if source.created else [])]
    return f"SELECT {', '.join(columns)} FROM {scan(files, names)} WHERE {' AND '.join(wanted)}"


def _key(plan: Plan, number: int) -> str:
    """A key's column; the name of a folder is text, whatever it stands for."""
    key = plan.keys[number]
    is_folder = any(key.source not in file.types for file in plan.source.files)
    return f"CAST({quoted(key.source)} AS BIGINT)" if is_folder and key.family == "integer" else quoted(key.source)


def keys_query(plans: Sequence[Plan], first: int, last: int, clock: str) -> str:
    """Entity rows where none were given: each key that a view has in [first, last], as of ``last``, in order.

    A view that lacks one of the others' keys gives rows with null for it.
    """
    names = sorted({key.entity for plan in plans for key in plan.keys})
    parts = []
    for plan in plans:
        held = {key.entity: _key(plan, i) for i, key in enumerate(plan.keys)}
        values = [f"{held.get(name, 'NULL')} AS {quoted(name)}" for name in names]
        time = plan.source.timestamp
        files = meeting(plan.source.files, {time: (first, last)}) or plan.source.files[:1]
        wanted = [f"{quoted(key.source)} IS NOT NULL" for key in plan.keys]
        wanted += _within(time, first, last)
        columns = [time, *(key.source for key in plan.keys)]
        parts.append(
            f"SELECT DISTINCT {', '.join(values) or '1'} FROM {scan(files, columns)} WHERE {' AND '.join(wanted)}"
        )
    asked = f"{instant(last)} AS {quoted(clock)}"
    if not names:
        return f"SELECT {asked}"
    listed = ", ".join(map(quoted, names))
    return f"SELECT {listed}, {asked} FROM ({' UNION '.join(parts)}) ORDER BY {listed}"


def _unfolded(source: Source, name: str) -> str:
    """A column; one that only folders' names hold is a whole number if all of them read so."""
    values = [file.partitions[name] for file in source.files if name in file.partitions]
    numbers = all(value is None or value.removeprefix("-").isdecimal() and str(int(value)) == value for value in values)
    return f"CAST({quoted(name)} AS BIGINT) AS {quoted(name)}" if values and numbers else quoted(name)


def pull_query(
    source: Source, keys: list[str], features: list[str], first: int | None, last: int | None, *, latest: bool
) -> str:
    """Rows of a source with a timestamp in [first, last], both ends included: all, or the newest one of each key."""
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    columns = [_unfolded(source, name) for name in [*keys, *features]]
    columns += [f"{moment(name)} AS {quoted(name)}" for name in clocks]
    wanted = [f"{quoted(key)} IS NOT NULL" for key in keys] if latest else []
    wanted += _within(source.timestamp, first, last)
    files = meeting(source.files, {source.timestamp: closed(first, last)}) or source.files[:1]
    query = (
        f"SELECT {', '.join(columns)} FROM {scan(files, [*keys, *features, *clocks])} "
        f"WHERE {' AND '.join(wanted or ['true'])}"
    )
    if not latest:
        return f"{query} ORDER BY {', '.join(map(quoted, [*clocks, *keys]))}"
    newest = [f"{quoted(name)} DESC NULLS LAST" for name in clocks]
    tie = f"hash({', '.join(map(quoted, [*features, *keys, *clocks]))})"
    partition = f"PARTITION BY {', '.join(map(quoted, keys))}" if keys else ""
    return (
        f"SELECT * FROM ({query}) QUALIFY row_number() OVER ({partition} ORDER BY {', '.join([*newest, tie])}) = 1 "
        f"ORDER BY {', '.join(map(quoted, [*keys, *clocks]))}"
    )
