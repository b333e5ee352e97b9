"""A project: everything that one stream's users own, declared once.

Belongs here: the whole, and what must fit between its parts. Not here: loading one by name (projects/load.py).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import Field, dataclass, fields, is_dataclass
from datetime import timedelta

from projects.errors import DeclarationError, at_least, choose_from, identifier, unique
from projects.features import FeatureView
from projects.histories import HistoryView
from projects.learning import Student, Teacher
from projects.networks import TwoTower
from projects.predicted import PredictionView, known_after
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
class Columns:
    """Inputs by kind: categorical ids; numeric features and lists of ids as ``<view>__<feature>``.

    ``of_teachers`` are those features that are made of a teacher's predictions.
    """

    ids: tuple[str, ...]
    features: tuple[str, ...]
    histories: tuple[str, ...] = ()
    of_teachers: tuple[str, ...] = ()

    @property
    def of_views(self) -> tuple[str, ...]:
        """All that comes from feature views."""
        return self.features + self.histories


@dataclass(frozen=True, kw_only=True)
class Project:
    """A stream, the features kept of it, the teachers and the students that learn from it.

    Raises:
        DeclarationError: for the first part that does not fit, in one sentence with the mend.
    """

    name: str
    stream: Stream
    feature_views: tuple[FeatureView | HistoryView, ...]
    teachers: tuple[Teacher, ...]
    students: tuple[Student, ...]
    prediction_views: tuple[PredictionView, ...] = ()
    simulation: Simulation | None = None
    drift: Drift = Drift()
    retention: Retention = Retention()

    def __post_init__(self) -> None:
        identifier("Project.name", self.name)
        unique("Project.feature_views", (view.name for view in self.feature_views))
        unique("Project.teachers", (teacher.name for teacher in self.teachers))
        unique("Project.students", (student.name for student in self.students))
        unique("Project views", (*(v.name for v in self.all_views), *(t.view for t in self.teachers)))
        for view in self.feature_views:
            view.check(self.stream)
        for predicted in self.prediction_views:
            predicted.check(self.stream, self.teachers)
        for teacher in self.teachers:
            self._check_teacher(teacher)
        for student in self.students:
            self._check_student(student)

    def _check_teacher(self, teacher: Teacher) -> None:
        where = f"Teacher({teacher.name})"
        for task in teacher.tasks:
            choose_from(f"{where}.tasks", task, self.stream.task_names, what="task")
        for name in self.columns_of(teacher.inputs, where=f"{where}.inputs").of_teachers:
            raise DeclarationError(
                f"{where}.inputs: {name.partition('__')[0]!r} is made of a teacher's predictions, so it is there only "
                "after teachers have scored: drop it, students alone can read it"
            )

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
            self._check_in_time(student, self.teacher(teacher))
        if isinstance(student.network, TwoTower) and self.stream.item.name not in student.inputs:
            raise DeclarationError(
                f"{where}.inputs: {student.inputs} leave a TwoTower's item side empty: add {self.stream.item.name!r}"
            )
        columns = self.columns_of(student.inputs, where=f"{where}.inputs")
        for name in columns.of_views:
            view = self.view(name.partition("__")[0])
            if not view.online:
                raise DeclarationError(
                    f"{where}.inputs: {view.name!r} has online=False, so it can't be served: set online=True or drop it"
                )

    def _check_in_time(self, student: Student, teacher: Teacher) -> None:
        """A student that waited for its teacher would be staler than its control, and served later."""
        after, window = known_after(teacher, self.stream), self.stream.task(student.task).window
        if after > window:
            lag = -(-(after - window) // self.stream.slice_length) + teacher.lag
            raise DeclarationError(
                f"Student({student.name}).teacher: predictions of {teacher.name!r} are there {after} after a slice's "
                f"end, later than labels of {student.task!r} ({window}): use lag={lag}, or a teacher of shorter tasks"
            )

    @property
    def all_views(self) -> tuple[FeatureView | HistoryView | PredictionView, ...]:
        """Every view that can be an input."""
        return (*self.feature_views, *self.prediction_views)

    def teacher(self, name: str) -> Teacher:
        return next(teacher for teacher in self.teachers if teacher.name == name)

    def student(self, name: str) -> Student:
        return next(student for student in self.students if student.name == name)

    def view(self, name: str) -> FeatureView | HistoryView | PredictionView:
        return next(view for view in self.all_views if view.name == name)

    def listed_by(self, history: str) -> str:
        """The id column whose ids a history's column lists."""
        view = self.view(history.partition("__")[0])
        assert isinstance(view, HistoryView)
        return view.of

    def columns_of(self, inputs: Iterable[str], *, where: str) -> Columns:
        """The columns of ``logged_inputs`` that a list of inputs names.

        A feature's column is ``<view>__<feature>``, as Feast's full feature names are.

        Raises:
            DeclarationError: if an input is neither a column of the log, a feature view nor a ``view:feature``.
        """
        ids = {column.name for column in self.stream.id_columns}
        views = {view.name: view for view in self.all_views}
        chosen_ids: list[str] = []
        chosen_features: list[str] = []
        chosen_histories: list[str] = []
        for name in inputs:
            view_name, _, feature = name.partition(":")
            if name in ids:
                chosen_ids.append(name)
            elif view_name in views and (not feature or feature in views[view_name].features):
                view = views[view_name]
                names = [f"{view_name}__{name}" for name in ((feature,) if feature else view.features)]
                (chosen_histories if isinstance(view, HistoryView) else chosen_features).extend(names)
            else:
                known = ", ".join([*sorted(ids), *views, *(f"{v}:<feature>" for v in views)])
                raise DeclarationError(f"{where}: {name!r} is not a column or a feature: use one of {known}")
        unique(where, chosen_ids + chosen_features + chosen_histories)
        for history in chosen_histories:
            if (of := self.listed_by(history)) not in chosen_ids:
                raise DeclarationError(
                    f"{where}: history {history.partition('__')[0]!r} lists {of!r}, which is not an input, so there is "
                    f"no target to attend with: add {of!r}"
                )
        predicted = {view.name for view in self.prediction_views}
        return Columns(
            ids=tuple(chosen_ids),
            features=tuple(chosen_features),
            histories=tuple(chosen_histories),
            of_teachers=tuple(name for name in chosen_features if name.partition("__")[0] in predicted),
        )

    @property
    def logged_columns(self) -> Columns:
        """Every input of any teacher or student, and the surface, but for those made of a teacher's predictions.

        What ``logged_inputs`` holds, in a fixed order: teachers read it, so their predictions can't be in it.
        """
        models: list[Teacher | Student] = [*self.teachers, *self.students]
        used = [self.columns_of(model.inputs, where=model.name) for model in models]
        # A student's rows are found by their surface, whether or not it is an input.
        ids = {self.stream.surface.name, *(name for columns in used for name in columns.ids)}
        features = {name for columns in used for name in columns.features}
        histories = {name for columns in used for name in columns.histories}
        every = tuple(f"{view.name}__{feature}" for view in self.feature_views for feature in view.features)
        return Columns(
            ids=tuple(column.name for column in self.stream.id_columns if column.name in ids),
            features=tuple(name for name in every if name in features),
            histories=tuple(name for name in every if name in histories),
        )

    @property
    def teacher_feature_columns(self) -> Columns:
        """Every input of any student that is made of a teacher's predictions: ``logged_teacher_features``."""
        used = {name for student in self.students for name in self.columns_of(student.inputs, where="").of_teachers}
        every = (f"{view.name}__{feature}" for view in self.prediction_views for feature in view.features)
        kept = tuple(name for name in every if name in used)
        return Columns(ids=(), features=kept, of_teachers=kept)


def digest(*parts: object) -> str:
    """Twelve hex digits that name declarations by content: the same on every machine, other when a field changes."""
    canonical = json.dumps([_plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _plain(part: object) -> object:
    if is_dataclass(part) and not isinstance(part, type):
        named = {f.name: _plain(getattr(part, f.name)) for f in fields(part) if f.init and not _as_before(part, f)}
        return {"type": type(part).__name__, **named}
    if isinstance(part, dict):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    if isinstance(part, timedelta):
        return part.total_seconds()
    return part if isinstance(part, str | int | float | bool | type(None)) else str(part)


def _as_before(part: object, declared: Field[object]) -> bool:
    """A field that came later (``metadata={"since": ...}``), left at its default: the digest is as it was without."""
    return "since" in declared.metadata and getattr(part, declared.name) == declared.default
