"""Prediction views: what a teacher said of an entity's earlier impressions, as input features.

Belongs here: whose predictions are aggregated, by what, over which windows, and when they can be known.
Not here: how (pipeline/transforms/predicted.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.clocks import check_clock, check_delay, check_reach
from exfm.declaration import Declaration, declaration
from exfm.encoding import COUNT, NUMBER, Encoding
from exfm.errors import DeclarationError, choose_from, not_empty, unique
from exfm.feature_views import check_keys, window_name
from exfm.learning import Teacher
from exfm.stream import Stream


@declaration
class PredictionView(Declaration):
    """Means and newest values of a teacher's logits over an entity's earlier impressions: the second channel.

    A student that names the view among its inputs reads what labels can't carry: the teacher's opinion of this user, or
    of this item, so far. Rows are stamped at the ends of slices and hold only predictions that were known by then.

    Features: ``<task>_mean_<window>`` (mean logit), ``<task>_last`` (of the newest impression), ``count_<window>``,
    ``age_hours`` (from the newest impression to the stamp).

    Args:
        name: also the Feast view's name.
        teacher: whose predictions.
        tasks: of its tasks.
        entities: columns of the log that key it.
        windows: multiples of the slice length.
        delay: how long after its stamp a value is in the online store: the time that a run needs from a slice's end to
            the load, the teacher's scores of the slice among it. Zero says at once, as a replayed log may.
        online: whether it is loaded into the online store; a student can read only such views.
    """

    name: str
    teacher: str
    tasks: tuple[str, ...]
    entities: tuple[str, ...]
    windows: tuple[timedelta, ...]
    delay: timedelta = timedelta(0)
    online: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"PredictionView({self.name})"
        for field in ("tasks", "entities", "windows"):
            not_empty(f"{where}.{field}", getattr(self, field), what=field.removesuffix("s"))
        check_clock(where, {"windows": self.windows}, None)
        check_delay(where, self.delay, self.ttl)
        for name in ("tasks", "entities"):
            unique(f"{where}.{name}", getattr(self, name))
        unique(f"{where}.windows", map(window_name, self.windows))
        unique(f"{where}.tasks", self.features)
        check_keys(f"{where}.entities", self.entities, (*self._worked_with, *self.features))

    @property
    def count_features(self) -> tuple[str, ...]:
        return tuple(f"count_{window_name(window)}" for window in self.windows)

    @property
    def number_features(self) -> tuple[str, ...]:
        """Logits and the age, Float32."""
        means = tuple(f"{task}_mean_{window_name(window)}" for task in self.tasks for window in self.windows)
        return (*means, *(f"{task}_last" for task in self.tasks), "age_hours")

    @property
    def features(self) -> tuple[str, ...]:
        return self.count_features + self.number_features

    @property
    def ttl(self) -> timedelta:
        """After this a row says nothing more; the slice that it may miss is counted in."""
        return max(self.windows) + min(self.windows)

    @property
    def description(self) -> str:
        return (
            f"What teacher {self.teacher} said of earlier impressions by {', '.join(self.entities)}: counts, means "
            "and newest logits; a prediction counts from when it is known."
        )

    def encoding(self, feature: str, dtypes: Mapping[str, type]) -> Encoding:
        """How a feature becomes an input of networks.

        Args:
            dtypes: of the log's id columns.
        """
        return COUNT if feature in self.count_features else NUMBER

    @property
    def _worked_with(self) -> tuple[str, ...]:
        """Columns that stand beside the entities while rows are made."""
        made = (f"{task}_{what}" for task in self.tasks for what in ("logit", "sum"))
        return ("count", "last_at", "start", "changed", *made)

    def check(self, stream: Stream, teachers: tuple[Teacher, ...]) -> None:
        """Refuse what the stream or the teacher can't give.

        Raises:
            DeclarationError: for an unknown teacher, task or entity, or a window that is no multiple of the slice.
        """
        where = f"PredictionView({self.name})"
        choose_from(f"{where}.teacher", self.teacher, (teacher.name for teacher in teachers), what="teacher")
        tasks = next(teacher.tasks for teacher in teachers if teacher.name == self.teacher)
        for task in self.tasks:
            choose_from(f"{where}.tasks", task, tasks, what=f"task of teacher {self.teacher}")
        columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
        for entity in self.entities:
            choose_from(f"{where}.entities", entity, columns, what="column of the log")
        for window in self.windows:
            if window % stream.slice_length:
                raise DeclarationError(
                    f"{where}.windows: {window} is not a multiple of the slice length {stream.slice_length}: use one"
                )
        check_reach(f"{where}.windows", max(self.windows), stream)


def known_after(teacher: Teacher, stream: Stream) -> timedelta:
    """How long after a slice's end its predictions are there.

    The checkpoint that scores slice t trained last on t - lag, when the longest window of its tasks had closed there.
    """
    longest = max(stream.task(task).window for task in teacher.tasks)
    return max(longest - teacher.lag * stream.lengths[0], timedelta(0))
