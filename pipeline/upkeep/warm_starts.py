"""Warm starts that are ahead: models that get more inputs than their newest checkpoint has read.

Belongs here: saying so beforehand. Not here: what stands (registry/growth.py), growing weights (models/growth.py).
"""

from exfm.learning import Student, Teacher
from pipeline.registry.lineage import Declared
from pipeline.registry.plain_manifests import manifests_of
from pipeline.verify.models_current import is_of
from pipeline.workspace import Workspace

MOST_NAMED = 3


def warm_starts(work: Workspace) -> dict[str, str]:
    """Asset of a model's checkpoints -> the sentence for a person; a student's is of its control too."""
    models: list[Teacher | Student] = [*work.project.teachers, *work.project.students]
    said = {f"{_kind(model)}/{model.name}/checkpoint": _sentence(work, model) for model in models}
    return {asset: sentence for asset, sentence in said.items() if sentence is not None}


def _kind(model: Teacher | Student) -> str:
    return "teacher" if isinstance(model, Teacher) else "student"


def _sentence(work: Workspace, model: Teacher | Student) -> str | None:
    declared, name = Declared.of(work.project, model), f"{_kind(model)}/{model.name}"
    stored = [(slice_, manifest) for slice_, manifest in manifests_of(work, name).items() if manifest is not None]
    if not stored:
        return None
    (first, _), (last, newest) = stored[0], stored[-1]
    columns = work.project.columns_of(model.inputs, where=model.name)
    read = (*columns.stored, *columns.derived)
    added = [column for column in read if column not in newest.get("encoder", {})]
    if newest["declaration"] == declared.digest or not is_of(declared, newest) or not added:
        return None
    named = ", ".join([*added[:MOST_NAMED], *([f"{len(added) - MOST_NAMED} more"] if len(added) > MOST_NAMED else [])])
    slices = first.key if first == last else f"{first.key}...{last.key}"
    until = work.project.stream.until
    goes_on = f"later slices continue it with its new inputs ({named})"
    if until is not None and last.end >= until:
        goes_on = f"and the log ends there, so nothing has taught it its new inputs ({named})"
    return f"{name}: what it learnt of {slices} stands, {goes_on}: Training(warm_start=False) trains all again"
