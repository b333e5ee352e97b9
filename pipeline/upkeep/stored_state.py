"""What is stored of each asset, and what of it is out of date: looked up when first asked, once.

Belongs here: slices as sets of their indices, by asset. Not here: what makes them out of date (verify/), what follows
from it (exfm_assets/).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from exfm.learning import Teacher
from exfm.stream import Slice
from feature_repo.stamp import applied, registry_version
from pipeline.imports.entries import FOLDER
from pipeline.imports.run import due
from pipeline.registry.plain_manifests import read_manifest
from pipeline.slices.predictions import scored_slices
from pipeline.slices.teaching import teaching
from pipeline.streams.layout import Listing, listed_once
from pipeline.streams.simulated_log import drawn_from, is_stamped, standing
from pipeline.tables import DataError
from pipeline.verify import files_whole
from pipeline.verify.models_current import DAMAGED, Fault
from pipeline.verify.online_current import loaded_online
from pipeline.verify.tables_current import looks_of, tables_of
from pipeline.workspace import Workspace

WHOLE = -1  # the index under which an asset without slices has its fault


class StoredState:
    """A workspace as it is at one moment.

    Args:
        read_whole: whether files are read to tell whether they are damaged; else their sizes must do.
    """

    def __init__(self, work: Workspace, *, read_whole: bool = False) -> None:
        self.work, self._read_whole = work, read_whole
        self._stored: dict[str, frozenset[int]] = {}
        self._outdated: dict[str, Mapping[int, Fault]] = {}
        self._listing: Listing = {}

    def stored(self, asset: str) -> frozenset[int]:
        """Indices of the slices that are stored of an asset, whatever they were made of."""
        if asset not in self._stored:
            look = self._looks.get(asset)
            self._stored[asset] = frozenset(look()) if look is not None else frozenset()
        return self._stored[asset]

    def outdated(self, asset: str) -> Mapping[int, Fault]:
        """Index of a slice -> why what is stored of it is not what would be made now."""
        if asset not in self._outdated:
            look = self._faults.get(asset)
            damaged = {fault_index(fault): fault for fault in self._damaged.get(asset, ())}
            with listed_once(self._listing):
                faults = {fault_index(fault): fault for fault in (look() if look is not None else ())}
            self._outdated[asset] = damaged | faults
        return self._outdated[asset]

    @cached_property
    def _damaged(self) -> dict[str, list[Fault]]:
        """By asset, slices of which a file is not what was written."""
        found: dict[str, list[Fault]] = {}
        for asset, slice_ in files_whole.damaged_files(self.work) if self._read_whole else ():
            found.setdefault(asset, []).append(Fault(slice_, DAMAGED))
        return found

    def is_scored(self, name: str, index: int) -> bool:
        """Are the predictions there, and up to date, of who teaches a slice where students name a teacher?

        Of a slice that its teacher never scores there is nothing to wait for.
        """
        teacher = teaching(self.work, name, index)
        asset = f"teacher/{teacher.name}/predictions"
        if not self.is_ever_scored(teacher, index):
            return True
        return index in self.stored(asset) and index not in self.outdated(asset)

    def is_ever_scored(self, teacher: Teacher, index: int) -> bool:
        """Is a slice scored by a checkpoint that has learnt? Where a teacher has not learnt yet, nobody scores."""
        by = teacher.scorer_of(index)
        if by < 0:
            return False
        manifest = read_manifest(self.work, f"teacher/{teacher.name}", self.work.project.stream.slice_at(by))
        return manifest is None or manifest.get("trained_until") is not None

    def registry_fault(self) -> str | None:
        """Why Feast's registry must be applied again; ``None`` if it holds what is declared."""
        lists = applied(self.work.state.feast, registry_version(self.work.project))
        return None if lists is not None else "the declaration is not applied to it"

    def is_loaded(self) -> bool:
        """Was the online store ever loaded?"""
        return loaded_online(self.work) is not None

    def is_imported(self) -> bool:
        """Was anything of the log's files ever read in?"""
        return any((self.work.state.log / FOLDER).glob("*/*.json"))

    @cached_property
    def _faults(self) -> Mapping[str, Callable]:
        return {**looks_of(self.work), "simulated_log": self._simulated_faults, "imported_log": self._import_faults}

    @cached_property
    def _looks(self) -> dict[str, Callable[[], set[int]]]:
        """By asset, which of its slices are stored."""
        work, project = self.work, self.work.project
        looks: dict[str, Callable[[], set[int]]] = {"simulated_log": self._simulated}
        for asset, (table, _) in tables_of(work).items():
            looks[asset] = lambda table=table: _indices(table.stored(project.stream))  # type: ignore[misc]
        looks["student_progress"] = lambda: _indices(work.table("student_progress").stored(project.stream))
        for teacher in project.teachers:
            name = f"teacher/{teacher.name}"
            looks[f"{name}/checkpoint"] = lambda name=name: self._checkpoints(name)  # type: ignore[misc]
            looks[f"{name}/predictions"] = lambda teacher=teacher: _indices(scored_slices(work, teacher))  # type: ignore[misc]
        for student in project.students:
            name = f"student/{student.name}"
            looks[f"{name}/checkpoint"] = lambda name=name: self._checkpoints(name)  # type: ignore[misc]
            control = f"control/{student.name}"
            looks[f"{name}/control"] = lambda control=control: self._checkpoints(control)  # type: ignore[misc]
            table = work.evaluations(student.name)
            looks[f"{name}/evaluation"] = lambda table=table: _indices(table.stored(project.stream))  # type: ignore[misc]
        return looks

    def _checkpoints(self, model: str) -> set[int]:
        folder, stream = self.work.state.checkpoints(model), self.work.project.stream
        return _of_folders(folder, list(stream.slices(stream.first_slice, self.work.now())))

    def _simulated(self) -> set[int]:
        simulation, stream = self.work.project.drawn, self.work.project.stream
        if simulation is None:
            return set()
        slices = stream.slices(stream.first_slice, self.work.now())
        return {slice_.index for slice_ in slices if is_stamped(self.work.state.log, slice_)}

    def _simulated_faults(self) -> Iterator[Fault]:
        """Slices that would be drawn otherwise now, have landed since, or whose files are not what was written."""
        simulation, stream, log = self.work.project.drawn, self.work.project.stream, self.work.state.log
        if simulation is None:
            return
        for slice_ in stream.slices(stream.first_slice, self.work.now()):
            drawn = drawn_from(simulation, stream, slice_, self.work.now())
            if is_stamped(log, slice_) and standing(log, slice_, drawn) is None:
                yield Fault(slice_, "it is drawn otherwise, was late, or its files are not what was written")

    def _import_faults(self) -> Iterator[Fault]:
        """Files of the log that are new, or others than they were when they were read in."""
        if self.work.project.log is None:
            return
        try:
            counted = Counter(each.why for each in due(self.work))
        except DataError as error:  # said by the run that reads them
            yield Fault(None, str(error))
            return
        if counted:
            yield Fault(None, ", ".join(f"{count:,} {_files(count)} {why}" for why, count in counted.items()))


def _files(count: int) -> str:
    return "file is" if count == 1 else "files are"


def fault_index(fault: Fault) -> int:
    return WHOLE if fault.slice is None else fault.slice.index


def _indices(slices: list[Slice]) -> set[int]:
    return {slice_.index for slice_ in slices}


def _of_folders(folder: Path, slices: list[Slice]) -> set[int]:
    there = {path.name for path in folder.glob("slice=*") if path.is_dir()}
    return {slice_.index for slice_ in slices if slice_.folder in there}
