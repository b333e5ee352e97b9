"""History views: the last ids that an entity met, as a list feature.

Belongs here: whose history, of what, how long. Not here: how it is gathered (pipeline/transforms/histories.py).
"""

from collections.abc import Mapping
from datetime import timedelta

from exfm.clocks import check_clock, check_delay, check_every, check_reach
from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, list_encoding
from exfm.errors import DeclarationError, at_least, choose_from
from exfm.feature_views import IMPRESSIONS, INTERACTIONS, check_keys, check_pushed
from exfm.stream import Stream

LAST = "last"


@declaration
class HistoryView(Declaration):
    """The last ids of a column that an entity met before a moment: one feature, ``last``, the newest at its end.

    Naming the view among a model's inputs gives it target attention over the list.

    Args:
        name: also the Feast view's name.
        entity: whose history: a column of the log, mostly the user.
        of: whose ids are listed: another column of the log, mostly the item.
        source: ``interactions``, ``impressions``, or a task (its outcomes, from when they are known).
        length: at most so many ids.
        window: events older than this are forgotten; a multiple of ``every``.
        every, delay, online, pushed: as in ``FeatureView``.
    """

    name: str
    entity: str
    of: str
    source: str
    window: timedelta
    every: timedelta
    length: int = 20
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
        check_keys(f"{where}.entity", (self.entity,), ("at", LAST))
        check_keys(f"{where}.of", (self.of,), ("at", LAST))
        if self.entity == self.of:
            raise DeclarationError(f"{where}.of: {self.of!r} is its own history: list another column")

    @property
    def entities(self) -> tuple[str, ...]:
        return (self.entity,)

    @property
    def features(self) -> tuple[str, ...]:
        return (LAST,)

    @property
    def sources(self) -> tuple[str, ...]:
        """What it is made of, as in ``FeatureView``."""
        return (self.source,)

    @property
    def description(self) -> str:
        return f"The last {self.length} {self.of} of a {self.entity}'s {self.source}, strictly before the stamp."

    def encoding(self, feature: str, dtypes: Mapping[str, type]) -> Encoding:
        """How a feature becomes an input of networks.

        Args:
            dtypes: of the log's id columns.
        """
        return list_encoding(self.of, dtypes[self.of])

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
        choose_from(f"{where}.source", self.source, (INTERACTIONS, IMPRESSIONS, *stream.task_names), what="source")
        if self.source == INTERACTIONS and not {self.entity, self.of} <= {stream.user.name, stream.item.name}:
            raise DeclarationError(
                f"{where}.source: 'interactions' carry only {stream.user.name} and {stream.item.name}, "
                f"not {self.entity} and {self.of}: use 'impressions' or a task"
            )
        check_every(where, self.every, stream)
        check_reach(f"{where}.window", self.window, stream)
