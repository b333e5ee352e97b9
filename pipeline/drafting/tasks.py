"""The tasks of a draft: labels among the columns, and outcomes of their own.

Belongs here: which tasks there are, the window of each, which of them one teacher can teach. Not here: how labels are
found (roles.py), how long outcomes take (slices.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipeline.drafting.naming import TAKEN
from pipeline.drafting.roles import Label
from pipeline.drafting.slices import GUESSED, Delays
from pipeline.drafting.tables import Tables
from pipeline.imports.reading import literal

CLICKS = ("click", "clicks", "clicked", "clk", "is_click", "is_clicked")


@dataclass(frozen=True)
class Told:
    """A task: its window, why, and the label where it is a column of the impressions."""

    window: timedelta
    why: str
    label: Label | None = None


def tasks_of(tables: Tables, names: Mapping[str, str], delays: Mapping[str, Delays]) -> dict[str, Told]:
    """Tasks by name."""
    tasks: dict[str, Told] = {}
    for label in tables.labels:
        column = names[label.profile.name]
        name = f"{column}_task" if column in TAKEN else column
        why = f"{label.why}; its window is a guess, for the log does not say when it came"
        tasks[name] = Told(GUESSED, why, label)
    for files in tables.outcomes:
        for task in files.tasks:
            if task not in tasks:
                found = delays.get(task)
                tasks[task] = Told(found.window, found.why) if found else Told(GUESSED, "no outcome of it was seen")
    return tasks


def flag_of(label: Label) -> str | None:
    """An expression over the sample of whether an outcome came; ``None`` of a value, which has no such moment."""
    each = label.profile
    if label.ceiling is not None or label.above is not None:
        return None
    if each.yes_no is not None and not each.is_binary:
        return f"lower(trim({each.value})) = {literal(each.yes_no[0])}"
    return f"try_cast({each.value} AS DOUBLE) = 1 OR lower(({each.value})::VARCHAR) = 'true'"


def main_of(tasks: Mapping[str, Told]) -> tuple[str, str]:
    """The task that students learn, and why: a named one, else a click, else that of the shortest window."""
    given = next((task for task, told in tasks.items() if told.label is not None and told.label.given), None)
    if given is not None:
        return given, "it was set by --label"
    if (click := next((task for task in tasks if task in CLICKS), None)) is not None:
        return click, "it is called as a click"
    return min(tasks, key=lambda task: tasks[task].window), "no other is known sooner"


def horizons(tasks: Mapping[str, Told], slice_length: timedelta) -> list[tuple[str, ...]]:
    """Tasks in groups, the shortest windows first: one teacher can teach a group, and be in time for each of it.

    A slice's predictions are there when the longest window of the teacher's tasks had closed a slice before. That is
    not later than labels of each task of a group if its windows differ by a slice at the most.
    """
    groups: list[list[str]] = []
    for task in sorted(tasks, key=lambda task: tasks[task].window):
        if not groups or tasks[task].window > tasks[groups[-1][0]].window + slice_length:
            groups.append([])
        groups[-1].append(task)
    return [tuple(group) for group in groups]
