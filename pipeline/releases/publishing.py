"""Publishing a checkpoint's serving part, and mending what is served.

Belongs here: the files of a release. Not here: the gate before it (gate/), a checkpoint's files (models/).
"""

import json
from dataclasses import asdict, replace
from importlib.metadata import version as version_of

from exfm.atomic_write import atomic_write
from exfm.learning import Student
from exfm.stream import Slice
from models.checkpoint import save_serving
from models.manifest import FILE, Manifest, load_manifest
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.exporting import add_graph
from pipeline.releases.history import RECORD, changing, history_of, record
from pipeline.releases.release import MENDED, RELEASED, Released, current_release, release_version
from pipeline.releases.verdict import Verdict
from pipeline.releases.whole import release_fault, whole_releases
from pipeline.tables import DataError
from pipeline.workspace import Workspace


def mend_release(work: Workspace, student: Student, device: str) -> str | None:
    """Make the files of what is served whole again, from its checkpoint or from what was released before.

    Returns:
        what was wrong and what is served now, in a sentence; ``None`` if all is well.
    """
    if release_fault(work, student) is None:
        return None
    with changing(work, student) as served:
        if (fault := release_fault(work, student)) is None:
            return None  # somebody else did meanwhile
        if served is not None and (slice_ := _piece_of(work, student, served)) is not None:
            # It serves on, since when and as pinned as it was: only its files are made again.
            _save(work, student, slice_, served.checkpoint, device, served.table)
            return f"{fault}: {served.version} was published again from its checkpoint"
        whole = whole_releases(work, student)
        if not whole:
            return f"{fault}, and no earlier release is whole: nothing can be served until its gate passes"
        chosen, pinned = _last_whole(work, student, served, whole)
        manifest = load_manifest(work.state.release(student.name) / chosen)
        name_served(work, student, manifest, action=MENDED, why=fault, pinned=pinned, canary_goes_on=True)
        return f"{fault}: {chosen}, the newest release before it that is whole, is served"


def _last_whole(work: Workspace, student: Student, served: Released | None, whole: list[str]) -> tuple[str, bool]:
    """What served last by the history, or the newest whole release before it; and whether a person pinned that."""
    history, folder = history_of(work, student), work.state.release(student.name)
    last = history[-1] if history else served
    if last is not None:
        if last.version in whole:
            return last.version, last.pinned
        older = [entry for entry in history if entry.version in whole and entry.number < last.number]
        if older:
            return max(older, key=lambda entry: entry.number).version, last.pinned
    newest = max(whole, key=lambda version: ((folder / version / FILE).stat().st_mtime_ns, version))
    return newest, last is not None and last.pinned


def _piece_of(work: Workspace, student: Student, served: Released) -> Slice | None:
    """The slice whose stored checkpoint is the released one, if it has its weights."""
    checkpoints, slice_ = CheckpointStore.of(work, student), work.project.stream.slice_of(served.slice)
    return slice_ if checkpoints.holds(slice_, served.checkpoint) and checkpoints.has_weights(slice_) else None


def publish(
    work: Workspace, student: Student, slice_: Slice, version: str, device: str, verdict: Verdict | None = None
) -> Released:
    """Write the serving part of a slice's checkpoint, then name it as what is served; within ``changing``.

    Its embedding table is kept as ``Serving.table`` declares now.

    Args:
        version: of the checkpoint.
        verdict: of the gate that let it through; it is kept beside the release.

    Raises:
        DataError: if the checkpoint is damaged, or by now another one than ``version``.
    """
    manifest = save_release(work, student, slice_, version, device, verdict)
    return name_served(work, student, manifest, why="" if verdict is None else verdict.reason)


def save_release(
    work: Workspace, student: Student, slice_: Slice, version: str, device: str, verdict: Verdict | None = None
) -> Manifest:
    """Write the files of a release that nobody is served with yet; raises as ``publish``."""
    manifest = _save(work, student, slice_, version, device, student.serving.table)
    path = work.state.release(student.name) / manifest.version / RECORD
    if not path.is_file():  # what let it through first
        of = {"gate": None if verdict is None else asdict(verdict), "exfm": version_of("exfm")}
        with atomic_write(path) as file:
            file.write(json.dumps(of, indent=1).encode())
    return manifest


def _save(work: Workspace, student: Student, slice_: Slice, version: str, device: str, table: str) -> Manifest:
    learner, manifest = CheckpointStore.of(work, student).load(slice_, device)
    if manifest.version != version:
        raise DataError(
            f"student/{student.name}: slice {slice_.key} was trained again while it was released: "
            f"materialise student/{student.name}/release again"
        )
    released = replace(manifest, version=release_version(version, table))
    save_serving(work.state.release(student.name) / released.version, learner, released, table)
    return released


def name_served(
    work: Workspace,
    student: Student,
    manifest: Manifest,
    *,
    action: str = RELEASED,
    why: str = "",
    pinned: bool = False,
    dropped: str = "",
    canary_goes_on: bool = False,
) -> Released:
    """Let a release whose files are there be served from now on; within ``changing``.

    Args:
        dropped: version of the release that this one takes over from, if that is not to be released again.
        canary_goes_on: else a canary ends, and is not released again if it is not what serves now.
    """
    add_graph(work.state.release(student.name) / manifest.version)  # one of an earlier exfm that is gone back to
    at, before = work.now().isoformat(), current_release(work, student)
    canary = None if before is None else before.canary
    if canary is not None and (not canary_goes_on or canary.version == manifest.version):
        dropped = dropped or ("" if canary.version == manifest.version else canary.version)
        canary = None
    released = Released(
        manifest.version, manifest.slice, manifest.trained_until, at, action=action, why=why, pinned=pinned,
        canary=canary, dropped=dropped,
    )  # fmt: skip
    return record(work, student, released)
