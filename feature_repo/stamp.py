"""What was applied to the embedded registry, told without importing Feast (4 s).

Belongs here: the stamp beside the registry. Not here: applying (store.py).
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from exfm.atomic_write import write_text
from exfm.declaration import digest
from exfm.learning import Student
from exfm.project import Project

REGISTRY, STAMP = "registry.db", "registry.json"
_NAMES = {"entities": "entity_name", "feature_views": "feature_view_name", "feature_services": "feature_service_name"}
WORDS = 2  # raised where Feast's objects get other descriptions or tags from the same declaration
Lists = Mapping[str, Sequence[str]]


def registry_version(project: Project) -> str:
    """A digest of all that Feast's objects are made of: not of how models learn, or when they are released."""
    columns = [project.stream.user, project.stream.item, project.stream.surface, *project.stream.context]
    logged, of_teachers = project.logged_columns, project.teacher_feature_columns
    return digest(
        WORDS,
        [columns, list(project.stream.calendar), project.all_views],
        [[teacher.name, list(teacher.tasks)] for teacher in project.teachers],
        [
            [student.name, student.task, list(student.inputs), _taught_by(project, student)]
            for student in project.students
        ],
        [list(logged.ids), list(logged.of_views), list(of_teachers.features)],
        list(project.owners),
    )


def _taught_by(project: Project, student: Student) -> list[str]:
    return [teacher.name for name in student.teachers for teacher in project.line_of(name)]


def stamp(feast: Path, version: str, lists: Lists) -> None:
    """Write down what was applied: the version of the declaration, and the names that are reported of it.

    Nothing is written where the registry is not the embedded one: others may be written by anybody.
    """
    names = _held(feast / REGISTRY)
    if names is not None:
        text = json.dumps({"version": version, "held": names, "lists": lists}, default=list, indent=1)
        write_text(feast / STAMP, text)


def applied(feast: Path, version: str) -> Lists | None:
    """The names that were reported, if this version was applied and the registry still holds it; else ``None``."""
    try:
        plain = json.loads((feast / STAMP).read_text(encoding="utf-8"))
        held = _held(feast / REGISTRY)
        stands = plain["version"] == version and held is not None and plain["held"] == held
        return {str(name): list(names) for name, names in plain["lists"].items()} if stands else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _held(registry: Path) -> str | None:
    """A digest of the names that the registry holds; ``None`` if it can't be told."""
    if not registry.is_file():
        return None
    try:
        with closing(sqlite3.connect(registry, timeout=30)) as connection:
            rows = {
                table: sorted(row[0] for row in connection.execute(f"SELECT {column} FROM {table}"))
                for table, column in _NAMES.items()
            }
    except sqlite3.DatabaseError:
        return None
    return digest(rows)
