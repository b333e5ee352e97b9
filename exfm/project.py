"""A project: everything that one stream's users own, declared once.

Belongs here: the whole, its inputs as columns. Not here: what must fit between its parts (cross_checks.py),
loading one by name (load.py).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from exfm.alerts import Alerts
from exfm.clocks import MOST_SLICES
from exfm.columns import Columns, FeatureColumn
from exfm.computed_views import PythonView, SqlView
from exfm.cross_checks import check_fit
from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, id_encoding
from exfm.errors import DeclarationError, above_zero, at_least, at_most, choose_from
from exfm.feature_views import INTERACTIONS, FeatureView
from exfm.freshness import Freshness, Limits, limits
from exfm.history_views import HistoryView
from exfm.input_columns import columns_of, logged_columns
from exfm.learning import Student, Teacher
from exfm.list_sides import lists_of_sides
from exfm.log_files import Log
from exfm.mlflow import MLflow
from exfm.online import View, graph_loads
from exfm.prediction_views import PredictionView, known_after
from exfm.served_inputs import ServedInputs
from exfm.simulation import Simulation
from exfm.source_views import SourceView
from exfm.stream import Stream

MOST_TRIES = 50


@declaration
class Drift(Declaration):
    """When the drift report asks for retraining; the defaults need no tuning.

    Every comparison is with the slices up to the one that what serves has learnt from last, and allows for what slices
    of their size differ by.

    Args:
        slices: how many slices are compared with as many before.
        ne_rise: relative rise of a served student's NE.
        calibration_error: distance of mean prediction over mean label from 1.
        psi: population stability index of an input, or of predictions.
        threshold: of the sequential test (Page-Hinkley) of NE, calibration and the teacher's lead, in standard
            deviations of one slice; smaller finds changes sooner, and more that are none.
        tries: candidates that have learnt from a change and that the gate may refuse before it asks for no more
            training; after that a student is trained further when it grows stale.
    """

    slices: int = 3
    ne_rise: float = 0.05
    calibration_error: float = 0.25
    psi: float = 0.2
    threshold: float = 6.0
    tries: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Drift.slices", self.slices, 1)
        at_most("Drift.slices", self.slices, MOST_SLICES)
        at_least("Drift.tries", self.tries, 1)
        at_most("Drift.tries", self.tries, MOST_TRIES)
        at_least("Drift.ne_rise", self.ne_rise, 0)
        at_least("Drift.calibration_error", self.calibration_error, 0)
        for name in ("psi", "threshold"):
            above_zero(f"Drift.{name}", getattr(self, name))


@declaration
class Upkeep(Declaration):
    """How far back the automation makes good what is late, missing or out of date.

    Args:
        look_back: the newest slices of tables that are kept full: those that come late, failed, were corrected or
            filled later are made again. What is declared otherwise is made again however old it is.
        retrain: the newest slices whose corrections are learnt anew, with all slices after them; a correction of an
            older one is only reported, for it costs as many slices of training as it is old, and the weights that
            it would continue are kept for as long.
        freshness: how old the data may be that the labels, and the values in the online store, are of.
        bearable_loss: NE, relative, that a student may lose to an older teacher or a rarer refresh: what
            ``freshness_cost`` weighs declared lags and freshness against.
    """

    look_back: int = 30
    retrain: int = 3
    freshness: Freshness = Freshness()
    bearable_loss: float = 0.0005

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Upkeep.look_back", self.look_back, 1)
        at_least("Upkeep.retrain", self.retrain, 0)
        at_least("Upkeep.bearable_loss", self.bearable_loss, 0)
        for name in ("look_back", "retrain"):
            at_most(f"Upkeep.{name}", getattr(self, name), MOST_SLICES)


@declaration
class Retention(Declaration):
    """Which checkpoints keep their weights: the last ones, those released, those that stored predictions name.

    Those that ``Upkeep.retrain`` needs are kept in any case.
    """

    last: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Retention.last", self.last, 1)
        at_most("Retention.last", self.last, MOST_SLICES)


@declaration
class Project(Declaration):
    """A stream, the features kept of it, the teachers and the students that learn from it.

    Args:
        log: how the log is made of files in another layout; ``None``: ``EXFM_DATA`` is in the canonical one.
        owners: ``team:<name>`` or e-mail addresses; they stand on every asset in Dagster and every object in Feast.
        mlflow: where releases and figures are mirrored; ``None``: nowhere.
        served: whether models learn from features as a server logged them; ``None``: from joined ones alone.

    Raises:
        DeclarationError: for the first part that does not fit, in one sentence with the mend.
    """

    name: str
    stream: Stream
    feature_views: tuple[FeatureView | HistoryView | SourceView | SqlView | PythonView, ...]
    teachers: tuple[Teacher, ...]
    students: tuple[Student, ...]
    prediction_views: tuple[PredictionView, ...] = ()
    simulation: Simulation | None = None
    log: Log | None = None
    drift: Drift = Drift()
    retention: Retention = Retention()
    upkeep: Upkeep = Upkeep()
    alerts: Alerts | None = None
    owners: tuple[str, ...] = ()
    mlflow: MLflow | None = None
    served: ServedInputs | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for owner in self.owners:
            if not re.fullmatch(r"team:[\w .-]+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
                raise DeclarationError(f"Project.owners: {owner!r} is no owner: use team:<name> or an e-mail address")
        check_fit(self)
        # A promise that the stream can't keep is refused here.
        _ = (self.labels_limits, self.online_limits)
        for teacher in self.teachers:
            _ = (self.checkpoint_limits(teacher), self.predictions_limits(teacher))
        for student in self.students:
            self.release_limits(student)

    @property
    def drawn(self) -> Simulation | None:
        """The simulated world whose log is drawn slice by slice; ``None`` of a real log, or a world that lives."""
        return None if self.simulation is None or self.simulation.live else self.simulation

    @property
    def all_views(self) -> tuple[View, ...]:
        """Every view that can be an input."""
        return (*self.feature_views, *self.prediction_views)

    def reads_log(self, table: str) -> bool:
        """Is a table of the log read at all? One that is not may be missing from it."""
        if table == "interactions":
            return any(INTERACTIONS in view.sources for view in self.feature_views)
        return table != "outcomes" or bool(self.stream.outcome_tasks)

    def teacher(self, name: str) -> Teacher:
        choose_from("teacher", name, (teacher.name for teacher in self.teachers), what="teacher")
        return next(teacher for teacher in self.teachers if teacher.name == name)

    def line_of(self, name: str) -> tuple[Teacher, ...]:
        """A teacher and who may take over from it, one after the other."""
        line = [self.teacher(name)]
        while heir := next((each for each in self.teachers if each.succeeds and each.succeeds.teacher == name), None):
            line.append(heir)
            name = heir.name
        return tuple(line)

    def student(self, name: str) -> Student:
        choose_from("student", name, (student.name for student in self.students), what="student")
        return next(student for student in self.students if student.name == name)

    def release_limits(self, student: Student) -> Limits:
        """How old the data may be that a student serves: the slices of its gate come after those it learnt from.

        Those of a canary come after that.
        """
        judged = student.gate.slices + (student.serving.canary_slices if student.serving.canary else 0)
        best = self.stream.task(student.task).window + (judged + 1) * self.stream.slice_length
        where = f"Student({student.name}).freshness"
        return limits(where, student.freshness, best, self.stream.slice_length)

    def checkpoint_limits(self, teacher: Teacher) -> Limits:
        """How old the data may be that a teacher's newest checkpoint learnt from."""
        window = max(self.stream.task(task).window for task in teacher.tasks)
        where = f"Teacher({teacher.name}).freshness"
        return limits(where, teacher.freshness, window + self.stream.slice_length, self.stream.slice_length)

    def predictions_limits(self, teacher: Teacher) -> Limits:
        """How old a teacher's newest predictions may be: they wait for the labels of the checkpoint that scores."""
        best = known_after(teacher, self.stream) + self.stream.slice_length
        return limits(f"Teacher({teacher.name}).freshness", teacher.freshness, best, self.stream.slice_length)

    @property
    def labels_limits(self) -> Limits:
        """How old the newest labels may be."""
        best = self.stream.longest_window + self.stream.slice_length
        return limits("Upkeep.freshness", self.upkeep.freshness, best, self.stream.slice_length)

    @property
    def online_limits(self) -> Limits:
        """How old the newest values in the online store may be: by the slice they are stamped at the end of."""
        longest = max((view.delay for view in self.all_views if graph_loads(view)), default=timedelta(0))
        best = self.stream.slice_length + longest
        return limits("Upkeep.freshness", self.upkeep.freshness, best, self.stream.slice_length)

    def view(self, name: str) -> View:
        return next(view for view in self.all_views if view.name == name)

    def listed_by(self, history: str) -> str:
        """The id column whose ids a history's column lists."""
        view = self.view(FeatureColumn.of(history).view)
        assert isinstance(view, HistoryView)
        return view.of

    def encoder(self, columns: Columns) -> dict[str, Encoding]:
        """How each of some columns becomes an input of networks."""
        dtypes = {column.name: column.dtype for column in self.stream.id_columns}
        inputs = {each.name: each for each in self.stream.inputs}
        encodings = {
            name: id_encoding(name, dtypes[name]) if name in dtypes else inputs[name].encoding_among(dtypes)
            for name in (*columns.of_log, *columns.derived)
        }
        for column in map(FeatureColumn.of, columns.of_views):
            encodings[column.name] = self.view(column.view).encoding(column.feature, dtypes)
        for side, of in lists_of_sides(self, columns).items():
            encodings[side] = replace(encodings[side], of=(of,))
        return encodings

    def columns_of(self, inputs: Iterable[str], *, where: str) -> Columns:
        """The columns of ``logged_inputs`` that a list of inputs names.

        A feature's column is ``<view>__<feature>``, as Feast's full feature names are.

        Raises:
            DeclarationError: if an input is neither a column of the log, a feature view nor a ``view:feature``.
        """
        return columns_of(self, inputs, where=where)

    @property
    def logged_columns(self) -> Columns:
        """Every input of any teacher or student, and the surface, but for those made of a teacher's predictions.

        What ``logged_inputs`` holds, in a fixed order: teachers read it, so their predictions can't be in it.
        """
        return logged_columns(self)

    @property
    def teacher_feature_columns(self) -> Columns:
        """Every input of any student that is made of a teacher's predictions: ``logged_teacher_features``."""
        used = {name for student in self.students for name in self.columns_of(student.inputs, where="").of_teachers}
        every = (FeatureColumn(view.name, each).name for view in self.prediction_views for each in view.features)
        kept = tuple(name for name in every if name in used)
        return Columns(ids=(), features=kept, of_teachers=kept)
