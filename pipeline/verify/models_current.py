"""Predictions, checkpoints, evaluations and releases against what they were made of.

Belongs here: reading manifests as plain JSON and comparing. Not here: tables, words (tables_current.py).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exfm.declaration import digest
from exfm.differences import differences
from exfm.learning import Student, Teacher
from exfm.stream import Slice, Stream
from models.parts import CHANGES, WEIGHTS
from pipeline.registry.lineage import Declared, Recorded, data_of, evaluation_names, known_inputs
from pipeline.registry.plain_manifests import has_weights, manifests_of, read_manifest
from pipeline.releases.release import current_release
from pipeline.releases.verdict import REFUSED, TOO_LITTLE, read_verdict, verdict_of
from pipeline.releases.whole import release_fault
from pipeline.sidecar import as_written, sha256_of
from pipeline.slices.log_withdrawals import withdrawn_since
from pipeline.slices.predictions import PredictionFile, files_of, scored_slices, sound
from pipeline.slices.withdrawals import touching, withdrawn
from pipeline.tables import SliceTable, is_whole
from pipeline.workspace import Workspace

DAMAGED = "damaged or missing, not what was written"
TEACHER_PARTS = ("predictions", "checkpoint")
STUDENT_PARTS = ("control", "checkpoint", "evaluation", "release")
OTHER_DECLARATION = "made under another declaration"


@dataclass(frozen=True)
class Fault:
    """A slice of which what is stored is not what would be made now.

    Args:
        slice: ``None`` for an asset without slices.
        is_correction: only the data behind it changed: how old a slice may be for that is declared (``Upkeep``).
        columns_of: where it only gets more columns, what those that it has are made of, and would be made of again.
    """

    slice: Slice | None
    why: str
    is_correction: bool = False
    columns_of: frozenset[str] | None = None


def looks_of(work: Workspace) -> dict[str, Callable[[], Iterator[Fault]]]:
    """Asset -> the look at what is stored of it, upstream first."""
    looks: dict[str, Callable[[], Iterator[Fault]]] = {}
    for teacher in work.project.teachers:
        looks[f"teacher/{teacher.name}/predictions"] = lambda of=teacher: _predictions(work, of)  # type: ignore[misc]
        looks[f"teacher/{teacher.name}/checkpoint"] = lambda of=teacher: _checkpoints(work, of)  # type: ignore[misc]
    for student in work.project.students:
        name = f"student/{student.name}"
        looks[f"{name}/control"] = lambda of=student: _checkpoints(work, of, control=True)  # type: ignore[misc]
        looks[f"{name}/checkpoint"] = lambda of=student: _checkpoints(work, of)  # type: ignore[misc]
        looks[f"{name}/evaluation"] = lambda of=student: _evaluations(work, of)  # type: ignore[misc]
        looks[f"{name}/release"] = lambda of=student: _release(work, of)  # type: ignore[misc]
    return looks


def _checkpoints(work: Workspace, model: Teacher | Student, *, control: bool = False) -> Iterator[Fault]:
    kind = "teacher" if isinstance(model, Teacher) else "control" if control else "student"
    declared = Declared.of(work.project, model, control=control)
    manifests, stream = manifests_of(work, f"{kind}/{model.name}"), work.project.stream
    newest = next(reversed(manifests), None)
    for slice_, manifest in manifests.items():
        before = stream.slice_at(slice_.index - 1)
        if manifest is None:
            yield Fault(slice_, "its manifest.json is missing or damaged")
        elif not is_of(declared, manifest):
            yield Fault(slice_, f"{OTHER_DECLARATION}{differences(manifest.get('declared', {}), declared.form)}")
        elif manifest["parent"] is not None and before not in manifests:
            yield Fault(before, "missing, although a later checkpoint continues it")
        elif manifest["parent"] != _version(manifests.get(before)):
            yield Fault(slice_, "it continues another checkpoint than is stored now")
        elif differ := _differing(manifest.get("data_versions"), _data(work, model, kind, slice_, manifest)):
            why = f"made of other {', '.join(differ)} than are stored now"
            gone = _withdrawn_since(work, model, slice_, manifest)
            yield Fault(slice_, f"{why}, {gone}" if gone else why, is_correction=not gone)
        elif slice_ == newest and not has_weights(work, f"{kind}/{model.name}", slice_):
            yield Fault(slice_, "its weights are missing, and the next slice continues them")


def _withdrawn_since(
    work: Workspace, model: Teacher | Student, slice_: Slice, manifest: Mapping[str, Any]
) -> str | None:
    """What was withdrawn since a checkpoint was made that it has learnt from; such a change is made good at any age."""
    created = str(manifest.get("made_with", {}).get("created", ""))
    kind = "teacher" if isinstance(model, Teacher) else "student"
    own = withdrawn(work, f"{kind}/{model.name}", slice_.key)
    taught_by = manifest.get("teacher_checkpoints", ())
    gone = own or touching(work, model.name, slice_.key, created, taught_by, kind=kind)
    if gone is not None:
        return f"after {gone.model} {gone.slice} was withdrawn: {gone.why}"
    back = withdrawn_since(
        work, slice_, work.state.checkpoints(f"{kind}/{model.name}") / slice_.folder / "manifest.json"
    )
    return None if back is None else f"after {back.model} {back.slice} was given back: {back.why_restored}"


def after_withdrawal(work: Workspace, fault: Fault, path: Path) -> Fault:
    """The same, but no mere correction where a slice of the log was withdrawn since the file was made."""
    if not fault.is_correction or fault.slice is None:
        return fault
    since = withdrawn_since(work, fault.slice, path)
    if since is None:
        return fault
    what = "given back" if since.restored else "withdrawn"
    return replace(fault, why=f"{fault.why}, after {since.model} {since.slice} was {what}", is_correction=False)


def is_of(declared: Declared, manifest: Mapping[str, Any]) -> bool:
    """Was a checkpoint made under a declaration, or under one that only grew to it?"""
    return declared.holds_for(manifest["declaration"], manifest.get("declared", {}))


def _data(
    work: Workspace, model: Teacher | Student, kind: str, slice_: Slice, manifest: Mapping[str, Any]
) -> dict[str, str]:
    """What a checkpoint of the slice that read what this one did would be made of now, by sidecars."""
    is_taught = kind == "student" and isinstance(model, Student) and model.is_taught
    recorded = Recorded.of_plain(manifest)
    data = data_of(work, slice_, model, supervised=is_taught, stored=recorded, digest_of=SliceTable.noted)
    if is_taught and isinstance(model, Student) and model.lead is not None and slice_.index > 0:
        before = work.project.stream.slice_at(slice_.index - 1)
        control = _version(read_manifest(work, f"control/{model.name}", before))
        data |= {"control": control} if control is not None else {}
    return data


def _differing(then: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """What changed; what is no longer stored, or was not written down, is not known to have."""
    if then is None:
        return []
    return [name for name in sorted(now) if name not in then or then[name] != now[name]]


def _version(manifest: dict[str, Any] | None) -> str | None:
    return None if manifest is None else str(manifest["version"])


def _predictions(work: Workspace, teacher: Teacher) -> Iterator[Fault]:
    stream, declared = work.project.stream, Declared.of(work.project, teacher)
    manifests = manifests_of(work, f"teacher/{teacher.name}")
    for slice_ in scored_slices(work, teacher):
        by = teacher.scorer_of(slice_.index)
        manifest = manifests.get(stream.slice_at(by))
        newest = files_of(work, teacher, slice_)[-1]
        scored = PredictionFile.of(newest)
        if not is_whole(newest):
            yield Fault(slice_, DAMAGED)
        elif manifest is None or scored.checkpoint != manifest["version"]:
            yield Fault(slice_, "scored by another checkpoint than is stored now")
        elif not is_of(declared, manifest):
            yield Fault(slice_, "scored by a checkpoint of another declaration")
        elif scored.inputs not in (known_inputs(work, slice_, Recorded.of_plain(manifest).columns) or [scored.inputs]):
            fault = Fault(slice_, "made of other logged_inputs than are stored now", is_correction=True)
            yield after_withdrawal(work, fault, newest)


def _evaluations(work: Workspace, student: Student) -> Iterator[Fault]:
    stream, table = work.project.stream, work.evaluations(student.name)
    manifests_by_kind = {kind: manifests_of(work, f"{kind}/{student.name}") for kind in ("student", "control")}
    trained = sorted(
        slice_.index for slice_ in manifests_by_kind["student"].keys() & manifests_by_kind["control"].keys()
    )
    enough = _learnt_enough(student, manifests_by_kind, stream)
    for slice_ in stream.slices(stream.first_slice, work.now()):
        if not table.path(slice_).parent.is_dir():
            continue
        if not table.has(slice_) or not is_whole(table.path(slice_)):
            yield Fault(slice_, DAMAGED)
            continue
        before = bisect_right(trained, slice_.index - stream.serving_lag(student.task))
        at = trained[before - 1] if before else None
        if at is not None and (enough is None or at < enough):
            at = None  # too few rows: it was never served
        versions = (
            {}
            if at is None
            else {kind: _version(manifests[stream.slice_at(at)]) for kind, manifests in manifests_by_kind.items()}
        )
        judged = [] if at is None else [by_slice.get(stream.slice_at(at)) for by_slice in manifests_by_kind.values()]
        columns = {name: None for manifest in judged for name in (manifest or {}).get("encoder", {})}
        names = evaluation_names(work, slice_, student, versions, columns, SliceTable.noted)
        if not as_written(table.path(slice_)):
            yield Fault(slice_, DAMAGED)
        elif not _evaluation_digests(table, slice_) <= set(names):
            why = "of other checkpoints, labels or predictions than are stored now"
            yield after_withdrawal(work, Fault(slice_, why, is_correction=True), table.path(slice_))


def _learnt_enough(
    student: Student, manifests_by_kind: Mapping[str, Mapping[Slice, dict[str, Any] | None]], stream: Stream
) -> int | None:
    """The first slice with which student and control have learnt from ``Gate.rows`` labelled rows."""
    indices = {slice_.index for manifests in manifests_by_kind.values() for slice_ in manifests}
    rows = dict.fromkeys(manifests_by_kind, 0)
    for index in range(max(indices, default=-1) + 1):
        for kind, manifests in manifests_by_kind.items():
            rows[kind] += (manifests.get(stream.slice_at(index)) or {}).get("rows", 0)
        if min(rows.values()) >= student.gate.rows:
            return index
    return None


def _evaluation_digests(table: SliceTable, slice_: Slice) -> set[str]:
    """What a stored evaluation says it was made of; an older version said it in each row."""
    sidecar = table.sidecar(slice_)
    known = None if sidecar is None else sidecar.made_of.get("evaluation")
    return {known} if known is not None else set(table.read([slice_], columns=["evaluation"])["evaluation"].unique())


def _release(work: Workspace, student: Student) -> Iterator[Fault]:
    if (fault := release_fault(work, student)) is not None:
        yield Fault(None, fault)
    elif (served := current_release(work, student)) is not None:
        stored = read_manifest(work, f"student/{student.name}", work.project.stream.slice_of(served.slice))
        # What the gate refused, or could not judge yet, it would refuse again: that is no reason to make it again.
        judged = verdict_of(work, student).outcome in (REFUSED, TOO_LITTLE)
        if stored is not None and stored["version"] != served.checkpoint and not judged:
            yield Fault(None, f"{served.version} is served, and its slice {served.slice} was trained again since")
        elif served.table != student.serving.table and not judged and not served.pinned:
            yield Fault(None, f"{served.version} is served, and Serving.table is {student.serving.table} now")
    verdict = read_verdict(work, student)
    if verdict is not None and not verdict.passed and verdict.gate != digest(student.gate):
        yield Fault(None, f"{verdict.outcome} by a gate that is declared otherwise now")


def weights_damaged(work: Workspace) -> Iterator[tuple[str, Slice]]:
    """Checkpoints whose weights are there and are not what was written; without torch, slow to import."""
    project = work.project
    models = {f"teacher/{teacher.name}": f"teacher/{teacher.name}/checkpoint" for teacher in project.teachers}
    for student in project.students:
        models |= {f"student/{student.name}": f"student/{student.name}/checkpoint"}
        models |= {f"control/{student.name}": f"student/{student.name}/control"}
    for model, asset in models.items():
        folder = work.state.checkpoints(model)
        for slice_, manifest in manifests_of(work, model).items():
            if manifest is not None and not _are_as_written(folder / slice_.folder, manifest):
                yield asset, slice_


def _are_as_written(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Are the files of a checkpoint's weights those that its manifest names, or were they dropped?"""
    own = [folder / name for name in (WEIGHTS, CHANGES) if (folder / name).is_file()]
    if not own:
        return True
    parts = [(folder.parent / "parts" / f"{part['weights']}.safetensors", part["weights"])
             for part in manifest.get("parts", ())]  # fmt: skip
    files = [(own[0], manifest["weights"]), *parts]
    return all(path.is_file() and sha256_of(path) == digest for path, digest in files)


def predictions_damaged(work: Workspace) -> Iterator[tuple[str, Slice]]:
    """Slices with a prediction file that is not what was written."""
    for teacher in work.project.teachers:
        for slice_ in scored_slices(work, teacher):
            if not all(sound(path) for path in files_of(work, teacher, slice_)):
                yield f"teacher/{teacher.name}/predictions", slice_
