"""Names that are taken: columns of our tables, Feast's objects, folders of the state.

Belongs here: what a declared name, or one made of it, must not be again; groups of assets. Not here: what a name looks
like (errors.py).
"""

from collections.abc import Iterable

from exfm.errors import DeclarationError

# Columns that tables add to the log's: a column or a task of the same name would be read in their place.
COLUMNS = (
    "impression_id",
    "event_timestamp",
    "created_timestamp",
    "outcome_timestamp",
    "task",
    "closed_at",
    "reason",
    "trained_until",
    "checkpoint",
    "run_id",
)
COUNTS = ("impressions", "interactions")  # what a view can count beside tasks
LOGGED_INPUTS, LOGGED_TEACHER_FEATURES = "logged_inputs", "logged_teacher_features"  # services of all inputs
SERVICES = (LOGGED_INPUTS, LOGGED_TEACHER_FEATURES)
GROUPS = ("stream", "features", "upkeep", "studies")  # of assets in Dagster that are no model's
FOLDERS = ("dagster", "dagster_home")  # beside the projects' own in the state


def student_group(student: str) -> str:
    """The group of a student's assets in Dagster: its bare name where that is free, for the graph cuts longer ones."""
    return f"{student}_student" if student in GROUPS or student.endswith(("_student", "_teacher")) else student


def teacher_group(teacher: str) -> str:
    """The group of a teacher's assets in Dagster."""
    return f"{teacher}_teacher"


class Names:
    """Names in one room, each with what it names."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def take(self, field: str, name: str, what: str) -> None:
        """Give a name away.

        Raises:
            DeclarationError: if it is taken.
        """
        if name in self._taken:
            raise DeclarationError(
                f"{field}: {name!r}, the name of {what}, is also that of {self._taken[name]}: rename one of them"
            )
        self._taken[name] = what


def columns_and_tasks(columns: Iterable[str], tasks: Iterable[str]) -> None:
    """Refuse columns and tasks that share a name with each other, or with a column of our tables.

    Raises:
        DeclarationError: naming the column or the task.
    """
    names = Names()
    for reserved in COLUMNS:
        names.take("", reserved, "a column that the tables add")
    for column in columns:
        names.take(f"Column({column}).name", column, "a column of the log")
    for task in tasks:
        if task in COUNTS:
            raise DeclarationError(f"Task({task}).name: {task!r} is what views count beside tasks: rename the task")
        names.take(f"Task({task}).name", task, "a task")


def feast_objects(
    columns: Iterable[str], views: Iterable[tuple[str, str]], teachers: Iterable[str], students: Iterable[str]
) -> tuple[str, ...]:
    """Refuse what Feast would hold under one name twice; the names are given back.

    Args:
        columns: each may be an entity.
        views: kind and name of each feature, history or prediction view.

    Raises:
        DeclarationError: naming the declaration from which the later name is made.
    """
    names, wanted_names = Names(), []
    wanted = [("", "impression_id", "the impression"), *(("", name, "the service of all inputs") for name in SERVICES)]
    wanted += [(f"Column({name}).name", name, "a column of the log") for name in columns]
    wanted += [(f"{kind}({name}).name", name, "a view") for kind, name in views]
    wanted += [(f"Teacher({model}).name", f"teacher_{model}", f"the view of teacher {model!r}") for model in teachers]
    for model in students:
        for what, service in (("inputs", inputs_service(model)), ("supervision", supervision_service(model))):
            wanted.append((f"Student({model}).name", service, f"the service of student {model!r}'s {what}"))
    for field, name, what in wanted:
        names.take(field, name, what)
        wanted_names.append(name)
    return tuple(wanted_names)


def inputs_service(student: str) -> str:
    """The Feast service of a student's inputs (clock: the impression)."""
    return f"{student}_inputs"


def supervision_service(student: str) -> str:
    """The Feast service of its teachers' predictions (clock: the run's ``as_of``)."""
    return f"{student}_supervision"
