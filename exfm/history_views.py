"""History views: the last ids that an entity met, as a list feature.

Belongs here: whose history, of what, how long. Not here: how it is gathered (pipeline/transforms/histories.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.clocks import check_clock, check_delay, check_every, check_reach
from exfm.columns import FeatureColumn
from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, ages_encoding, list_encoding
from exfm.errors import DeclarationError, at_least, choose_from, not_empty, unique
from exfm.feature_views import IMPRESSIONS, INTERACTIONS, check_keys, check_pushed
from exfm.stream import Stream

LAST, ACTION, AT = "last", "action", "at"


@declaration
class HistoryView(Declaration):
    """The last ids of a column that an entity met before a moment: the feature ``last``, the newest at its end.

    Naming the view among a model's inputs gives it target attention over the list, and to each id what is known beside
    it: ``HistoryView(..., source=("click", "convert"), beside=("category",), since=True)`` has, place by place, the
    features ``category``, ``action`` (``click`` or ``convert``) and ``at`` (when, in seconds since 1970), of which
    networks see how long before the impression it was.

    Args:
        name: also the Feast view's name.
        entity: whose history: a column of the log, mostly the user.
        of: whose ids are listed: another column of the log, mostly the item.
        source: ``interactions``, ``impressions``, or a task (its outcomes, from when they are known); or several of
            them.
        beside: further columns of the log that are listed beside the ids.
        since: whether it is listed, too, when each was met.
        length: at most so many ids.
        window: events older than this are forgotten; a multiple of ``every``.
        every, delay, online, pushed: as in ``FeatureView``.
    """

    name: str
    entity: str
    of: str
    source: str | tuple[str, ...]
    window: timedelta
    every: timedelta
    length: int = 20
    beside: tuple[str, ...] = ()
    since: bool = False
    delay: timedelta = timedelta(0)
    online: bool = True
    pushed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"HistoryView({self.name})"
        at_least(f"{where}.length", self.length, 1)
        check_clock(where, {"window": (self.window,)}, self.every)
        check_delay(where, self.delay, self.ttl)
        check_pushed(where, self.pushed, self.online)
        not_empty(f"{where}.source", self.sources, what="source")
        unique(f"{where}.source", self.sources)
        for field, names in (("entity", (self.entity,)), ("of", (self.of,)), ("beside", self.beside)):
            check_keys(f"{where}.{field}", names, (AT, LAST, *([ACTION] if len(self.sources) > 1 else [])))
        if self.entity == self.of:
            raise DeclarationError(f"{where}.of: {self.of!r} is its own history: list another column")
        for name in self.beside:
            if name in (self.entity, self.of):
                raise DeclarationError(f"{where}.beside: {name!r} is its entity or what it lists: drop it")
        unique(f"{where}.beside", self.beside)

    @property
    def entities(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def features(self) -> tuple[str, ...]:
        action, at = (ACTION,) if len(self.sources) > 1 else (), (AT,) if self.since else ()
        return (LAST, *self.beside, *action, *at)

    @property
    def sources(self) -> tuple[str, ...]:
        """What it is made of, as in ``FeatureView``."""
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def description(self) -> str:
        met = ", ".join(self.sources)
        return f"The last {self.length} {self.of} of a {self.entity}'s {met}, strictly before the stamp."

    @property
    def words(self) -> dict[str, str]:
        """What each feature beside the ids is, for Feast's registry and Dagster's catalogue."""
        words = {name: f"{name} of each of the ids" for name in self.beside}
        words |= {ACTION: "What brought each of the ids", AT: "When each of the ids was met, seconds since 1970, UTC"}
        return {name: words[name] for name in self.features if name in words}

    def encoding(self, feature: str, dtypes: Mapping[str, type]) -> Encoding:
        """How a feature becomes an input of networks.

        Args:
            dtypes: of the log's id columns.
        """
        if feature == LAST:
            return list_encoding(self.of, dtypes[self.of])
        column = FeatureColumn(self.name, feature).name
        made = {ACTION: list_encoding(column, str), AT: ages_encoding(column)}
        return made[feature] if feature in made else list_encoding(feature, dtypes[feature])

    @property
    def ttl(self) -> timedelta:
        """After this a row says nothing more: every event that it lists has left the window."""
        return self.window + self.every

    def check(self, stream: Stream) -> None:
        """Refuse what the stream can't give.

        Raises:
            DeclarationError: for an unknown column or source, or an ``every`` that does not divide the slice.
        """
        where = f"HistoryView({self.name})"
        columns = [column.name for column in (stream.user, stream.item, stream.surface, *stream.context)]
        choose_from(f"{where}.entity", self.entity, columns, what="column of the log")
        choose_from(f"{where}.of", self.of, columns, what="column of the log")
        for name in self.beside:
            choose_from(f"{where}.beside", name, columns, what="column of the log")
        for source in self.sources:
            choose_from(f"{where}.source", source, (INTERACTIONS, IMPRESSIONS, *stream.task_names), what="source")
        read = dict.fromkeys((self.entity, self.of, *self.beside))
        if INTERACTIONS in self.sources and not read.keys() <= {stream.user.name, stream.item.name}:
            raise DeclarationError(
                f"{where}.source: 'interactions' carry only {stream.user.name} and {stream.item.name}, "
                f"not {' and '.join(read)}: use 'impressions' or a task"
            )
        check_every(where, self.every, stream)
        check_reach(f"{where}.window", self.window, stream)
