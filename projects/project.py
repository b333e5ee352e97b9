"""A project: everything that one stream's users own, declared once.

Belongs here: the whole, and what must fit between its parts. Not here: loading one by name (projects/load.py).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta

from projects.errors import DeclarationError, at_least, choose_from, identifier, unique
from projects.features import FeatureView
from projects.learning import Student, Teacher
from projects.networks import TwoTower
from projects.simulation import Simulation
from projects.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Drift:
    """When the drift report asks for retraining.

    Args:
        slices: how many of the newest evaluated slices are looked at; the reference is the same number before them.
        ne_rise: relative rise of a served student's NE over the reference.
        calibration_error: distance of mean prediction over mean label from 1.
    """

    slices: int = 3
    ne_rise: float = 0.05
    calibration_error: float = 0.25

    def __post_init__(self) -> None:
        at_least("Drift.slices", self.slices, 1)
        at_least("Drift.ne_rise", self.ne_rise, 0)
        at_least("Drift.calibration_error", self.calibration_error, 0)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which checkpoints keep their weights: the last ones, those released, those that stored predictions name."""

    last: int = 3

    def __post_init__(self) -> None:
        at_least("Retention.last", self.last, 1)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A stream, the features kept of it, the teachers and the students that learn from it.

    Raises:
        DeclarationError: for the first part that does not fit, in one sentence with the mend.
    """

    name: str
    stream: Stream
    feature_views: tuple[FeatureView, ...]
    teachers: tuple[Teacher, ...]
    students: tuple[Student, ...]
    simulation: Simulation | None = None
    drift: Drift = Drift()
    retention: Retention = Retention()

    def __post_init__(self) -> None:
        identifier("Project.name", self.name)
        unique("Project.feature_views", (view.name for view in self.feature_views))
        unique("Project.teachers", (teacher.name for teacher in self.teachers))
        unique("Project.students", (student.name for student in self.students))
        unique("Project views", (*(v.name for v in self.feature_views), *(t.view for t in self.teachers)))
        for view in self.feature_views:
            view.check(self.stream)
        for teacher in self.teachers:
            self._check_teacher(teacher)
        for student in self.students:
            self._check_student(student)

    def _check_teacher(self, teacher: Teacher) -> None:
        where = f"Teacher({teacher.name})"
        for task in teacher.tasks:
            choose_from(f"{where}.tasks", task, self.stream.task_names, what="task")
        self.columns_of(teacher.inputs, where=f"{where}.inputs")

    def _check_student(self, student: Student) -> None:
        where = f"Student({student.name})"
        choose_from(f"{where}.task", student.task, self.stream.task_names, what="task")
        if student.surface is not None:
            choose_from(f"{where}.surface", student.surface, self.stream.surfaces, what="surface")
        for teacher in student.teachers:
            choose_from(f"{where}.teacher", teacher, (t.name for t in self.teachers), what="teacher")
            tasks = self.teacher(teacher).tasks
            if student.task not in tasks:
                raise DeclarationError(
                    f"{where}.teacher: {teacher!r} does not predict {student.task!r}: add it to its tasks {tasks}"
                )
        if isinstance(student.network, TwoTower) and self.stream.item.name not in student.inputs:
            raise DeclarationError(
                f"{where}.inputs: {student.inputs} leave a TwoTower's item side empty: add {self.stream.item.name!r}"
            )
        for name in self.columns_of(student.inputs, where=f"{where}.inputs").features:
            view = self.view(name.partition("__")[0])
            if not view.online:
                raise DeclarationError(
                    f"{where}.inputs: {view.name!r} has online=False, so it can't be served: set online=True or drop it"
                )

    def teacher(self, name: str) -> Teacher:
        return next(teacher for teacher in self.teachers if teacher.name == name)

    def student(self, name: str) -> Student:
        return next(student for student in self.students if student.name == name)

    def view(self, name: str) -> FeatureView:
        return next(view for view in self.feature_views if view.name == name)

    def listed_by(self, history: str) -> str:
        """The id column whose ids a history's column lists."""
        view = self.view(history.partition("__")[0])
        return str(getattr(view, "of", self.stream.item.name))

    def columns_of(self, inputs: Iterable[str], *, where: str) -> "Columns":
        """The columns of ``logged_inputs`` that a list of inputs names.

        A feature's column is ``<view>__<feature>``, as Feast's full feature names are.

        Raises:
            DeclarationError: if an input is neither a column of the log, a feature view nor a ``view:feature``.
        """
        ids = {column.name for column in self.stream.id_columns}
        views = {view.name: view for view in self.feature_views}
        chosen_ids: list[str] = []
        chosen_features: list[str] = []
        for name in inputs:
            view_name, _, feature = name.partition(":")
            if name in ids:
                chosen_ids.append(name)
            elif view_name in views and (not feature or feature in views[view_name].features):
                names = (feature,) if feature else views[view_name].features
                chosen_features.extend(f"{view_name}__{feature_name}" for feature_name in names)
            else:
                known = ", ".join([*sorted(ids), *views, *(f"{v}:<feature>" for v in views)])
                raise DeclarationError(f"{where}: {name!r} is not a column or a feature: use one of {known}")
        unique(where, chosen_ids + chosen_features)
        return Columns(ids=tuple(chosen_ids), features=tuple(chosen_features))

    @property
    def logged_columns(self) -> "Columns":
        """Every input of any teacher or student, and the surface: what ``logged_inputs`` holds, in a fixed order."""
        models: list[Teacher | Student] = [*self.teachers, *self.students]
        used = [self.columns_of(model.inputs, where=model.name) for model in models]
        # A student's rows are found by their surface, whether or not it is an input.
        ids = {self.stream.surface.name, *(name for columns in used for name in columns.ids)}
        features = {name for columns in used for name in columns.features}
        every = tuple(f"{view.name}__{feature}" for view in self.feature_views for feature in view.features)
        return Columns(
            ids=tuple(column.name for column in self.stream.id_columns if column.name in ids),
            features=tuple(name for name in every if name in features),
        )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of ``logged_inputs``: categorical ids, and numeric features as ``<view>__<feature>``."""

    ids: tuple[str, ...]
    features: tuple[str, ...]
    histories: tuple[str, ...] = ()


def digest(*parts: object) -> str:
    """Twelve hex digits that name declarations by content: the same on every machine, other when a field changes."""
    canonical = json.dumps([_plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _plain(part: object) -> object:
    if is_dataclass(part) and not isinstance(part, type):
        named = {f.name: _plain(getattr(part, f.name)) for f in fields(part) if f.init}
        return {"type": type(part).__name__, **named}
    if isinstance(part, dict):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    if isinstance(part, timedelta):
        return part.total_seconds()
    return part if isinstance(part, str | int | float | bool | type(None)) else str(part)
