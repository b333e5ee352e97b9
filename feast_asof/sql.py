"""The SQL of a question, for answers that do not fit in memory, and of pulls.

Belongs here: text. Not here: running it (answering.py), whether it may be asked (plan.py).

The rule is that of history.py: an as-of join on ``known = max(t, c)``, over only those rows that are the newest known
one in the moment that they become known: a row below the running maximum of t is superseded before anyone saw it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from feast_asof.files import SourceFile, meeting
from feast_asof.history import bounds_of, closed, files_for
from feast_asof.plan import Plan, Source
from feast_asof.rows import Clock, Rows, is_fine, literal, moment, quoted, text

ROWS, ROW, CLOCK = "asof_rows", "__asof_row", "__asof_clock"


def instant(microseconds: int) -> str:
    """A moment; a constant, so that the comparison reaches the parquet scan."""
    return f"make_timestamptz({microseconds})"


def _within(column: str, low: int | None, high: int | None) -> list[str]:
    wanted = [] if low is None else [f"{moment(column)} >= {instant(low)}"]
    return wanted + ([] if high is None else [f"{moment(column)} <= {instant(high)}"])


@dataclass(frozen=True)
class Scan:
    """The columns of files as a relation, in which each has a number: DuckDB knows no names that differ in case alone.

    ``names`` says how a column is called in it.
    """

    relation: str
    names: Mapping[str, str]


def scan(files: Sequence[SourceFile], columns: Iterable[str]) -> Scan:
    """The columns of files, one SELECT for those that agree in types and folder values; all joined by UNION ALL."""
    names = {name: f"s{i}" for i, name in enumerate(dict.fromkeys(columns))}

    def likeness(file: SourceFile) -> tuple[str | None, ...]:
        types = (str(file.types[name]) if name in file.types else f"/{file.partitions.get(name)}" for name in names)
        return (file.path if _is_ambiguous(file, names) else None, *types)

    parts = []
    for _, group in groupby(files, likeness):
        alike = list(group)
        listed = ", ".join(text(literal(file.path)) for file in alike)
        relation, held = f"read_parquet([{listed}], hive_partitioning = false)", {name: name for name in names}
        if _is_ambiguous(alike[0], names):
            held = {name: f"c{i}" for i, name in enumerate(alike[0].types)}
            relation = f"{relation} AS file({', '.join(held.values())})"
        values = [f"{_value(alike[0], name, held.get(name, name))} AS {new}" for name, new in names.items()]
        parts.append(f"SELECT {', '.join(values)} FROM {relation}")
    return Scan(f"({' UNION ALL '.join(parts)})", names)


def _is_ambiguous(file: SourceFile, names: Iterable[str]) -> bool:
    """Has the file a column whose name differs from a wanted one in case alone?"""
    lower = [name.lower() for name in file.types]
    return len(set(lower)) < len(lower) and any(lower.count(name.lower()) > 1 for name in names)


def _value(file: SourceFile, name: str, held: str) -> str:
    """A column of a file, ``held`` its name in DuckDB, or the value of a folder, or null if it was added later."""
    if name in file.types:
        return moment(held, file.types[name]) if is_fine(file.types[name]) else quoted(held)
    value = file.partitions.get(name)
    if value is None:
        return "CAST(NULL AS VARCHAR)" if name in file.partitions else "NULL"
    return f"CAST({text(value)} AS VARCHAR)"


def rows_query(relation: str, names: Sequence[str], rows: Rows) -> str:
    """The entity rows, numbered in their order and in their columns, their clock beside them.

    Args:
        names: of the relation's columns, in the order of the rows' types.
    """
    clock_index = list(rows.types).index(rows.clock)
    now = moment(names[clock_index], rows.types[rows.clock])
    values = [f"{now if i == clock_index else quoted(name)} AS e{i}" for i, name in enumerate(names)]
    return f"SELECT {', '.join(values)}, {now} AS {CLOCK}, row_number() OVER () AS {ROW} FROM {relation}"


def join_query(plans: Sequence[Plan], given: Sequence[str], clock: Clock | None, *, cutoff: bool) -> str:
    """A query with one row per entity row of ``ROWS``, in their order: the given columns, then one per feature.

    Args:
        given: the names of the entity rows' columns.
        clock: ``None`` if there are no entity rows or none has a timestamp: every feature is null.
        cutoff: whether a row counts only from its created timestamp on.
    """
    columns = [f"e.{name}" for name in _numbered(given).values()]
    joins = []
    stands = clock is not None and clock.stands
    for number, plan in enumerate(plans):
        f = f"f{number}"
        expired = f" AND epoch_us(e.{CLOCK}) - epoch_us({f}.{f}t) <= {plan.ttl}" if plan.ttl else ""
        for i, feature in enumerate(plan.features):
            value = f"CASE WHEN {f}.{f}t IS NOT NULL{expired} THEN {f}.{f}v{i} END"
            value = f"CAST({value} AS {feature.sql_type})" if feature.sql_type else value
            columns.append(f"{value} AS {f}v{i}")
        equal = [f"e.{_numbered(given)[key.entity]} = {f}.{f}k{i}" for i, key in enumerate(plan.keys)]
        on = " AND ".join([*equal, f"e.{CLOCK} >= {f}.{f}{'t' if stands else 'known'}"])
        history = _history(plan, f, given, clock, cutoff=cutoff)
        joins.append(f"{'LEFT JOIN' if stands else 'ASOF LEFT JOIN'} ({history}) {f}\n  ON {on}")
    return "\n".join([f"SELECT {', '.join(columns)}", f"FROM {ROWS} e", *joins, f"ORDER BY e.{ROW}"])


def _numbered(given: Sequence[str]) -> dict[str, str]:
    return {name: f"e{i}" for i, name in enumerate(given)}


def _history(plan: Plan, f: str, given: Sequence[str], clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of a view that can be served: unique per key and ``known``; per key alone if the clock stands."""
    source = plan.source
    keys = ", ".join(f"{f}k{i}" for i in range(len(plan.keys)))
    values = ", ".join(f"{f}v{i}" for i in range(len(plan.features)))
    # Rows that tie on key, t and c are told apart by their values, or threads would decide.
    order = [f"{f}t", *([f"{f}c"] if source.created else []), f"hash({values})"]
    known = f"greatest({f}t, {f}c)" if cutoff and source.created else f"{f}t"
    partition = f"PARTITION BY {keys}" if keys else ""
    inner = f"SELECT *, {known} AS {f}known FROM ({_candidates(plan, f, given, clock, cutoff=cutoff)})"
    chosen = f"SELECT {keys}{', ' if keys else ''}{f}t, {f}known, {values} FROM ({inner})"
    if clock is not None and clock.stands:
        newest = ", ".join(f"{column} DESC" for column in order)
        return f"{chosen} QUALIFY row_number() OVER ({partition} ORDER BY {newest}) = 1"
    return (
        f"{chosen} WINDOW in_turn AS ({partition} ORDER BY {f}known, {', '.join(order)}) "
        f"QUALIFY lead({f}known) OVER in_turn IS DISTINCT FROM {f}known AND max({f}t) OVER in_turn = {f}t"
    )


def _candidates(plan: Plan, f: str, given: Sequence[str], clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of the files that may matter to the entity rows: what is filtered here is never sorted."""
    source, files = plan.source, plan.source.files
    names = [key.source for key in plan.keys] + [feature.source for feature in plan.features]
    names += [source.timestamp, *([source.created] if source.created else [])]
    read = scan(files if clock is None else files_for(plan, clock, cutoff=cutoff), names)
    keys = [_key(plan, i, read) for i in range(len(plan.keys))]
    columns = [f"{key} AS {f}k{i}" for i, key in enumerate(keys)]
    columns.append(f"{moment(read.names[source.timestamp])} AS {f}t")
    if source.created:
        columns.append(f"coalesce({moment(read.names[source.created])}, TIMESTAMPTZ '-infinity') AS {f}c")
    columns += [f"{read.names[feature.source]} AS {f}v{i}" for i, feature in enumerate(plan.features)]
    wanted = [f"{read.names[key.source]} IS NOT NULL" for key in plan.keys]
    if clock is None:
        wanted.append("false")
    else:
        clocks = {source.timestamp, source.created}
        for name, (low, high) in bounds_of(plan, clock, cutoff=cutoff).items():
            column = read.names[name]
            wanted += _within(column, low, high) if name in clocks else [f"{column} BETWEEN {low} AND {high}"]
    if keys and clock is not None:
        theirs = ", ".join(_numbered(given)[key.entity] for key in plan.keys)
        wanted.append(f"({', '.join(keys)}) IN (SELECT ({theirs}) FROM {ROWS})")
    return f"SELECT {', '.join(columns)} FROM {read.relation} WHERE {' AND '.join(wanted)}"


def _key(plan: Plan, number: int, read: Scan) -> str:
    """A key's column; the name of a folder is text, and is cast where the key is an integer."""
    key = plan.keys[number]
    is_folder = any(key.source not in file.types for file in plan.source.files)
    column = read.names[key.source]
    return f"CAST({column} AS BIGINT)" if is_folder and key.family == "integer" else column


def keys_query(plans: Sequence[Plan], first: int, last: int, clock: str) -> str:
    """Entity rows where none were given: each key that a view has in [first, last], as of ``last``, in order.

    A view that lacks one of the others' keys gives rows with null for it.
    """
    names = sorted({key.entity for plan in plans for key in plan.keys})
    parts = []
    for plan in plans:
        time = plan.source.timestamp
        files = meeting(plan.source.files, {time: (first, last)}) or plan.source.files[:1]
        read = scan(files, [time, *(key.source for key in plan.keys)])
        held = {key.entity: _key(plan, i, read) for i, key in enumerate(plan.keys)}
        values = [f"{held.get(name, 'NULL')} AS {quoted(name)}" for name in names]
        wanted = [f"{read.names[key.source]} IS NOT NULL" for key in plan.keys]
        wanted += _within(read.names[time], first, last)
        parts.append(f"SELECT DISTINCT {', '.join(values) or '1'} FROM {read.relation} WHERE {' AND '.join(wanted)}")
    as_of = f"{instant(last)} AS {quoted(clock)}"
    if not names:
        return f"SELECT {as_of}"
    listed = ", ".join(map(quoted, names))
    return f"SELECT {listed}, {as_of} FROM ({' UNION '.join(parts)}) ORDER BY {listed}"


def _unfolded(source: Source, name: str, column: str) -> str:
    """A column; one that only folders' names hold is a whole number if all of them read so."""
    values = [file.partitions[name] for file in source.files if name in file.partitions]
    numbers = all(value is None or value.removeprefix("-").isdecimal() and str(int(value)) == value for value in values)
    return f"CAST({column} AS BIGINT)" if values and numbers else column


def pull_query(
    source: Source, keys: list[str], features: list[str], first: int | None, last: int | None, *, latest: bool
) -> str:
    """Rows of a source with a timestamp in [first, last], both ends included: all, or the newest one of each key.

    Its columns are the keys, the features and the clocks in this order, called ``p0``, ``p1`` and so on.
    """
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    names = [*keys, *features, *clocks]
    files = meeting(source.files, {source.timestamp: closed(first, last)}) or source.files[:1]
    read = scan(files, names)
    values = [_unfolded(source, name, read.names[name]) for name in [*keys, *features]]
    values += [moment(read.names[name]) for name in clocks]
    columns = ", ".join(f"{value} AS p{i}" for i, value in enumerate(values))
    numbered = [f"p{i}" for i in range(len(names))]
    mine, times = numbered[: len(keys)], numbered[len(names) - len(clocks) :]
    wanted = [f"{read.names[key]} IS NOT NULL" for key in keys] if latest else []
    wanted += _within(read.names[source.timestamp], first, last)
    query = f"SELECT {columns} FROM {read.relation} WHERE {' AND '.join(wanted or ['true'])}"
    if not latest:
        return f"{query} ORDER BY {', '.join([*times, *mine])}"
    newest = [f"{time} DESC NULLS LAST" for time in times]
    tie = f"hash({', '.join([*numbered[len(keys) : -len(clocks)], *mine, *times])})"
    partition = f"PARTITION BY {', '.join(mine)}" if keys else ""
    return (
        f"SELECT * FROM ({query}) QUALIFY row_number() OVER ({partition} ORDER BY {', '.join([*newest, tie])}) = 1 "
        f"ORDER BY {', '.join([*mine, *times])}"
    )
