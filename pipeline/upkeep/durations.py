"""How long slices took to make, as their sidecars and manifests say.

Belongs here: reading that. Not here: what is to be made (exfm_assets/plan.py).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.registry.plain_manifests import manifests_of
from pipeline.sidecar import SECONDS, read_sidecar
from pipeline.slices.predictions import files_of, scored_slices
from pipeline.tables import SliceTable
from pipeline.verify.tables_current import tables_of
from pipeline.workspace import Workspace

NEWEST = 5  # slices that the mean is over


def seconds_a_slice(work: Workspace, asset: str) -> float | None:
    """The mean over the newest slices of an asset; ``None`` if none says."""
    kind, _, rest = asset.partition("/")
    name, _, part = rest.rpartition("/")
    if asset in (tables := tables_of(work)):
        return _mean(_of_table(work, tables[asset][0]))
    if part == "predictions":
        teacher = work.project.teacher(name)
        paths = [path for slice_ in scored_slices(work, teacher)[-NEWEST:] for path in files_of(work, teacher, slice_)]
        return _mean(_noted(sidecar.notes) for path in paths if (sidecar := read_sidecar(path)) is not None)
    if part in ("checkpoint", "control"):
        model = f"control/{name}" if part == "control" else f"{kind}/{name}"
        return _mean(_of_manifest(manifest) for manifest in list(manifests_of(work, model).values())[-NEWEST:])
    return _mean(_of_table(work, work.evaluations(name))) if part == "evaluation" else None


def _of_table(work: Workspace, table: SliceTable) -> Iterable[float | None]:
    for slice_ in table.stored(work.project.stream)[-NEWEST:]:
        sidecar = table.sidecar(slice_)
        yield None if sidecar is None else _noted(sidecar.notes)


def _noted(notes: Mapping[str, Any]) -> float | None:
    seconds = notes.get(SECONDS)
    return float(seconds) if isinstance(seconds, int | float) else None


def _of_manifest(manifest: Mapping[str, Any] | None) -> float | None:
    try:
        return None if manifest is None else float(manifest["made_with"]["seconds"])
    except (KeyError, TypeError, ValueError):
        return None  # an earlier version did not say


def _mean(seconds: Iterable[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) / len(known) if known else None
