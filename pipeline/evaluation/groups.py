"""Whose rows belong together: a user's, and those of one request. Metrics of order are within them.

Belongs here: which group each row is of, and metrics by group. Not here: their arithmetic (models/ranking.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from exfm.stream import Slice
from models.means import Floats
from models.ranking import gauc, ndcg, recall
from pipeline.slices.beside import beside
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Groups:
    """Groups of a slice's rows, by number, -1 where not known; ``None``: no metric asks for them.

    Args:
        users: (N,) int32.
        requests: (N,) int32.
        top: how many of a request's first places count.
    """

    users: np.ndarray | None = None
    requests: np.ndarray | None = None
    top: int = 10

    def take(self, rows: np.ndarray | slice) -> "Groups":
        """Those of some rows: a mask (N,), positions, or a slice."""
        users, requests = (None if of is None else of[rows] for of in (self.users, self.requests))
        return Groups(users, requests, self.top)

    def metrics(self, logits: Floats, labels: Floats, weights: Floats | None = None) -> dict[str, float | None]:
        """gAUC by user; NDCG and recall by request (of the rows as they are); null where there are no groups."""
        by_request: list[float | None] = [None, None]
        if self.requests is not None:
            by_request = [metric(logits, labels, self.requests, self.top) for metric in (ndcg, recall)]
        of_users = None if self.users is None else gauc(logits, labels, self.users, weights)
        return {"gauc": of_users, "ndcg": by_request[0], "recall": by_request[1]}


NO_GROUPS = Groups()


def groups_of(work: Workspace, slice_: Slice, shown: Iterable[pl.DataFrame]) -> Groups:
    """Those of a slice's rows, in their order.

    Args:
        shown: ``impression_id``, part by part.
    """
    user, request = work.project.stream.user.name, work.project.stream.request
    of = {name: Numbering() for name in (user, *([request.name] if request is not None else []))}
    for part in beside(work.table("impressions"), slice_, shown, list(of)):
        for name, numbering in of.items():
            numbering.add(part[name])
    numbers = {name: numbering.numbers() for name, numbering in of.items()}
    top = request.top if request is not None else 0
    return Groups(numbers[user], numbers[request.name] if request is not None else None, top)


class Numbering:
    """Values by their rank among all that differ, given part by part: of each row only a number is held.

    Rows wait until they are more than the values that are known: so all lookups together take time by the number of
    rows, not of parts times values.
    """

    def __init__(self) -> None:
        self._known: pl.DataFrame | None = None  # each value once, and its place
        self._places: list[pl.Series] = []
        self._waiting: list[pl.Series] = []

    def add(self, values: pl.Series) -> None:
        self._waiting.append(values.alias("value"))
        if self._known is None or sum(map(len, self._waiting)) > self._known.height:
            self._place()

    def _place(self) -> None:
        values, self._waiting = pl.concat(self._waiting).to_frame(), []
        fresh = values.unique(maintain_order=True)
        if self._known is None:
            self._known = fresh.with_row_index("place")
        else:
            fresh = fresh.join(self._known, on="value", how="anti", nulls_equal=True)
            self._known = pl.concat([self._known, fresh.with_row_index("place", offset=self._known.height)])
        rows = values.join(self._known, on="value", how="left", maintain_order="left", nulls_equal=True)
        self._places.append(rows["place"])

    def numbers(self) -> np.ndarray:
        """(N,) int32, -1 where the value is null; asked for once: what was held of the rows is let go meanwhile."""
        if self._waiting:
            self._place()
        assert self._known is not None
        ranks = self._known["value"].rank("dense").cast(pl.Int32).fill_null(0).to_numpy() - 1
        numbers = np.empty(sum(map(len, self._places)), dtype=np.int32)
        end = len(numbers)
        while self._places:
            places = self._places.pop()
            numbers[end - len(places) : end] = ranks[places.to_numpy()]
            end -= len(places)
        return numbers
