"""The models of a draft: feature views, one teacher with everything, a student for each of the largest surfaces.

Belongs here: nodes of views, teachers and students. Not here: what they read (assembling.py).
"""

from datetime import timedelta

from pipeline.drafting.naming import snake
from pipeline.drafting.slices import DAY, HOUR, MINUTE, Cut
from pipeline.drafting.syntax import Argument, Node, Plain, call, listing

MOST_STUDENTS = 4
TIMES = (1, 3, 7)  # windows of feature views, in slices


def length(value: timedelta) -> Plain:
    """``4 * HOUR``."""
    for unit, name in ((DAY, "DAY"), (HOUR, "HOUR"), (MINUTE, "MINUTE")):
        if value % unit == timedelta(0):
            return Plain(name if value == unit else f"{value // unit} * {name}")
    raise ValueError(value)


def activity(name: str, entity: str, cut: Cut, tasks: tuple[str, ...], counted: tuple[str, ...], note: str) -> Argument:
    """A view of counts and rates by one column; only that of items is online."""
    windows = [times * cut.length for times in TIMES if times == 1 or times < cut.count]
    counts: list[Node] = [*counted, *tasks]
    rates: list[Node] = list(tasks)
    return Argument(
        call(
            "FeatureView",
            name=name,
            entities=listing([entity]),
            counts=listing(counts),
            rates=listing(rates),
            windows=listing([length(window) for window in windows]),
            every=length(cut.length),
            online=None if name == "item_activity" else False,
        ),
        note=note,
    )


def students(surfaces: tuple[int | str, ...], task: str, taken: set[str]) -> list[Argument]:
    """A student for each surface, those of the most rows first."""
    made = []
    for surface in surfaces[:MOST_STUDENTS]:
        called = snake(f"{surface}" if str(surface)[:1].isalpha() else f"surface_{surface}")
        name, number = f"{called}_{task}", 2
        while name in taken:
            name, number = f"{called}_{number}_{task}", number + 1
        taken.add(name)
        node = call(
            "Student",
            name=name,
            surface=surface if isinstance(surface, str) else Plain(repr(surface)),
            task=task,
            inputs=Plain("SEEN_BY_STUDENTS"),
            network=Plain("DCNv2(embedding=8, cross=1, hidden=(32,))"),
            teacher="large",
            distillation=Plain("AuxiliaryHead()"),
        )
        made.append(Argument(node))
    return made
