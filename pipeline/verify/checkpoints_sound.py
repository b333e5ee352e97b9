"""Looks at checkpoints and the drift report: finite losses, drifted students.

Belongs here: what is read back from manifests and reports. Not here: weights.
"""

import math

import polars as pl

from exfm.stream import Slice
from pipeline.registry.plain_manifests import read_manifest
from pipeline.verify.findings import CheckFn, Finding, all_hold
from pipeline.workspace import Workspace


def finite(model: str) -> CheckFn:
    """Each slice's mean training loss is a number; a slice without known labels has none."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        kind, _, name = model.partition("/")
        faults, losses = [], []
        for slice_ in slices:
            manifest = read_manifest(work, model, slice_)
            if manifest is None:
                asset = f"student/{name}/control" if kind == "control" else f"{model}/checkpoint"
                faults.append(
                    f"{model} {slice_.key}: its manifest.json is missing or damaged: materialise {asset} for it again"
                )
                continue
            loss = manifest.get("metrics", {}).get("loss")
            if loss is not None and not math.isfinite(loss):
                faults.append(f"{model} {slice_.key}: loss {loss}")
            losses.append(loss)
        return all_hold(faults, f"{len(losses)} checkpoints with finite losses", checkpoints=len(losses))

    return look


def no_student_failed(work: Workspace, slices: list[Slice]) -> Finding:
    """Students that could not go on in these slices, each with its reason once."""
    table = work.table("student_progress")
    stored = [slice_ for slice_ in slices if table.has(slice_)]
    rows = table.read(stored, columns=["student", "reason"]).unique(maintain_order=True) if stored else pl.DataFrame()
    faults = [f"student/{student}: {reason}" for student, reason in rows.iter_rows() if reason]
    return all_hold(faults, "every student went on", slices=len(stored))
