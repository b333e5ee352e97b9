"""What a checkpoint is made of: its declaration, its parent, its data. The digest of that is its version.

Belongs here: versions. Not here: weights (models/checkpoint.py), Dagster's own data versions (assets/common.py).

The same lineage gives the same bits on the same machine, so a checkpoint whose version is already stored is not
trained again: a run that was killed, or is asked for twice, goes on where it was.
"""

from collections.abc import Mapping
from dataclasses import replace

from projects.learning import Freshness, Gate, Student, Teacher
from projects.project import Project, digest

# Raise it when the same declaration and data would now give other weights.
LEARNING_VERSION = "3"


def declaration_digest(project: Project, model: Teacher | Student, *, control: bool = False) -> str:
    """What the model's weights depend on, of all that is declared.

    Gates, freshness and the end of a closed log are left out: they change what is done with weights, not weights.
    """
    stream = project.stream
    if isinstance(model, Student):
        model = replace(model, gate=Gate(), freshness=Freshness())
        if control:
            model = replace(model, distillation=None, teacher=None, lead=None)
    columns = project.columns_of(model.inputs, where=model.name)
    views = [project.view(name) for name in dict.fromkeys(name.partition("__")[0] for name in columns.of_views)]
    slicing = [stream.first_slice, stream.slice_length, stream.surface, list(stream.surfaces), stream.tasks]
    return digest(LEARNING_VERSION, model, control, views, stream.id_columns, *slicing)


def lineage_version(declaration: str, parent: str | None, data: Mapping[str, str], slice_key: str) -> str:
    """A checkpoint's version: twelve hex digits of everything that it came from."""
    return digest(LEARNING_VERSION, declaration, parent, dict(sorted(data.items())), slice_key)
