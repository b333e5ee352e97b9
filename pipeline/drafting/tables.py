"""Which files are which table: impressions, outcomes, interactions, side tables.

Belongs here: the guess for each shape, and refusals where there is no log. Not here: roles of columns (roles.py).
"""

from dataclasses import dataclass, field, replace

import duckdb

from pipeline.drafting.given import option
from pipeline.drafting.ids_by_value import Match, match_of
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import NEARLY_ALL, Profile
from pipeline.drafting.naming import snake
from pipeline.drafting.no_log import MOST_EVENTS, SHOWN, columns_in, no_label, no_time, not_together, titles_in
from pipeline.drafting.roles import Chosen, Label, impression_of, item_of, labels_of, user_of
from pipeline.drafting.roles_by_value import ids_by_value, labels_by_value, who_and_what
from pipeline.drafting.same_columns import nearly_same, same, with_ids_of
from pipeline.drafting.which_impressions import impressions_of
from pipeline.drafting.words import EVENTS, ITEMS, SURFACES, USERS
from pipeline.tables import DataError

OVERLAP = 0.1
EVENTS_OF_A_KEY = 5  # rows of one key, above which they are no profile of it


@dataclass(frozen=True)
class OutcomeFiles:
    """Files of outcomes.

    Args:
        id: the column that says which impression it was.
        task: the column that says which task; ``None``: all are of the one that ``tasks`` names.
        left_out: values of it that are no outcomes.
    """

    looked: Looked
    id: Profile
    task: Profile | None
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class SideFiles:
    """A side table, keyed by a column of the log."""

    looked: Looked
    key: Profile
    of: str
    why: str


@dataclass
class Tables:
    """What each shape is.

    Args:
        unused: title -> why a shape is no part of the log.
        matched: title -> by which values, where no name tells it, files name impressions.
    """

    impressions: Looked
    user: Chosen
    item: Chosen
    id: Profile | None
    labels: list[Label]
    outcomes: list[OutcomeFiles] = field(default_factory=list)
    interactions: list[tuple[Looked, Profile, Profile]] = field(default_factory=list)
    sides: list[SideFiles] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    useless: list[str] = field(default_factory=list)
    matched: dict[str, Match] = field(default_factory=dict)


def tables_of(connection: duckdb.DuckDBPyConnection, every: list[Looked]) -> Tables:
    """Tell which files are which.

    Raises:
        DataError: if none can be impressions with labels.
    """
    given = {*every[0].given.named.values()} if every else set()
    may_be_shown = [each for each in every if each.is_given] or every
    timed = [each for each in may_be_shown if each.moment is not None and given <= {*each.profiles}]
    if given and not timed:
        raise DataError(not_together(may_be_shown, given))
    if not timed:
        raise DataError(no_time(may_be_shown))
    roles = {each.title: (user_of(each), item_of(each)) for each in timed}
    if not any(user is not None and item is not None for user, item in roles.values()):
        roles = {each.title: who_and_what(each, every) for each in timed}
    with_item = [each for each in timed if roles[each.title][1] is not None]
    if not with_item:
        raise DataError(
            f"no item: {titles_in(timed)} name nothing that was shown (a column such as "
            f"item_id, ad_id or video_id): {timed[0].title} has {columns_in(timed[0])}; name its column so, or "
            "declare the log by hand, Stream.item; "
            f"{option('item', [each.name for each in ids_by_value(timed[0])])}"
        )
    with_user = [each for each in with_item if roles[each.title][0] is not None]
    if not with_user:
        raise DataError(
            f"no user: {with_item[0].title} names nobody who saw it (a column such as user_id, visitor or "
            f"device_id): it has {columns_in(with_item[0])}; name its column so, or declare the log by hand, "
            f"Stream.user; {option('user', [each.name for each in ids_by_value(with_item[0])])}"
        )
    shown = impressions_of(connection, with_user, [each for each in every if each.moments])
    user, item = roles[shown.title]
    assert user is not None and item is not None
    _check_surface(shown, user, item)
    labels, useless = labels_of(shown)
    keys = {*user.names, *item.names, *(shown.moment.used if shown.moment else ())}
    by_value = labels_by_value(shown, keys if shown.given.surface is None else {*keys, shown.given.surface})
    if not labels and len(texts := [label for label in by_value if label.profile.origin.sql is not None]) == 1:
        labels = texts
    tables = Tables(shown, user, item, impression_of(shown), labels, useless=useless)
    others = [each for each in every if each is not shown]
    if tables.id is None or not any(same(each, tables.id) for each in others):
        timed_others = [each for each in others if each.moments]
        found = [(each.title, match_of(connection, shown, each, tables.id)) for each in timed_others]
        tables.matched = {title: match for title, match in found if match is not None}
        if tables.id is None and tables.matched:
            tables.id = next(iter(tables.matched.values())).id
    for each in every:
        if each is not shown:
            _place(connection, tables, each)
    if not tables.labels and not tables.outcomes and len(by_value) == 1:
        tables.labels = by_value
    if not tables.labels and not tables.outcomes:
        why = no_label(shown, tables.useless)
        raise DataError(f"{why}; {option('label', [label.profile.name for label in by_value])}")
    return tables


def _check_surface(shown: Looked, user: Chosen, item: Chosen) -> None:
    """Refuse a column as the surface that is the user or the item by its name."""
    for role, names in (("user", user.names), ("item", item.names)):
        if shown.given.surface in names:
            taken = f"--surface: {shown.given.surface!r} of {shown.title} is taken for the {role}"
            raise DataError(f"{taken}: name that by --{role} COLUMN")


def _place(connection: duckdb.DuckDBPyConnection, tables: Tables, each: Looked) -> None:
    refers = same(each, tables.id) if tables.id is not None else None
    match = tables.matched.get(each.title)
    if match is not None and tables.id is not None and match.id.name == tables.id.name:
        outcomes = _outcomes(each, match.refers)
        tables.outcomes.append(replace(outcomes, why=f"{outcomes.why}; {match.why}"))
        return
    user = _found(connection, tables, each, tables.user.names[0]) if len(tables.user.names) == 1 else None
    item = _found(connection, tables, each, tables.item.names[0])
    if refers is not None and each.moments:
        tables.outcomes.append(_outcomes(each, refers))
    elif refers is not None:
        tables.unused[each.title] = (
            f"it names impressions ({refers.name!r}) but no time: say when an outcome came in a column of its own, or "
            "join it to the impressions as a label"
        )
    elif each.moment is not None and user is not None and item is not None and _is_like(tables, each):
        tables.unused[each.title] = (
            "it has labels as the log has, but its columns or its kind of file are others: draft it alone, and add its "
            "Files to Log.impressions by hand"
        )
    elif each.moment is not None and user is not None and item is not None:
        tables.interactions.append((each, user, item))
    else:
        _place_beside(connection, tables, each)


def _found(connection: duckdb.DuckDBPyConnection, tables: Tables, each: Looked, name: str) -> Profile | None:
    """The column of other files that has the ids of one of the impressions, by name or else by value."""
    found = with_ids_of(connection, tables.impressions, tables.impressions.profiles[name], each)
    return None if found is None else found[0]


def _is_like(tables: Tables, each: Looked) -> bool:
    """Does it have the labels of the impressions?"""
    labels = {label.profile.joined for label in tables.labels}
    return bool(labels & {label.profile.joined for label in labels_of(each)[0]})


def _outcomes(each: Looked, refers: Profile) -> OutcomeFiles:
    named = each.named(EVENTS, lambda column: column.distinct <= MOST_EVENTS and not column.is_number)
    why = f"each row names an impression ({refers.name!r}) and when it happened"
    if named is None:
        task = _task_of(each.title)
        return OutcomeFiles(each, refers, None, (task,), (), f"{why}; the task is called as the files are")
    left_out = tuple(value for value in named.examples if value.lower() in SHOWN)
    values = tuple(snake(value) for value in named.examples if value not in left_out)
    return OutcomeFiles(each, refers, named, values, left_out, f"{why}; {named.name!r} says which task")


def _task_of(title: str) -> str:
    """``clicks/**/*.csv.gz`` -> ``click``."""
    words = [part for part in snake(title.partition(",")[0].partition(".")[0]).split("_") if not part.isdigit()]
    word = "_".join(words) or "outcome"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _place_beside(connection: duckdb.DuckDBPyConnection, tables: Tables, each: Looked) -> None:
    """A side table, if one of its columns is a key of the log."""
    shown, user, item = tables.impressions, tables.user, tables.item
    keys = [*item.names, *(user.names if len(user.names) == 1 else ())]
    others = [
        name for name, column in shown.profiles.items()
        if column.joined.endswith("id") and name not in keys and column.joined not in SURFACES
    ]  # fmt: skip
    for name in [*keys, *others]:
        column = shown.profiles[name]
        found = nearly_same(each, column)
        if found is None and name in keys:
            bare = each.profiles.get("id") or each.profiles.get("ID")
            about = ITEMS if name in item.names else USERS
            named = snake(each.title).removesuffix("_csv").rstrip("s")
            found = bare if bare is not None and (named in about or f"{named}id" in about) else None
        told = ""
        if found is None and name in keys and (by_value := with_ids_of(connection, shown, column, each)) is not None:
            found, told = by_value if by_value[0].distinct >= NEARLY_ALL * by_value[0].known else (None, "")
        if found is not None and not found.is_list:
            if why := _is_no_side(shown, each, found):
                tables.unused[each.title] = why
                return
            if not _overlaps(connection, shown, column, each, found):
                continue
            why = f"a row for each {found.name!r}, which the log has as {name!r}"
            why += f": {told}" if told else ""
            tables.sides.append(SideFiles(each, found, name, why))
            return
    tables.unused[each.title] = f"none of its columns is a key of the log: it has {columns_in(each)}"


def _is_no_side(shown: Looked, each: Looked, key: Profile) -> str | None:
    """Why files with a key of the log are no side table."""
    often = key.known / max(key.distinct, 1)
    if each.sample.estimated > shown.sample.estimated and each.moment is None:
        return f"it has {key.name!r}, but no time and more rows than the log"
    if often > EVENTS_OF_A_KEY and len(each.shape.sources) == 1:
        return (
            f"it has {often:.0f} rows for each {key.name!r}: events, not what is known of it; count them in a table of "
            "your own, and declare that as a SourceView"
        )
    return None


def _overlaps(
    connection: duckdb.DuckDBPyConnection, shown: Looked, column: Profile, side: Looked, key: Profile
) -> bool:
    """Do ids of the log stand in a side table? Only where all of it was looked at."""
    if side.sample.estimated > side.sample.rows:
        return True
    met, all_ = connection.sql(
        f"SELECT count(*) FILTER (id IN (SELECT ({key.value})::VARCHAR FROM {side.sample.table})), count(*) FROM "
        f"(SELECT DISTINCT ({column.value})::VARCHAR AS id FROM {shown.sample.table} WHERE {column.value} IS NOT NULL)"
    ).fetchall()[0]
    return int(met) >= OVERLAP * int(all_)
