"""Which column is which: user, item, surface, labels and all that has a part of its own in a log.

Belongs here: one shape's roles, each with the reason. Not here: what else models can read (kinds.py), which shape is
which table (tables.py).
"""

from dataclasses import dataclass, replace

from pipeline.drafting.given import option
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import NEARLY_ALL, Profile, series_of
from pipeline.drafting.sampling import Origin
from pipeline.drafting.words import (
    AFTERWARDS,
    IMPRESSIONS,
    ITEMS,
    LABELS,
    OF_CONTEXT,
    PAST,
    PLAYED,
    POSITIONS,
    PROPENSITIES,
    REQUESTS,
    ROW_NUMBERS,
    SURFACES,
    USERS,
    VALUES,
    VIEWED,
    WEIGHTS,
)
from pipeline.imports.reading import literal, quoted
from pipeline.tables import DataError

MOST_SURFACES = 40
OF_ROWS = ("impressionid", "impid", "imprid", "adimpressionid", "eventid", "rowid", "recordid", "logid")


@dataclass(frozen=True)
class Chosen:
    """Columns that have a role, and why."""

    names: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Label:
    """A column of the impressions that is an outcome.

    Args:
        ceiling, above: of values that are not 0 and 1.
        given: whether a person named it. ``sure``: whether its name says that it is an outcome.
    """

    profile: Profile
    why: str
    ceiling: float | None = None
    above: float | None = None
    given: bool = False
    sure: bool = True


def user_of(looked: Looked) -> Chosen | None:
    """Who saw it: a column by its name, or several that describe a user, joined."""
    if looked.given.user is not None:
        return _given(looked, looked.given.user, "user")
    found = looked.named(USERS, lambda each: each.distinct > 1 or each.rows < 10)
    if found is not None:
        last = " (no column names a person: a visit stands for one)" if found.joined.startswith("session") else ""
        return Chosen((found.name,), f"{found.name!r} is called so{last}: {found.distinct:,} in the rows looked at")
    described = [
        each.name
        for each in looked.profiles.values()
        if each.words[0] in ("user", "visitor", "member", "customer", "reader")
        and len(each.words) > 1
        and "item" not in each.words
        and each.known == each.rows
        and not (each.is_number and each.dotted)
        and not each.is_list
    ]
    if len(described) < 2:
        return None
    return Chosen(
        tuple(described),
        f"no column names a user, so the {len(described)} that describe one are joined: users alike count as one",
    )


def _given(looked: Looked, name: str, role: str) -> Chosen | None:
    """The column that a person named, in the files that have it."""
    return Chosen((name,), f"set by --{role}") if name in looked.profiles else None


def pattern_of(names: tuple[str, ...], every: list[str]) -> tuple[str, ...]:
    """Names that count up as a pattern, if it means just them."""
    for start, listed in series_of(every).items():
        if tuple(listed) == names and "*" not in start:
            return (f"{start}*",)
    return names


def item_of(looked: Looked) -> Chosen | None:
    """What was shown."""
    if looked.given.item is not None:
        return _given(looked, looked.given.item, "item")
    found = looked.named(ITEMS, lambda each: each.distinct > 1 or each.rows < 10)
    return None if found is None else Chosen((found.name,), f"{found.name!r} is called so: {found.distinct:,} seen")


def impression_of(looked: Looked) -> Profile | None:
    """What identifies a row: a column with such a name and another value in nearly each row.

    What may also be called a request's must have one in each.
    """

    def fits(each: Profile) -> bool:
        nearly = each.distinct >= NEARLY_ALL * each.rows and each.joined in OF_ROWS
        return (each.is_unique or nearly) and each.joined not in ROW_NUMBERS

    return looked.named(IMPRESSIONS, fits)


def request_of(looked: Looked, besides: set[str]) -> Profile | None:
    """What was shown together: a column with such a name, of which several rows have one value."""
    return looked.named(REQUESTS, lambda each: each.name not in besides and 1 < each.distinct < each.known)


def surface_of(looked: Looked, besides: set[str]) -> Profile | None:
    """Where it was shown: a column with such a name, and few values.

    Raises:
        DataError: if the one that a person named has many.
    """
    given = looked.profiles.get(looked.given.surface or "")
    if given is not None and not 0 < given.distinct <= MOST_SURFACES:
        raise DataError(
            f"--surface: {given.name!r} of {looked.title} has {given.distinct:,} values: a surface has students of its "
            f"own, so name a column of 1 to {MOST_SURFACES}, or map its values in the draft by From(sql=...)"
        )
    return given or looked.named(
        SURFACES,
        lambda each: (
            each.name not in besides
            and 1 < each.distinct <= MOST_SURFACES
            and each.longest <= 40
            and not (each.is_number and each.dotted)
        ),
    )


def position_of(looked: Looked) -> Profile | None:
    return looked.named(POSITIONS, lambda each: each.is_int and each.low >= -1)


def propensity_of(looked: Looked) -> Profile | None:
    """How likely it was to be shown."""
    named = looked.named(PROPENSITIES)
    also = (each for each in looked.profiles.values() if "propensity" in each.words and each.is_number)
    return named if named is not None else next(also, None)


def weight_of(looked: Looked) -> Profile | None:
    """How many impressions a row stands for."""
    return looked.named(WEIGHTS, lambda each: each.is_number and each.known == each.rows and each.low > 0)


def is_row_number(each: Profile) -> bool:
    """A number that counts lines, which no one reads."""
    named = each.joined in ROW_NUMBERS or each.name == f"column_{each.place}"
    return named and each.is_int and each.low >= 0 and each.distinct > 0.2 * each.known


def is_afterwards(each: Profile) -> bool:
    """Does a name say something that is known only after the impression?"""
    if {*each.words} & PAST:
        return False
    return bool({*each.words} & AFTERWARDS) or each.joined in LABELS or each.joined.startswith(PLAYED)


def labels_of(looked: Looked) -> tuple[list[Label], list[str]]:
    """Outcomes among the columns, the main one first; and what is said of those that can't be learnt from."""
    found: list[Label] = []
    useless: list[str] = []
    given = looked.given
    for each in looked.profiles.values():
        if each.name in (given.time, given.user, given.item, given.surface):
            continue
        label = _label_given(looked, each) if each.name == given.label else _label(each)
        if label is None:
            continue
        if each.distinct < 2 and each.rows > 1:
            useless.append(f"{each.name!r} is {each.examples[0]} in all {each.rows:,} rows looked at")
        else:
            found.append(label)
    return sorted(found, key=_importance), useless


def _label_given(looked: Looked, each: Profile) -> Label:
    """A column that a person named, as a label.

    Raises:
        DataError: if it can't be one.
    """
    if each.is_binary or each.yes_no:
        return replace(label_of_flag(each, "set by --label"), given=True)
    label = _label(each)
    if label is not None:
        return replace(label, why=f"set by --label; {label.why}", given=True, sure=True)
    if not each.is_number or each.is_list or each.low < 0:
        flags = [other.name for other in looked.profiles.values() if other.is_binary or other.yes_no]
        raise DataError(
            f"--label: {each.name!r} of {looked.title} is no label, such as {', '.join(map(repr, each.examples[:3]))}: "
            "0 and 1, yes and no, or a number of 0 or more is one: make it one by From(sql=...), or "
            f"{option('label', flags)}"
        )
    ceiling = _round_up(each.most)
    return Label(each, f"set by --label: a value, 99 % are at most {each.most:g}", ceiling=ceiling, given=True)


def label_of_flag(each: Profile, why: str) -> Label:
    """A label of two values."""
    if each.yes_no is None or each.is_binary:
        return Label(each, why)
    yes, no = each.yes_no
    column = each.origin.sql or quoted(str(each.origin.of))
    sql = f"CASE lower(trim({column})) WHEN {literal(yes)} THEN '1' WHEN {literal(no)} THEN '0' ELSE {column} END"
    profile = replace(each, origin=Origin(sql=sql))
    return Label(profile, f"{why}; {yes!r} counts as 1, {no!r} as 0")


def _importance(label: Label) -> tuple[bool, bool, int]:
    """Clicks first, then other labels of 0 and 1 in the order of the files, then values."""
    joined = label.profile.joined
    return (
        not label.given,
        label.ceiling is not None or label.above is not None,
        LABELS.index(joined) if joined in LABELS else 99,
    )


def _label(each: Profile) -> Label | None:
    if each.is_empty or each.is_list or {*each.words} & PAST:
        return None
    if each.is_binary or each.yes_no:
        values = "0 or 1" if each.yes_no is None else f"{each.yes_no[0]} or {each.yes_no[1]}"
        if each.joined in LABELS or {*each.words} & AFTERWARDS:
            return label_of_flag(each, f"{each.name!r} is {values} and called an outcome")
        if each.words[-1] in ("view", "play", "read") and {*each.words} & VIEWED:
            return label_of_flag(each, f"{each.name!r} is {values} and called an outcome")
        if each.words[0] == "is" and len(each.words) > 1 and not {*each.words} & OF_CONTEXT:
            why = f"{each.name!r} is {values}, and what it says may be an outcome: drop it if it is not"
            return replace(label_of_flag(each, why), sure=False)
        return None
    if not each.is_number or each.low < 0:
        return None
    if each.words[-1] in ("rating", "stars"):
        middle = round((each.low + each.high) / 2 + 0.5, 1)
        return Label(each, f"{each.name!r} is a rating of {each.low:g} to {each.high:g}: high ones count", above=middle)
    if {*each.words} & VALUES or each.joined.startswith(PLAYED):
        ceiling = _round_up(each.most)
        why = f"{each.name!r} is a value known afterwards: 99 % are at most {each.most:g}, the ceiling is {ceiling:g}"
        return Label(each, why, ceiling=ceiling)
    return None


def _round_up(value: float) -> float:
    """1, 2 or 5 times a power of ten, or what is just above."""
    if value <= 0:
        return 1.0
    power = 10.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return float(next(step * power for step in (1, 2, 3, 5, 10) if step * power >= value))
