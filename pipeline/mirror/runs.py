"""The runs that MLflow should hold: one a release, one a student with its curve, one a teacher with its own.

Belongs here: which figures a run has, of which slices. Not here: versions and aliases (registered.py).

A release's run has what its gate said and how its checkpoint did; it changes no more once its labels are there. What a
student does slice by slice, whether released or not, is in the student's run, below which its releases are shown.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from exfm.errors import DeclarationError
from exfm.learning import Student, Teacher
from exfm.stream import Slice, Stream
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.schema import METRICS
from pipeline.mirror.wanted import Point, WantedRun, flat, milliseconds, named, shortened
from pipeline.registry.lineage import declared_of
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.history import RECORD, history_of, numbered
from pipeline.releases.release import Released, release_manifest
from pipeline.workspace import Workspace

MOST_PARAMS = 100  # in one call


def student_runs(work: Workspace, student: Student) -> Iterator[WantedRun]:
    """The student's run, if anything of it was judged or released, then those of its releases, oldest first."""
    evaluations = evaluations_of(work, student)
    releases = numbered(history_of(work, student))
    if evaluations.is_empty() and not releases:
        return
    yield WantedRun(
        key=f"student/{student.name}",
        name=student.name,
        began=milliseconds(work.project.stream.first_slice),
        tags=_model_tags(work, student),
        points=tuple(_judged(work.project.stream, evaluations)),
    )
    for release in releases.values():
        yield _release_run(work, student, release, evaluations)


def teacher_run(work: Workspace, teacher: Teacher) -> Iterator[WantedRun]:
    """The teacher's run, if it has learnt anything: what its checkpoints say of their slices."""
    stored = {slice_: plain for slice_, plain in manifests_of(work, f"teacher/{teacher.name}").items() if plain}
    if stored:
        yield WantedRun(
            key=f"teacher/{teacher.name}",
            name=teacher.name,
            began=milliseconds(work.project.stream.first_slice),
            tags=_model_tags(work, teacher),
            points=tuple(point for slice_, plain in stored.items() for point in _trained(slice_, plain)),
        )


def release_key(student: Student, number: int) -> str:
    return f"student/{student.name}/release/{number}"


def release_tags(work: Workspace, student: Student, release: Released) -> dict[str, str]:
    """What a release was made of, as its manifest says."""
    manifest = release_manifest(work, student, release.version) or {}
    kept = release_record(work, student, release)
    tags = {
        "exfm.student": student.name,
        "exfm.release": str(release.number),
        "exfm.checkpoint": release.checkpoint,
        "exfm.slice": release.slice,
        "exfm.trained_until": release.trained_until,
        "exfm.package": kept.get("exfm"),
        "exfm.gate": (kept.get("gate") or {}).get("reason"),
        "exfm.folder": str(work.state.release(student.name) / release.version),
    }
    made_of = ("declaration", "parent", "teacher_checkpoints", "data_versions", "weights", "grown_by", "made_with")
    return shortened(tags | {f"exfm.{name}": manifest.get(name) for name in made_of})


def release_record(work: Workspace, student: Student, release: Released) -> dict[str, Any]:
    """What was kept when it was released; empty if an earlier exfm kept nothing, or it can't be read."""
    path = work.state.release(student.name) / release.version / RECORD
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _release_run(work: Workspace, student: Student, release: Released, evaluations: pl.DataFrame) -> WantedRun:
    manifest = release_manifest(work, student, release.version) or {}
    gate = release_record(work, student, release).get("gate") or {}
    stream = work.project.stream
    by_it = evaluations.filter(model="student", checkpoint=release.checkpoint)["slice"].implode()
    points = [
        *_judged(stream, evaluations.filter(pl.col("slice").is_in(by_it))),
        *_gate_figures(stream, gate),
        *(_trained(slice_, manifest) if (slice_ := _slice(stream, release.slice)) is not None else ()),
    ]
    folder = work.state.release(student.name) / release.version
    return WantedRun(
        key=release_key(student, release.number),
        name=f"{student.name} release {release.number}",
        began=milliseconds(datetime.fromisoformat(release.released_at)),
        tags=release_tags(work, student, release),
        params=dict(list(flat(manifest.get("declared", {}).get("model", {})))[:MOST_PARAMS]),
        points=tuple(points),
        parent=f"student/{student.name}",
        files=folder if folder.is_dir() else None,
    )


def _model_tags(work: Workspace, model: Student | Teacher) -> dict[str, str]:
    """Tags, not parameters: a run goes on where its model is declared otherwise, and MLflow changes no parameter."""
    kind = "student" if isinstance(model, Student) else "teacher"
    return shortened({f"exfm.{kind}": model.name, "exfm.declared": declared_of(work.project, model)["model"]})


def _judged(stream: Stream, evaluations: pl.DataFrame) -> Iterator[Point]:
    """NE, AUC, log loss and calibration of who was judged on a slice, and the student's gain over its control."""
    ne: dict[str, dict[str, float]] = {}
    for row in evaluations.iter_rows(named=True):
        if (slice_ := _slice(stream, row["slice"])) is None:
            continue
        ne.setdefault(row["slice"], {})[row["model"]] = row["ne"]
        yield from _points(slice_, {named(metric, row["model"]): row[metric] for metric in METRICS})
        if row["model"] == "student":
            yield from _points(slice_, {"rows": row["rows"]})
    for key, of in ne.items():
        control, student = of.get("control"), of.get("student")
        if (slice_ := _slice(stream, key)) is not None and control and student is not None:
            yield from _points(slice_, {"gain": (control - student) / control})


def _gate_figures(stream: Stream, gate: Mapping[str, Any]) -> Iterable[Point]:
    slices = gate.get("slices") or ()
    slice_ = _slice(stream, slices[-1]) if slices else None
    if slice_ is None:
        return ()
    figures: dict[str, Any] = {named("gate", "ne", who): ne for who, ne in (gate.get("ne") or {}).items()}
    figures["gate/rows"] = gate.get("rows")
    for name, value in zip(("", "/low", "/high"), gate.get("calibration") or (), strict=False):
        figures[f"gate/calibration{name}"] = value
    for compared in gate.get("compared") or ():
        name = named("gate", f"ne against {compared['against']}", compared["where"])
        figures |= {name: compared["difference"], f"{name}/low": compared["low"], f"{name}/high": compared["high"]}
    return _points(slice_, figures)


def _trained(slice_: Slice, manifest: Mapping[str, Any]) -> Iterable[Point]:
    """What a checkpoint says of the slice that it learnt from."""
    figures = {named("training", name): value for name, value in manifest.get("metrics", {}).items()}
    return _points(slice_, {**figures, "training/rows": manifest.get("rows")})


def _points(slice_: Slice, figures: Mapping[str, Any]) -> Iterator[Point]:
    for name, value in figures.items():
        if isinstance(value, int | float) and math.isfinite(value):  # MLflow's stores differ in what NaN is
            yield Point(name, float(value), slice_.index, milliseconds(slice_.end))


def _slice(stream: Stream, key: str) -> Slice | None:
    """``None`` for a slice of a stream that is declared otherwise since."""
    try:
        return stream.slice_of(key)
    except DeclarationError:
        return None
