"""Feature views: which counts and rates of the past are kept for users, items and their crosses.

Belongs here: what is aggregated, over which windows, how often. Not here: how (exfm_assets/transforms/aggregates.py).
"""

from dataclasses import dataclass
from datetime import timedelta

from projects.errors import DeclarationError, choose_from, identifier, not_empty, positive, unique
from projects.stream import Stream

INTERACTIONS, IMPRESSIONS = "interactions", "impressions"


def window_name(window: timedelta) -> str:
    """A window's short name: ``7d``, ``6h``, ``30m``."""
    minutes = window // timedelta(minutes=1)
    for unit, size in (("d", 24 * 60), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """Counts and rates of an entity's past, over several half-open windows that end at the row's ``event_timestamp``.

    Feature names are ``<what>_<window>`` for counts and ``<task>_rate_<window>`` for rates, for example ``click_6h``.

    Args:
        name: also the Feast view's name.
        entities: columns of the log that key it, for example ``("user_id", "surface")``.
        counts: what is counted: ``interactions``, ``impressions``, or a task (its outcomes, from when they are known).
        rates: tasks whose outcomes are divided by impressions, smoothed towards ``prior`` with ``prior_weight`` rows.
        windows: lengths, each a multiple of ``every``.
        every: rows are stamped on multiples of this; it divides the slice length. The graph computes a slice when it
            has ended, so shorter than a slice is honest only where another job feeds the online store that often.
        delay: how long after its stamp a value is in the online store (``created_timestamp`` = stamp + delay).
        online: whether it is loaded into the online store; a student can read only such views.
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

    def __post_init__(self) -> None:
        identifier("FeatureView.name", self.name)
        where = f"FeatureView({self.name})"
        not_empty(f"{where}.entities", self.entities, what="entity")
        not_empty(f"{where}.windows", self.windows, what="window")
        not_empty(f"{where}.counts", self.counts + self.rates, what="count or rate")
        positive(f"{where}.every", self.every)
        unique(f"{where}.windows", map(window_name, self.windows))
        for window in self.windows:
            positive(f"{where}.windows", window)
            if window % self.every:
                raise DeclarationError(
                    f"{where}.windows: {window} is not a multiple of every={self.every}: use a multiple"
                )

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
        if stream.slice_length % self.every:
            raise DeclarationError(
                f"{where}.every: {self.every} does not divide the slice length {stream.slice_length}: use one that does"
            )
