"""What a checkpoint is made of: its declaration, its parent, its data. The digest of that is its version.

Belongs here: versions. Not here: weights (models/checkpoint.py), Dagster's own data versions (assets/common.py).

The same lineage gives the same bits on the same machine (but for rounding, where a model trained beside others), so a
checkpoint whose version is already stored is not trained again: a run that was killed, or is asked for twice, goes on
where it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from exfm.columns import views_of
from exfm.declaration import canonical_form, digest
from exfm.freshness import Freshness
from exfm.learning import Gate, Student, Teacher
from exfm.project import Project
from exfm.stream import Slice
from pipeline.slices.predictions import scored_by
from pipeline.tables import SliceTable
from pipeline.workspace import Workspace


def declared_of(project: Project, model: Teacher | Student, *, control: bool = False) -> dict[str, Any]:
    """What the model's weights depend on, of all that is declared, in its canonical form.

    Gates, freshness and the end of a closed log are left out: they change what is done with weights, not weights. What
    the code does with a part is in the part's ``code_version``: that of ``Training`` is of the loop itself.
    """
    stream = project.stream
    model = replace(model, freshness=Freshness())
    if isinstance(model, Student):
        model = replace(model, gate=Gate())
        if control:
            model = replace(model, distillation=None, teacher=None, lead=None)
    columns = project.columns_of(model.inputs, where=model.name)
    parts = {
        "model": model,
        "training": model.training,  # also at its defaults: for its code_version
        "control": control,
        "views": [project.view(name) for name in views_of(columns.of_views)],
        "ids": stream.id_columns,
        "first_slice": stream.first_slice,
        "slice_length": stream.slice_length,
        "surface": stream.surface.name,
        "surfaces": list(stream.surfaces),
        "tasks": stream.tasks,
    }
    return {name: canonical_form(part) for name, part in parts.items()}


def declaration_digest(project: Project, model: Teacher | Student, *, control: bool = False) -> str:
    """The name of what the model's weights depend on, of all that is declared."""
    return digest(declared_of(project, model, control=control))


def lineage_version(declaration: str, parent: str | None, data: Mapping[str, str], slice_key: str) -> str:
    """A checkpoint's version: twelve hex digits of everything that it came from."""
    return digest(declaration, parent, dict(sorted(data.items())), slice_key)


def data_of(
    work: Workspace,
    slice_: Slice,
    student: Student,
    *,
    supervised: bool,
    digest_of: Callable[[SliceTable, Slice], str | None] = SliceTable.digest,
) -> dict[str, str]:
    """Digests of all that a student reads of a slice.

    Args:
        digest_of: a table's slice -> its digest; one that has none is left out.
    """
    tables = ["logged_inputs", "labels"]
    if work.project.columns_of(student.inputs, where=student.name).of_teachers:
        tables.append("logged_teacher_features")
    digests = {table: digest_of(work.table(table), slice_) for table in tables}
    data = {table: known for table, known in digests.items() if known is not None}
    for name in student.teachers if supervised else ():
        # The newest file's name says which checkpoint scored which inputs: the same scores, the same digest.
        scored = scored_by(work, work.project.teacher(name), slice_)
        data[f"predictions/{name}"] = digest([scored] if scored is not None else [])
    return data
