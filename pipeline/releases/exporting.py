"""Releases of an earlier exfm: they get the model for runtimes without torch that those of now are written with.

Belongs here: adding it to what is served. Not here: the model (models/export.py), publishing (publishing.py).
"""

from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.learning import Student
from pipeline.releases.history import changing
from pipeline.releases.release import current_release
from pipeline.releases.whole import lacks_graph, release_fault
from pipeline.tables import DataError
from pipeline.workspace import Workspace


def lacking_graphs(work: Workspace) -> list[Student]:
    """Students whose release has none."""
    served = ((student, current_release(work, student)) for student in work.project.students)
    return [
        student
        for student, release in served
        if release is not None and lacks_graph(work.state.release(student.name) / release.version)
    ]


def export_release(work: Workspace, student: Student) -> None:
    """Write it beside the weights that are served.

    Raises:
        DataError: if the release is damaged, or of an exfm so early that it can't be said how its columns are read.
    """
    with changing(work, student) as served:
        if served is None:
            return
        folder = work.state.release(student.name) / served.version
        if not lacks_graph(folder):
            return  # somebody else did meanwhile
        if (fault := release_fault(work, student)) is not None:
            raise DataError(f"{fault}: materialise student/{student.name}/release to mend it")
        if not add_graph(folder):
            raise DataError(
                f"releases/{student.name}/{served.version}: its manifest has no encoders, as an early exfm wrote it: "
                f"materialise student/{student.name}/release once its student has learnt from one more slice"
            )


def add_graph(folder: Path) -> bool:
    """Write a release's graph if it lacks one; whether it has one now."""
    from models.checkpoint import load_checkpoint
    from models.export import exported_files

    if not lacks_graph(folder):
        return True
    files = exported_files(*load_checkpoint(folder))
    for name, content in files.items():  # the signature last: it says of the graph that it is whole
        with atomic_write(folder / name) as file:
            file.write(content)
    return bool(files)
