"""From which slice on a model is to be made again because of withdrawals.

Belongs here: looking that up, without torch. Not here: finding what a withdrawal touches (withdrawing.py).
"""

from pipeline.registry.plain_manifests import read_manifest
from pipeline.slices.withdrawals import withdrawals
from pipeline.workspace import Workspace


def first_touched(work: Workspace, model: str, otherwise: int) -> int:
    """The index of the first slice whose checkpoint was made before a withdrawal that touches it.

    Args:
        model: ``teacher/<name>`` or ``student/<name>``.
    """
    stream, found = work.project.stream, [otherwise]
    for each in withdrawals(work):
        first = each.students.get(model.removeprefix("student/"), each.slice if each.model == model else None)
        if first is None:
            continue
        slice_ = next((each for each in stream.slices(stream.first_slice, work.now()) if each.key == first), None)
        if slice_ is None:
            continue  # the stream is declared otherwise since
        manifest = read_manifest(work, model, slice_)
        if manifest is not None and str(manifest.get("made_with", {}).get("created", "")) < each.at:
            found.append(slice_.index)
    return min(found)
