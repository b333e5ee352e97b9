"""Computed views: features by SQL or by a function of one's own over the log of the past.

Belongs here: what is computed, of how much of the past, how often. Not here: how (pipeline/transforms/computed.py).

Whatever is computed sees the log cut at the row's stamp, and no further back than its reach: it can't see the future.
"""

import re
from datetime import timedelta
from typing import Literal

from exfm.clocks import check_clock, check_delay, check_every, check_reach
from exfm.declaration import declaration
from exfm.errors import DeclarationError, at_least, not_empty, shown, unique
from exfm.stream import Stream
from exfm.typed_views import _TypedView

Table = Literal["impressions", "outcomes", "interactions"]
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@declaration
class _ComputedView(_TypedView):
    """What both kinds have in common."""

    reach: timedelta
    every: timedelta
    reads: tuple[Table, ...] = ("impressions",)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where
        not_empty(f"{where}.reads", self.reads, what="table")
        unique(f"{where}.reads", self.reads)
        check_clock(where, {"reach": (self.reach,)}, self.every)
        check_delay(where, self.delay, self.every)

    @property
    def sources(self) -> tuple[str, ...]:
        """What of the log it is made of."""
        return self.reads

    @property
    def ttl(self) -> timedelta:
        """After this a row says nothing more: the next one is there, or the entity has none."""
        return self.every + self.delay

    def check(self, stream: Stream) -> None:
        """Refuse what the stream can't give.

        Raises:
            DeclarationError: for an unknown entity, or an ``every`` that does not divide the slice.
        """
        self._check_keys(stream)
        check_every(self._where, self.every, stream)
        check_reach(f"{self._where}.reach", self.reach, stream)


@declaration
class SqlView(_ComputedView):
    """Features by a DuckDB query over the log's tables of the past.

    The query is run once for each stamp. It sees tables ``impressions``, ``interactions`` and ``outcomes`` with what
    happened in [stamp - reach, stamp); an outcome is known from its own time on, inside its task's window, and has the
    columns of its impression beside. Labels that are columns of the impressions are seen as outcomes, from when they
    are known. It can reach no file and no network.

    Args:
        sql: gives the entities and features by name, one row an entity; who has no row has no value.
        inputs: the features, ``Column``, ``Number``, ``Vector`` or ``Bag``.
        reach: how far back it looks; ``every``: rows are stamped on multiples of this, which divides the slice length.
        reads: the tables that it reads.
        delay, online, pushed: as in ``FeatureView``.
    """

    sql: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sql.strip():
            raise DeclarationError(f"{self._where}.sql: {shown(self.sql)} asks nothing: write a SELECT")

    @property
    def description(self) -> str:
        query = " ".join(self.sql.split())
        return f"By {', '.join(self.entities)}, over {self.reach} of {', '.join(self.reads)}: {query}"


@declaration
class PythonView(_ComputedView):
    """Features by a function of polars frames, as ``SqlView`` by a query.

    Args:
        function: ``package.module:function``, of a module that can be imported; called with
            ``impressions``, ``outcomes`` and ``interactions`` as ``polars.LazyFrame`` (those it reads, by keyword) and
            ``stamp``; gives a frame with entities and features.
        version: raised when the function gives something else: what was made of it is then made again.
    """

    function: str
    version: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(f"{self._where}.version", self.version, 1)
        if not _REFERENCE.fullmatch(self.function):
            raise DeclarationError(
                f"{self._where}.function: {shown(self.function)} is no reference: write package.module:function"
            )

    @property
    def description(self) -> str:
        return f"By {', '.join(self.entities)}, over {self.reach} of {', '.join(self.reads)}: {self.function}."
