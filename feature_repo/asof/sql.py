"""The SQL of one view's join.

Belongs here: text. Not here: running it (job.py), whether it may be asked (plan.py).

A row of a view is known at clock time T if its timestamp t, and with the cut-off also its created timestamp c, is not
after T; of the known rows of a key the one with the greatest (t, c) is served, unless older than the ttl. With
``known = max(t, c)`` that is an as-of join on ``known``, over only those rows that are the newest known one in the
moment that they become known: a row below the running maximum of t is superseded before anyone could see it.
"""

from dataclasses import dataclass

from feature_repo.asof.files import SourceFile
from feature_repo.asof.plan import Plan, Source

ROWS, ROW, CLOCK = "asof_rows", "__asof_row", "__asof_clock"
NEVER, FOREVER = -(2**62), 2**62  # before and after every timestamp, in microseconds


@dataclass(frozen=True)
class Clock:
    """What the entity rows span: first and last moment in microseconds, and the range of each integer key."""

    first: int
    last: int
    keys: dict[str, tuple[int, int]]

    @property
    def stands(self) -> bool:
        """Do all rows ask as of the same moment (the supervision clock)?"""
        return self.first == self.last


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"


def moment(column: str) -> str:
    """A timestamp of any unit as microseconds UTC; a naive one is UTC (the session's zone)."""
    return f"CAST({quoted(column)} AS TIMESTAMPTZ)"


def instant(microseconds: int) -> str:
    """A moment; a constant, so that the comparison reaches the parquet scan."""
    return f"make_timestamptz({microseconds})"


def scan(files: tuple[SourceFile, ...], columns: set[str]) -> str:
    """The rows of files; they are matched by name only where the types of the asked columns differ."""
    differ = any(file.types.get(name) != files[0].types.get(name) for file in files for name in columns)
    listed = ", ".join(text(file.path) for file in files)
    by_name = ", union_by_name = true" if differ else ""
    return f"read_parquet([{listed}], hive_partitioning = false{by_name})"


def join_query(plan: Plan, clock: Clock | None, *, cutoff: bool) -> str:
    """A query with one row per entity row, in their order, and one column per feature.

    Args:
        clock: ``None`` if there are no entity rows or none has a timestamp: every feature is null.
        cutoff: whether a row counts only from its created timestamp on.
    """
    expired = f" AND epoch_us(e.{CLOCK}) - epoch_us(f.t) <= {plan.ttl}" if plan.ttl else ""
    values = ", ".join(
        f"{_cast(f'CASE WHEN f.t IS NOT NULL{expired} THEN f.v{i} END', feature.dtype)} AS {quoted(feature.name)}"
        for i, feature in enumerate(plan.features)
    )
    stands = clock is not None and clock.stands
    equal = [f"e.{quoted(key.entity)} = f.k{i}" for i, key in enumerate(plan.keys)]
    on = " AND ".join([*equal, f"e.{CLOCK} >= f.{'t' if stands else 'known'}"])
    history = _history(plan, clock, cutoff=cutoff)
    join = "LEFT JOIN" if stands else "ASOF LEFT JOIN"
    return f"SELECT {values}\nFROM {ROWS} e {join} ({history}) f\n  ON {on}\nORDER BY e.{ROW}"


def _cast(value: str, dtype: str | None) -> str:
    return f"CAST({value} AS {dtype})" if dtype else value


def _history(plan: Plan, clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of a view that can be served: unique per key and ``known``; per key alone if the clock stands."""
    source = plan.source
    keys = ", ".join(f"k{i}" for i in range(len(plan.keys)))
    values = ", ".join(f"v{i}" for i in range(len(plan.features)))
    # Rows that tie on key, t and c are told apart by their values, or threads would decide.
    order = ["t", *(["c"] if source.created else []), f"hash({values})"]
    known = "greatest(t, c)" if cutoff and source.created else "t"
    partition = f"PARTITION BY {keys}" if keys else ""
    inner = f"SELECT *, {known} AS known FROM ({_candidates(plan, clock, cutoff=cutoff)})"
    chosen = f"SELECT {keys}{', ' if keys else ''}t, known, {values} FROM ({inner})"
    if clock is not None and clock.stands:
        newest = ", ".join(f"{column} DESC" for column in order)
        return f"{chosen} QUALIFY row_number() OVER ({partition} ORDER BY {newest}) = 1"
    return (
        f"{chosen} WINDOW in_turn AS ({partition} ORDER BY known, {', '.join(order)}) "
        "QUALIFY lead(known) OVER in_turn IS DISTINCT FROM known AND max(t) OVER in_turn = t"
    )


def _candidates(plan: Plan, clock: Clock | None, *, cutoff: bool) -> str:
    """The rows of the files that may matter to the entity rows: what is filtered here is never sorted."""
    source, files = plan.source, plan.source.files
    columns = [f"{quoted(key.source)} AS k{i}" for i, key in enumerate(plan.keys)]
    columns.append(f"{moment(source.timestamp)} AS t")
    if source.created:
        columns.append(f"coalesce({moment(source.created)}, TIMESTAMPTZ '-infinity') AS c")
    columns += [f"{quoted(feature.source)} AS v{i}" for i, feature in enumerate(plan.features)]
    wanted = [f"{quoted(key.source)} IS NOT NULL" for key in plan.keys]
    if clock is None:
        wanted.append("false")
    else:
        wanted += _bounds(plan, clock, cutoff=cutoff)
        files = tuple(file for file in files if file.meets(_oldest(plan, clock), clock.last)) or files[:1]
    names = {key.source for key in plan.keys} | {feature.source for feature in plan.features} | {source.timestamp}
    return f"SELECT {', '.join(columns)} FROM {scan(files, names)} WHERE {' AND '.join(wanted)}"


def _bounds(plan: Plan, clock: Clock, *, cutoff: bool) -> list[str]:
    source = plan.source
    wanted = [f"{moment(source.timestamp)} <= {instant(clock.last)}"]
    if plan.ttl:
        wanted.append(f"{moment(source.timestamp)} >= {instant(_oldest(plan, clock))}")
    if cutoff and source.created:
        wanted.append(f"{moment(source.created)} <= {instant(clock.last)}")
    for key in plan.keys:
        if key.entity in clock.keys:
            low, high = clock.keys[key.entity]
            wanted.append(f"{quoted(key.source)} BETWEEN {low} AND {high}")
    if plan.keys:
        mine = ", ".join(quoted(key.source) for key in plan.keys)
        theirs = ", ".join(quoted(key.entity) for key in plan.keys)
        wanted.append(f"({mine}) IN (SELECT ({theirs}) FROM {ROWS})")
    return wanted


def _oldest(plan: Plan, clock: Clock) -> int:
    return clock.first - plan.ttl if plan.ttl else NEVER


def pull_query(
    source: Source, keys: list[str], features: list[str], first: int | None, last: int | None, *, latest: bool
) -> str:
    """Rows of a source with a timestamp in [first, last], both ends included: all, or the newest one of each key."""
    clocks = [source.timestamp, *([source.created] if source.created else [])]
    columns = [*map(quoted, [*keys, *features]), *(f"{moment(name)} AS {quoted(name)}" for name in clocks)]
    wanted = [f"{quoted(key)} IS NOT NULL" for key in keys] if latest else []
    wanted += [f"{moment(source.timestamp)} >= {instant(first)}"] if first is not None else []
    wanted += [f"{moment(source.timestamp)} <= {instant(last)}"] if last is not None else []
    low, high = (NEVER if first is None else first), (FOREVER if last is None else last)
    files = tuple(file for file in source.files if file.meets(low, high)) or source.files[:1]
    names = {*keys, *features, *clocks}
    query = f"SELECT {', '.join(columns)} FROM {scan(files, names)} WHERE {' AND '.join(wanted or ['true'])}"
    if not latest:
        return f"{query} ORDER BY {', '.join(map(quoted, [*clocks, *keys]))}"
    newest = [f"{quoted(name)} DESC NULLS LAST" for name in clocks]
    tie = f"hash({', '.join(map(quoted, [*features, *keys]))})"
    partition = f"PARTITION BY {', '.join(map(quoted, keys))}" if keys else ""
    return (
        f"SELECT * FROM ({query}) QUALIFY row_number() OVER ({partition} ORDER BY {', '.join([*newest, tie])}) = 1 "
        f"ORDER BY {', '.join(map(quoted, [*keys, *clocks]))}"
    )
