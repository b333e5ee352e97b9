"""The workspace: one project and where its state lies, handed to every asset.

Belongs here: which table is where, the Feast store, the clock. Not here: what is read, computed or written.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from exfm.load import load_state
from exfm.project import Project
from exfm.state import State
from pipeline.tables import SliceTable

if TYPE_CHECKING:
    from feast import FeatureStore


def utc_now() -> datetime:
    return datetime.now(UTC)


READ_BY_COLUMN = ("logged_inputs", "logged_teacher_features")  # one table for all models: each reads its inputs


@dataclass(frozen=True)
class Workspace:
    """A project, its state, and what time it is there.

    Args:
        fixed_state: where state lies; ``None`` asks the environment when it is first needed, so that definitions
            load (and the graph can be looked at) before the log's folder is known.
        now: the clock; a test gives its own.
    """

    project: Project
    fixed_state: State | None = None
    now: Callable[[], datetime] = field(default=utc_now)

    @cached_property
    def state(self) -> State:
        return self.fixed_state or load_state(self.project)

    def table(self, name: str) -> SliceTable:
        return self._sliced(self.state.table(name), name, by_column=name in READ_BY_COLUMN)

    def quarantine(self, name: str) -> SliceTable:
        teachers = {teacher.view: f"teacher/{teacher.name}/predictions" for teacher in self.project.teachers}
        return self._sliced(self.state.quarantine(name), f"quarantine/{name}", teachers.get(name, name))

    def features(self, view: str) -> SliceTable:
        return self._sliced(self.state.features(view), f"features/{view}")

    def evaluations(self, student: str) -> SliceTable:
        return self._sliced(self.state.evaluations(student), f"student/{student}/evaluation")

    def _sliced(self, folder: Path, name: str, asset: str | None = None, *, by_column: bool = False) -> SliceTable:
        return SliceTable(folder, name, asset, by_column, self.project.stream.part_rows)

    @cached_property
    def device(self) -> str:
        """``cuda`` where there is a GPU, else ``cpu`` (importing torch takes 1-2 s)."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def store(self) -> "FeatureStore":
        """The project's Feast store, opened once a process (importing feast takes 3-4 s)."""
        from feature_repo.store import open_store

        return open_store(self.project, self.state)
