"""From which slice on what is stored is to be made again because of withdrawals.

Belongs here: looking that up, without torch. Not here: finding what a withdrawal touches (withdrawing.py).
"""

from pipeline.registry.plain_manifests import read_manifest
from pipeline.slices.log_withdrawals import of_log, reach, withdrawn_digest
from pipeline.slices.withdrawals import withdrawals
from pipeline.transforms.quarantine import WITHDRAWN
from pipeline.workspace import Workspace


def first_touched(work: Workspace, model: str, otherwise: int) -> int:
    """The index of the first slice whose checkpoint was made before a withdrawal that touches it.

    Args:
        model: ``teacher/<name>`` or ``student/<name>``.
    """
    stream, found = work.project.stream, [otherwise]
    kind, _, name = model.partition("/")
    for each in withdrawals(work):
        if each.restored:
            continue
        learnt = each.students if kind == "student" else each.teachers
        first = learnt.get(name, each.slice if each.model == model else None)
        if first is None:
            continue
        slice_ = next((each for each in stream.slices(stream.first_slice, work.now()) if each.key == first), None)
        if slice_ is None:
            continue  # the stream is declared otherwise since
        manifest = read_manifest(work, model, slice_)
        if manifest is not None and str(manifest.get("made_with", {}).get("created", "")) < each.at:
            found.append(slice_.index)
    return min(found)


def pending_since(work: Workspace, otherwise: int) -> int:
    """The index of the first slice that may hang on a slice of the log whose withdrawal its table doesn't show yet."""
    found = [otherwise]
    for slice_, each in of_log(work):
        sidecar = work.table(each.model).sidecar(slice_)
        now = withdrawn_digest(work, each.model, slice_.start, slice_.end)
        if sidecar is not None and sidecar.made_of.get(WITHDRAWN) != now.get(WITHDRAWN):
            found.append(reach(work, each.model, slice_))
    return min(found)
