"""A student in a walk: its models, and what served it.

Belongs here: which checkpoint served a slice. Not here: what is stored of it (student_records.py), the order of work
on a slice (student_walk.py), metrics (evaluation/).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from exfm.learning import Student
from models.manifest import Manifest
from pipeline.registry.incremental_model import IncrementalModel

STUDENT, CONTROL, EVALUATION = "student", "control", "evaluation"


@dataclass(frozen=True)
class StudentRequest:
    """Which parts of a student are made: any of ``student``, ``control``, ``evaluation``."""

    student: Student
    parts: frozenset[str]


@dataclass
class StudentRun:
    """A student and its control, and older checkpoints of both, to judge them and to measure leads by.

    Args:
        serving_lag: slices from the one that a checkpoint trained on last to the first that it serves.
        again: by part, slices whose kept checkpoints are trained once more, for their weights.
        error: why it was left behind in this walk; the others go on.
        reported: whether that was said.
    """

    request: StudentRequest
    student: IncrementalModel
    control: IncrementalModel
    served: dict[str, IncrementalModel]
    serving_lag: int
    again: dict[str, frozenset[int]] = field(default_factory=dict)
    error: ValueError | None = None
    reported: bool = False

    @property
    def declared(self) -> Student:
        return self.request.student

    def model(self, part: str) -> IncrementalModel:
        return self.control if part == CONTROL else self.student

    @contextmanager
    def left_behind_on_error(self) -> Iterator[None]:
        """What can't be done for this student is its own trouble: it is noted, and the walk goes on without it."""
        try:
            yield
        except ValueError as error:  # DataError, CheckpointError, LearningError, RetrievalError
            self.error = error

    def served_at(self, index: int) -> int:
        """The last slice of the checkpoints that served slice ``index``: student's and control's; below 0: none did.

        It is ``serving_lag`` back where every slice is trained on. Students that are refreshed only when there is a
        reason have gaps, and what served then is what was there. A checkpoint of fewer labelled rows than ``Gate.rows``
        serves nobody: a network that has hardly learnt would be judged beside those that have.
        """
        at = index - self.serving_lag
        while at >= 0 and not all(model.has(at) for model in self.served.values()):
            at -= 1
        return at if all(self._has_learnt(model, at) for model in self.served.values()) else -1

    def _has_learnt(self, model: IncrementalModel, index: int) -> bool:
        """Has the checkpoint learnt from ``Gate.rows`` labelled rows? Told by the first few slices of its chain."""
        least, learnt = self.declared.gate.rows, 0
        for before in range(index + 1):
            if learnt >= least:
                break
            learnt += model.checkpoints.rows_at(model.stream.slice_at(before))
        return learnt >= least

    def judged(self, served: int) -> dict[str, Manifest]:
        """The manifests of student and control that served; none below 0."""
        return {} if served < 0 else {name: model.manifest(served) for name, model in self.served.items()}
