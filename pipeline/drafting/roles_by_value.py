"""Users, items and labels that no name tells: guesses by what the values are like.

Belongs here: candidates of a role, the likeliest first, and the choice among them. Not here: roles by name (roles.py).
"""

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile
from pipeline.drafting.naming import snake
from pipeline.drafting.roles import Chosen, Label, is_afterwards, is_row_number, item_of, label_of_flag, user_of
from pipeline.drafting.words import ID_WORDS, OF_CONTEXT, PAST, POSITIONS, PROPENSITIES, REQUESTS, SURFACES, WEIGHTS

REPEATS = 0.95  # of different values among all, above which a column repeats none
NAMED_IDS = ("id", "nr", "no", "num", "nummer", "key", "code", "hash", "uuid", "uid", "kennung", "schluessel")
FEWEST, FEWEST_OF_PLAIN = 4, 20  # different values of an id; and of one that neither name nor form tells


def ids_by_value(looked: Looked) -> list[Profile]:
    """Columns that may be ids of users or items: those that look like ids, then those with more different values."""
    timed = {name for moment in looked.moments for name in moment.used}
    other = {*SURFACES, *POSITIONS, *PROPENSITIES, *WEIGHTS, *REQUESTS}

    def fits(each: Profile) -> bool:
        return (
            not (each.is_empty or each.is_list or each.is_binary or each.is_decimal)
            and not (each.is_number and each.dotted)
            and not each.is_fraction
            and each.name not in timed
            and each.joined not in other
            and not {*each.words} & PAST
            and not is_afterwards(each)
            and not is_row_number(each)
            and each.object == each.listed == 0
            and each.spaces < 1
            and each.longest <= 120
            and each.distinct <= REPEATS * each.known
            and each.distinct >= (FEWEST if _looks_like_id(each) else FEWEST_OF_PLAIN)
        )

    found = [each for each in looked.profiles.values() if fits(each)]
    return sorted(found, key=lambda each: (not _looks_like_id(each), -each.distinct))


def _looks_like_id(each: Profile) -> bool:
    """By its last word, or as nearly all of its values are texts with digits, or numbers far apart."""
    if each.words[-1] in NAMED_IDS or any(each.joined.endswith(end) for end in ("id", "nr", "uuid")):
        return True
    if each.is_int:
        return each.low >= 0 and each.high > 100_000 and each.high > 20 * each.distinct
    coded = [any(letter.isdigit() for letter in example) for example in each.examples]
    return not each.is_number and sum(coded) > 0.8 * len(coded)


def who_and_what(looked: Looked, every: list[Looked]) -> tuple[Chosen | None, Chosen | None]:
    """User and item: by name, and by value where no name tells.

    Args:
        every: files among which side tables are.
    """
    user, item = user_of(looked), item_of(looked)
    given = looked.given
    rest = [each for each in ids_by_value(looked) if each.name not in {*(user.names if user else ()),
            *(item.names if item else ()), given.time, given.user, given.item, given.label, given.surface}]  # fmt: skip
    if user is None and given.user is None and rest:
        # Where the item is not known yet, either may be the one with more values.
        chosen = max(rest[:2] if item is None else rest[:1], key=lambda each: each.distinct)
        rest.remove(chosen)
        user = Chosen((chosen.name,), (
            f"a guess by values, for no name tells: of the columns like an id that repeat, {chosen.name!r} has the "
            f"most different values, {chosen.distinct:,}; --user COLUMN sets another"
        ))  # fmt: skip
    if item is None and given.item is None and rest:
        keyed = [(each, table) for each in rest if (table := _keys(each, looked, every)) is not None]
        chosen = keyed[0][0] if keyed else rest[0]
        why = f"{chosen.name!r} keys {keyed[0][1]}" if keyed else f"{chosen.name!r} is the next column like an id"
        item = Chosen((chosen.name,), (
            f"a guess by values, for no name tells: {why}, with {chosen.distinct:,} different values; --item COLUMN "
            "sets another"
        ))  # fmt: skip
    return user, item


def _keys(each: Profile, looked: Looked, every: list[Looked]) -> str | None:
    """The files of which each row has another value of a column that is called the same."""
    core = each.joined.removesuffix("id").removesuffix("nr")
    for other in every:
        if other is looked:
            continue
        for column in other.profiles.values():
            same = column.joined == each.joined or (
                core and column.joined.removesuffix("id").removesuffix("nr") == core
            )
            if same and column.known and column.distinct >= REPEATS * column.known:
                return other.title
    return None


def labels_by_value(looked: Looked, besides: set[str]) -> list[Label]:
    """Columns of two values, yes and no or 1 and 0, that may be outcomes."""
    context = {*PAST, *OF_CONTEXT, *ID_WORDS}
    return [
        label_of_flag(each, f"{each.name!r} is the one column of two values: a guess; --label COLUMN sets another")
        for each in looked.profiles.values()
        if each.name not in besides and each.distinct > 1 and (each.is_binary or each.yes_no) and not each.is_list
        and not {*each.words} & context and each.joined not in {*SURFACES, *POSITIONS}
        and not snake(each.name).startswith("is_")
    ]  # fmt: skip
