"""The store of one model's checkpoints: one folder a slice, found by the slice, never by file time.

Belongs here: which checkpoint trained on which slice, continuing from one, keeping and dropping.
Not here: a checkpoint's files (models/checkpoint.py), what it is made of (lineage.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exfm.errors import DeclarationError
from exfm.learning import Student, Teacher
from exfm.stream import Slice
from models.changes import State, table_of
from models.checkpoint import load_checkpoint, save_checkpoint
from models.errors import CheckpointError, DamagedError
from models.learner import Learner
from models.manifest import Manifest, load_manifest
from models.state import learner_state
from models.weights import drop_parts, drop_weights, part_file, weights_file
from pipeline.registry.lineage import Declared
from pipeline.registry.plain_manifests import has_weights
from pipeline.sidecar import sha256_of
from pipeline.tables import DataError
from pipeline.workspace import Workspace


def asset_of(name: str) -> str:
    """The asset that makes the checkpoints of ``teacher/<name>``, ``student/<name>`` or ``control/<name>``."""
    kind, _, model = name.partition("/")
    return f"student/{model}/control" if kind == "control" else f"{kind}/{model}/checkpoint"


MOST_IN_MEMORY = 2**28  # bytes: a table up to this size is kept, to tell what the next slice changes; else it is read


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints of a teacher, a student or a control.

    Args:
        name: ``teacher/<name>``, ``student/<name>`` or ``control/<name>``.
        declared: what they are trained under. Those of a declaration that only grew since stand; others are refused.
    """

    work: Workspace
    name: str
    declared: Declared = field(compare=False, repr=False)
    _tables: dict[str, State] = field(default_factory=dict, init=False, compare=False, repr=False)  # by version

    @classmethod
    def of(cls, work: Workspace, model: Teacher | Student, *, control: bool = False) -> "CheckpointStore":
        kind = "teacher" if isinstance(model, Teacher) else "control" if control else "student"
        return cls(work, f"{kind}/{model.name}", Declared.of(work.project, model, control=control))

    @property
    def declaration(self) -> str:
        return self.declared.digest

    def folder(self, slice_: Slice) -> Path:
        return self.work.state.checkpoints(self.name) / slice_.folder

    def has(self, slice_: Slice) -> bool:
        """Was the slice trained on? Its folder stays; that its files are whole is seen when they are read."""
        return self.folder(slice_).is_dir()

    def has_weights(self, slice_: Slice) -> bool:
        """Is the checkpoint there with its weights, not dropped by retention?"""
        return self.has(slice_) and has_weights(self.work, self.name, slice_)

    def manifest(self, slice_: Slice) -> Manifest:
        """What the checkpoint that trained last on a slice says of itself.

        Raises:
            DataError: if there is none, or it is damaged.
            CheckpointError: if it was trained under a declaration that is no part of the present one.
        """
        if not self.has(slice_):
            raise DataError(
                f"{self.name}: no checkpoint trained on slice {slice_.key}: "
                f"materialise {self.asset} for it and the slices before it first"
            )
        with self._worded(slice_):
            stored = load_manifest(self.folder(slice_))
            if self.declared.holds_for(stored.declaration, stored.declared):
                return stored
            return load_manifest(self.folder(slice_), self.declaration, self.declared.form)

    def standing(self, slice_: Slice) -> Manifest | None:
        """The manifest of a slice's checkpoint that the model as it is declared can go on from; ``None`` without one.

        Raises:
            CheckpointError: if it is of a format that only a later exfm reads: it is not made again.
        """
        stored = self._stored(slice_)
        return stored if stored and self.declared.holds_for(stored.declaration, stored.declared) else None

    def version_at(self, slice_: Slice) -> str | None:
        """The version that is stored for a slice, under whatever declaration; ``None`` if none can be read."""
        with suppress(CheckpointError):
            stored = self._stored(slice_)
            return None if stored is None else stored.version
        return None

    def rows_at(self, slice_: Slice) -> int:
        """Labelled rows of the slice that its checkpoint learnt from; 0 if none is stored or it can't be read."""
        stored = self._stored(slice_)
        return 0 if stored is None else stored.rows

    def _stored(self, slice_: Slice) -> Manifest | None:
        """The stored manifest; ``None`` where there is none, or a damaged one.

        Raises:
            CheckpointError: if it is of a format that only a later exfm reads: it is not made again.
        """
        try:
            return load_manifest(self.folder(slice_)) if self.has(slice_) else None
        except DamagedError:
            return None

    def holds(self, slice_: Slice, version: str) -> bool:
        """Is this very version stored whole for the slice? One of another declaration, or a damaged one, is not."""
        manifest = self._stored(slice_)
        if manifest is None:
            return False
        weights = weights_file(self.folder(slice_))
        if weights is None:  # retention never drops the newest: they were lost
            return manifest.version == version and not self._is_newest(slice_)
        parts = [(part_file(self.folder(slice_), part), part.weights) for part in manifest.parts]
        files = [(weights, manifest.weights), *parts]
        return manifest.version == version and all(path.is_file() and sha256_of(path) == sha for path, sha in files)

    def outdated(self, slices: Iterable[Slice]) -> str | None:
        """Why stored checkpoints are trained again; ``None`` if all are of the present declaration, or it only grew."""
        for slice_ in slices:
            try:
                stored = self._stored(slice_)
            except CheckpointError:
                return None  # of a later exfm: that is refused where it is read
            if stored is None or self.declared.holds_for(stored.declaration, stored.declared):
                continue
            try:
                self.manifest(slice_)
            except CheckpointError as error:
                reason = str(error).removeprefix("checkpoint ").rpartition(": train from")[0]
                return f"{reason}: it is trained again, and all that continues it"
        return None

    def _is_newest(self, slice_: Slice) -> bool:
        stream = self.work.project.stream
        there = {path.name for path in self.work.state.checkpoints(self.name).glob("slice=*")}
        return not any(later.folder in there for later in stream.slices(slice_.end, self.work.now()))

    def load(self, slice_: Slice, device: str) -> tuple[Learner, Manifest]:
        """The checkpoint that trained last on a slice.

        Raises:
            DataError, CheckpointError: as ``manifest`` does, and if its weights were dropped.
        """
        self.manifest(slice_)
        with self._worded(slice_):
            return load_checkpoint(self.folder(slice_), device=device)

    def save(self, slice_: Slice, learner: Learner, member: int, **fields: Any) -> Manifest:
        """Write a member of a learner as the slice's checkpoint.

        Raises:
            CheckpointError: if the system refuses to write.
        """
        before = self.folder(self.work.project.stream.slice_at(slice_.index - 1)) if slice_.index > 0 else None
        known = self._tables.pop(str(fields.get("parent")), None)
        manifest = save_checkpoint(
            self.folder(slice_), learner, member, after=before, table=known,
            declared=dict(self.declared.form), **fields,
        )  # fmt: skip
        table = table_of(learner_state(learner, member))
        self._tables.clear()
        if sum(value.nbytes for value in table.values()) <= MOST_IN_MEMORY:
            self._tables[manifest.version] = table
        return manifest

    @contextmanager
    def _worded(self, slice_: Slice) -> Iterator[None]:
        """What is damaged is said with the asset that makes it again."""
        try:
            yield
        except DamagedError as damaged:
            message = str(damaged).removesuffix(": train it again")
            raise DataError(f"{message}: materialise {self.asset} for slice {slice_.key} again") from damaged

    @property
    def asset(self) -> str:
        return asset_of(self.name)

    def drop_older(self, than: Slice, kept: Iterable[str]) -> None:
        """Drop the weights of checkpoints of slices before one, but for some versions; manifests stay."""
        versions, stream = set(kept), self.work.project.stream
        folders = sorted(path for path in self.work.state.checkpoints(self.name).glob("slice=*") if path.is_dir())
        for folder in folders:
            if weights_file(folder) is None:
                continue
            try:
                manifest = load_manifest(folder)
                slice_ = stream.slice_of(manifest.slice)
            except (CheckpointError, DeclarationError):
                continue  # whose weights they are can't be told: they stay until it is made again
            if slice_.index < than.index and manifest.version not in versions:
                drop_weights(folder)
        drop_parts(self.work.state.checkpoints(self.name), folders)
