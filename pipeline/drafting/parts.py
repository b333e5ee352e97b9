"""The columns of impressions that have a part of their own, as a draft names them.

Belongs here: time, id, user, item, surface, position, propensity, weight, request; what has to be made of which. Not
here: columns that are plain inputs (inputs.py), how each is found (roles.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import duckdb

from pipeline.drafting.file_names import Apart, has_words, local_ids, words_apart
from pipeline.drafting.kinds import dtype_of
from pipeline.drafting.log_drafted import Named, expression_of, joined, made, named
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile
from pipeline.drafting.moments import Moment
from pipeline.drafting.roles import pattern_of, position_of, propensity_of, request_of, surface_of, weight_of
from pipeline.drafting.tables import Tables
from pipeline.imports.reading import literal

FEW = 12  # values of a column that may be a surface
MOST_NULL = 0.2  # of users or items, above which rows without one are left out by Files.where
Say = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Parts:
    """Who is what.

    Args:
        names: identifier of each column of the files.
        id: what identifies an impression; ``None``: it is made.
        local: by what ids of items are told apart, where they are local to a kind of files, and why.
        besides: columns that are no plain inputs.
    """

    names: Mapping[str, str]
    time: Moment
    id: Profile | None
    user: Named
    item: Named
    surface: Named
    local: tuple[Apart, str] | None
    request: Profile | None
    position: Profile | None
    propensity: Profile | None
    weight: Profile | None
    besides: frozenset[str]


def parts_of(connection: duckdb.DuckDBPyConnection, tables: Tables, names: Mapping[str, str], say: Say) -> Parts:
    """Tell who is what.

    Args:
        say: is told each guess, and why.
    """
    looked, time = tables.impressions, tables.impressions.moment
    assert time is not None
    rows, count = looked.sample.estimated, len(looked.shape.sources)
    say("impressions", looked.title, f"about {rows:,} rows in {count} file{'s' if count > 1 else ''}")
    say("time", " and ".join(time.used), time.why)
    id_ = tables.id if tables.id is not None and tables.id.origin.of is not None else None
    if id_ is not None and not id_.is_unique:
        twice = id_.rows - id_.distinct
        why = f"another value in nearly each row looked at: {twice:,} of {id_.rows:,} have none or repeat one"
        say("impression id", id_.name, why)
    elif id_ is not None:
        say("impression id", id_.name, "another value in each row looked at")
    else:
        say("impression id", "made", "no column has another value in each row: its file and its place stand for it")
    keys = {*tables.user.names, *tables.item.names, *time.used, *([id_.name] if id_ else [])}
    labels = {label.profile.name for label in tables.labels}
    if looked.given.surface is not None:
        keys.add(looked.given.surface)
    request = request_of(looked, keys | labels)
    position, propensity, weight = (
        None if each is not None and each.name in keys else each
        for each in (position_of(looked), propensity_of(looked), weight_of(looked))
    )
    others = {each.name for each in (request, position, propensity, weight) if each is not None}
    column = surface_of(looked, keys | labels | others)
    surface, apart = _surface(tables, column, names, say, keys | labels | others)
    local = _local_ids(connection, tables, apart)
    besides = keys | labels | others | ({column.name} if column is not None else set())
    if len(tables.user.names) > 1:
        besides -= {*tables.user.names}  # each is also an input of its own
    user, item = _user(tables, names), _item(tables, names, local)
    parts = Parts(
        names, time, id_, user, item, surface, local, request, position, propensity, weight, frozenset(besides)
    )
    say("user", " and ".join(tables.user.names), tables.user.why)
    say("item", parts.item.name, "; ".join([tables.item.why, *([local[1]] if local else [])]))
    say("surface", surface.name, surface.note)
    return parts


def free(name: str, other: str, names: Mapping[str, str]) -> str:
    """A name for a column that is made, or another one where the files have one of that name."""
    return other if name in names.values() else name


def _surface(
    tables: Tables, column: Profile | None, names: Mapping[str, str], say: Say, besides: set[str]
) -> tuple[Named, Apart | None]:
    """Where it was shown: a column, what tells files apart, or one surface for all; and what tells files apart.

    Args:
        besides: columns that have a part of their own.
    """
    looked = tables.impressions
    sides = [source.name for side in tables.sides for source in side.looked.shape.sources]
    names_of_files = [source.name for source in looked.shape.sources if not source.version_of]
    places = words_apart(names_of_files, sides)
    if column is not None:
        surface = _surface_column(looked, column, names)
    elif places:
        why = f"no column says where an item was shown; names of files differ in {', '.join(places[0].values)}"
        surface = made(free("surface", "surface_of_file", names), places[0].sql, why)
    else:
        few = [
            each.name for each in looked.profiles.values()
            if each.name not in besides and 1 < each.distinct <= FEW and not (each.is_number or each.is_list)
        ]  # fmt: skip
        why = "no column is called as one that says where an item was shown, so all is one surface"
        why += (
            f"; --surface COLUMN sets one: of few values {'are' if len(few) > 1 else 'is'} {', '.join(few[:5])}"
            if few
            else ""
        )
        surface = made(free("surface", "surface_of_all", names), "'all'", why)
    for other in places[0 if column is not None else 1 :]:
        say("not used", "/".join(other.values), "files' names differ in it, which nobody knows at serving")
    return surface, places[0] if places else None


def _surface_column(looked: Looked, each: Profile, names: Mapping[str, str]) -> Named:
    called = "set by --surface" if each.name == looked.given.surface else f"{each.name!r} is called so"
    why = f"{called} and has {each.distinct} values"
    if each.known == each.rows:
        return named(names[each.name], each, dtype_of(each), why)
    value = expression_of(each)
    text = f"({value})::VARCHAR"
    if each.kind == "VARCHAR":
        text = f"CASE WHEN {value} NOT IN ({', '.join(map(literal, looked.nulls))}) THEN {value} END"
    return made(names[each.name], f"coalesce({text}, 'unknown')", f"{why}; rows without one are 'unknown'")


def _local_ids(connection: duckdb.DuckDBPyConnection, tables: Tables, apart: Apart | None) -> tuple[Apart, str] | None:
    """Are ids of items other items in files of another word? Then what says so."""
    for side in tables.sides:
        if apart is None or side.of not in tables.item.names or not has_words(side.looked, apart):
            continue
        other, shared = local_ids(connection, side.looked, side.key, apart)
        if shared and other > shared / 2:
            return apart, (
                f"{other:,} of {shared:,} ids that files of {' and '.join(apart.values)} share say something else in "
                "each, so ids are of one kind of file only: its word is put before them, here and in the side table"
            )
    return None


def _item(tables: Tables, names: Mapping[str, str], local: tuple[Apart, str] | None) -> Named:
    each = tables.impressions.profiles[tables.item.names[0]]
    if local is None:
        return named(names[each.name], each, dtype_of(each), tables.item.why)
    return made(names[each.name], f"{local[0].sql} || '-' || {expression_of(each)}", local[1])


def _user(tables: Tables, names: Mapping[str, str]) -> Named:
    looked, user = tables.impressions, tables.user
    profiles = [looked.profiles[name] for name in user.names]
    if len(profiles) == 1:
        return named(names[user.names[0]], profiles[0], dtype_of(profiles[0]), user.why)
    pattern = pattern_of(user.names, list(looked.profiles))
    return joined(free("user", "joined_user", names), profiles, pattern, user.why)


def without_nulls(tables: Tables, say: Say) -> str | None:
    """An expression that leaves out rows without a user or an item, where they are many."""
    said = []
    for name in (*tables.user.names, *tables.item.names):
        each = tables.impressions.profiles[name]
        share = 1 - each.known / each.rows
        if share > MOST_NULL:
            column = expression_of(each)
            nulls = ", ".join(map(literal, tables.impressions.nulls))
            said.append(f"{column} NOT IN ({nulls})" if each.kind == "VARCHAR" else f"{column} IS NOT NULL")
        if share > 0:
            fate = "left out" if share > MOST_NULL else "kept aside as quarantined"
            say("nulls", each.name, f"{share:.1%} of rows have none: they are {fate}")
    return " AND ".join(said) or None
