"""Feature views: which counts and rates of the past are kept for users, items and their crosses.

Belongs here: what is aggregated, over which windows, how often. Not here: how (pipeline/transforms/aggregates.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.clocks import check_clock, check_delay, check_every, check_reach
from exfm.declaration import Declaration, declaration
from exfm.encoding import COUNT, NUMBER, Encoding
from exfm.errors import DeclarationError, at_least, choose_from, not_empty, share, unique
from exfm.stream import Stream

INTERACTIONS, IMPRESSIONS = "interactions", "impressions"


def window_name(window: timedelta) -> str:
    """A window's short name: ``7d``, ``6h``, ``30m``."""
    minutes = window // timedelta(minutes=1)
    for unit, size in (("d", 24 * 60), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def check_keys(field: str, keys: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Refuse a key that is named as something that a view makes, or works with on the way.

    Raises:
        DeclarationError: for the first.
    """
    for key in keys:
        if key in others:
            raise DeclarationError(
                f"{field}: {key!r} is also a column that the view itself makes: rename the log's column"
            )


def check_pushed(where: str, pushed: bool, online: bool) -> None:
    """Refuse values that are pushed nowhere.

    Raises:
        DeclarationError: if they are.
    """
    if pushed and not online:
        raise DeclarationError(f"{where}.pushed: True pushes into an online store: set online=True, or drop it")


@declaration
class FeatureView(Declaration):
    """Counts and rates of an entity's past, over several half-open windows that end at the row's ``event_timestamp``.

    Feature names are ``<what>_<window>`` for counts and ``<task>_rate_<window>`` for rates, for example ``click_6h``.

    Args:
        name: also the Feast view's name.
        entities: columns of the log that key it, for example ``("user_id", "surface")``.
        counts: what is counted: ``interactions``, ``impressions``, or a task (its outcomes, from when they are known).
        rates: tasks whose outcomes are divided by impressions, smoothed towards ``prior`` with ``prior_weight`` rows.
        windows: lengths, each a multiple of ``every``.
        every: rows are stamped on multiples of this; it divides the slice length. The graph loads the online store when
            a slice has ended, so what a student reads is stamped at ends of slices, or ``pushed``; teachers score a
            slice when it has ended, so for them it may be shorter.
        delay: how long after its stamp a value is in the online store (``created_timestamp`` = stamp + delay): the time
            that a run needs from a slice's end to the load. Zero says at once, as a replayed log may.
        online: whether it is loaded into the online store; a student can read only such views.
        pushed: another job pushes every stamp's values into the online store, as fast as ``delay`` says; the graph
            loads none.
    """

    name: str
    entities: tuple[str, ...]
    windows: tuple[timedelta, ...]
    every: timedelta
    counts: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    prior: float = 0.1
    prior_weight: float = 10.0
    delay: timedelta = timedelta(0)
    online: bool = True
    pushed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"FeatureView({self.name})"
        not_empty(f"{where}.entities", self.entities, what="entity")
        not_empty(f"{where}.windows", self.windows, what="window")
        not_empty(f"{where}.counts", self.counts + self.rates, what="count or rate")
        check_clock(where, {"windows": self.windows}, self.every)
        check_delay(where, self.delay, self.ttl)
        share(f"{where}.prior", self.prior)
        at_least(f"{where}.prior_weight", self.prior_weight, 0)
        for name in ("entities", "counts", "rates"):
            unique(f"{where}.{name}", getattr(self, name))
        unique(f"{where}.windows", map(window_name, self.windows))
        unique(f"{where}.rates", self.features)
        check_pushed(where, self.pushed, self.online)
        check_keys(f"{where}.entities", self.entities, (*self._worked_with, *self.features))

    @property
    def ttl(self) -> timedelta:
        """After this a row says nothing more: every event it counted has left every window."""
        return max(self.windows) + self.every

    @property
    def count_features(self) -> tuple[str, ...]:
        return tuple(f"{what}_{window_name(window)}" for what in self.counts for window in self.windows)

    @property
    def rate_features(self) -> tuple[str, ...]:
        return tuple(f"{task}_rate_{window_name(window)}" for task in self.rates for window in self.windows)

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names in the order in which they are stored: counts (Int64), then rates (Float32)."""
        return self.count_features + self.rate_features

    @property
    def sources(self) -> tuple[str, ...]:
        """What it is made of: ``interactions``, ``impressions``, or tasks (their outcomes)."""
        return tuple(dict.fromkeys((*self.counts, *self.rates, *([IMPRESSIONS] if self.rates else []))))

    @property
    def description(self) -> str:
        return (
            f"Counts and rates by {', '.join(self.entities)} over half-open windows, one row when a value changes; "
            "an outcome counts from when it is known."
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
        counted = (*self.counts, *self.rates, IMPRESSIONS)
        return ("at", "stamp", *counted, *(f"{name}_{window_name(w)}" for name in counted for w in self.windows))

    def check(self, stream: Stream) -> None:
        """Refuse what the stream can't give.

        Raises:
            DeclarationError: for an unknown entity, count or rate, or an ``every`` that does not divide the slice.
        """
        where = f"FeatureView({self.name})"
        roles = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
        for entity in self.entities:
            choose_from(f"{where}.entities", entity, roles, what="column of the log")
        for what in self.counts:
            choose_from(f"{where}.counts", what, (INTERACTIONS, IMPRESSIONS, *stream.task_names), what="count")
        for task in self.rates:
            choose_from(f"{where}.rates", task, stream.task_names, what="task")
        if INTERACTIONS in self.counts and not set(self.entities) <= {stream.user.name, stream.item.name}:
            raise DeclarationError(
                f"{where}.counts: 'interactions' can't be counted by {self.entities}, "
                f"interactions carry only {stream.user.name} and {stream.item.name}: drop it or change the entities"
            )
        check_every(where, self.every, stream)
        check_reach(f"{where}.windows", max(self.windows), stream)
