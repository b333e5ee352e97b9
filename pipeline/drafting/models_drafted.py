"""The models of a draft: feature views, a teacher of all tasks that are known soon enough, a student for each surface.

Belongs here: nodes of views, teachers and students. Not here: what they read (stream_drafted.py), which tasks one
teacher can teach (tasks.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from pipeline.drafting.naming import snake
from pipeline.drafting.parts import Say
from pipeline.drafting.slices import DAY, HOUR, MINUTE, Cut
from pipeline.drafting.syntax import Argument, Node, Plain, call, listing
from pipeline.drafting.tasks import Told, horizons, main_of

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


def models(
    tasks: Mapping[str, Told], cut: Cut, surfaces: tuple[int | str, ...], taken: set[str], say: Say
) -> tuple[list[Argument], list[Argument]]:
    """Teachers and students: one student a surface of the main task, and one of each task that needs another teacher.

    Args:
        surfaces: those of the most rows first.
        taken: names that are used; theirs are added.
        say: is told each guess, and why.
    """
    main, why = main_of(tasks)
    note = None
    if len(tasks) > 1:
        say("students", main, f"of {len(tasks)} tasks they learn it: {why}")
        note = f"of {len(tasks)} tasks students learn {main!r}, for {why}; declare some of others as you need"
    groups = horizons(tasks, cut.shortest)
    teachers, learners = [], []
    for number, group in enumerate(groups):
        before = {task for each in groups[: number + 1] for task in each}
        known = tuple(task for task in tasks if task in before)
        if main in group:
            teachers.append(_teacher("large", known, None))
            learners += _students(surfaces[:MOST_STUDENTS], main, "large", taken, note)
            continue
        name, apart = _free(f"large_{group[-1]}", taken), ", ".join(map(repr, group))
        later = "later" if number > next(at for at, each in enumerate(groups) if main in each) else "sooner"
        because = (
            f"labels of {apart} are there more than a slice {later} than those of {main!r}, and a teacher's "
            "predictions come when its longest window has closed: so it is taught apart, with a student of its own"
        )
        say("teacher", name, because)
        teachers.append(_teacher(name, known, because))
        learners += _students(surfaces[:1], main_of({task: tasks[task] for task in group})[0], name, taken)
    return teachers, learners


def _free(name: str, taken: set[str]) -> str:
    chosen, number = name, 2
    while chosen in taken or f"teacher_{chosen}" in taken:
        chosen, number = f"{name}_{number}", number + 1
    taken.add(chosen)
    return chosen


def _teacher(name: str, tasks: tuple[str, ...], note: str | None) -> Argument:
    node = call(
        "Teacher", name=name, tasks=listing(tasks), inputs=Plain("SEEN_BY_TEACHERS"),
        network=Plain("DCNv2(embedding=16, cross=2, hidden=(128, 64))"),
    )  # fmt: skip
    return Argument(node, note=note)


def _students(
    surfaces: tuple[int | str, ...], task: str, teacher: str, taken: set[str], note: str | None = None
) -> list[Argument]:
    """A student for each surface; the first one has a comment."""
    made: list[Argument] = []
    for surface in surfaces:
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
            teacher=teacher,
            distillation=Plain("AuxiliaryHead()"),
        )
        made.append(Argument(node, note=None if made else note))
    return made
