"""Why files are no log, in a sentence that says what to do.

Belongs here: wording. Not here: finding it out (tables.py).
"""

from collections.abc import Sequence

from pipeline.drafting.given import option
from pipeline.drafting.looked import Looked
from pipeline.drafting.words import EVENTS

SHOWN = ("impression", "impressions", "imp", "show", "shown", "view", "views", "expose", "exposure", "display", "pv")
MOST_EVENTS = 20  # of a column that names kinds of events


def not_together(every: list[Looked], given: set[str]) -> str:
    """Why no files are the impressions, with the columns that a person named."""
    having = [each for each in every if given <= {*each.profiles}]
    held = "; ".join(f"{each.title} has {columns_in(each)}" for each in every[:3])
    options = ", ".join(f"--{role} {name}" for role, name in every[0].given.named.items())
    if having:
        return f"{options}: of the files that have this, none has a time: {no_time(having)}"
    return f"no files have all the columns of {options}, which are of the impressions: {held}: name others"


def no_time(every: list[Looked]) -> str:
    """That nothing says when a row happened."""
    largest = max(every, key=lambda each: each.sample.estimated)
    candidates = [name for each in every for moment in each.moments for name in moment.used]
    return (
        f"no stream: no column of {titles_in(every)} says when a row happened (a time, or a "
        f"number since 1970): {largest.title} has {columns_in(largest)}; exfm learns in the order of time, so write "
        f"one; if a column is one, {option('time', candidates)}"
    )


def no_label(shown: Looked, useless_columns: Sequence[str]) -> str:
    """That nothing says what came of a row."""
    event = shown.named(EVENTS, lambda each: each.distinct <= MOST_EVENTS and not each.is_number)
    if event is not None and any(value.lower() in SHOWN for value in event.examples):
        return (
            f"no label: {shown.title} has a row for each event ({event.name!r} is {', '.join(event.examples[:4])}), "
            "and none says which impression it belongs to: write the impressions with an id, and the outcomes with the "
            "same id and their time in files of their own"
        )
    flag = shown.profiles.get(shown.given.surface or "")
    taken = ""
    if flag is not None and (flag.is_binary or flag.yes_no):
        taken = f"; --surface takes {flag.name!r}, which may be the label"
    useless = f"; {'; '.join(useless_columns)}: rows without the outcome are needed, too" if useless_columns else ""
    return (
        f"no label and no outcome: no column of {shown.title} says what came of a row (0 or 1, called click, like, "
        f"purchase, is_...), and no other file names its impressions{useless}; it has {columns_in(shown)}: name the "
        f"label so, or add files of outcomes with the impression's id and a time{taken}"
    )


def columns_in(each: Looked) -> str:
    """The first columns of files."""
    names = list(each.profiles)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def titles_in(every: list[Looked]) -> str:
    """The first files."""
    return ", ".join(each.title for each in every[:4])
