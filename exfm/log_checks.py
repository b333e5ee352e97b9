"""What the files of a log must give: every table that the project reads, and no column that it does not.

Belongs here: rules between a log's files and the project. Not here: rules of the files themselves (log_files.py).
"""

from typing import TYPE_CHECKING

from exfm.errors import DeclarationError, choose_from
from exfm.log_files import Log
from exfm.stream import Stream

if TYPE_CHECKING:
    from exfm.project import Project


def check_log(project: "Project", log: Log) -> None:
    """Refuse files that can't be the log of the stream.

    Raises:
        DeclarationError: for the first that can't.
    """
    if project.simulation is not None:
        raise DeclarationError("Project.log: a simulated stream has a log of its own: drop simulation, or log")
    if project.reads_log("outcomes") and not log.outcomes:
        raise DeclarationError(
            f"Log.outcomes: () although task {project.stream.outcome_tasks[0]!r} has no label: name the files of "
            "outcomes, or the column of the impressions that says it, Task.label"
        )
    if project.reads_log("interactions") and not log.interactions:
        raise DeclarationError(
            "Log.interactions: () although a feature view counts interactions: name their files, or leave them out of "
            "its counts and sources"
        )
    for table in ("impressions", "outcomes", "interactions"):
        known = {"outcomes": ("task",), "interactions": (project.stream.user.name, project.stream.item.name)}
        names = known.get(table) or [name for name in _read_columns(project.stream)]
        for files in log.files(table):
            for column in files.columns:
                choose_from(f"Log.{table}: From.name", column.name, names, what=f"column of the {table}")


def _read_columns(stream: Stream) -> list[str]:
    """The columns that the impressions have beside their id and time."""
    ids = [column.name for column in stream.id_columns if column.name not in stream.calendar]
    labels = [str(task.label) for task in stream.labelled_tasks]
    more = [stream.weight] if stream.weight is not None else []
    request = [stream.request.name] if stream.request is not None else []
    return [*ids, *(each.name for each in stream.logged_inputs), *dict.fromkeys(labels), *more, *request]
