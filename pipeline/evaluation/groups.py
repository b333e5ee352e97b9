"""Whose rows belong together: a user's, and those of one request. Metrics of order are within them.

Belongs here: which group each row is of, and metrics by group. Not here: their arithmetic (models/ranking.py).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from exfm.stream import Slice
from models.metrics import Floats
from models.ranking import gauc, ndcg, recall
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Groups:
    """Groups of a slice's rows, by number, -1 where not known; ``None``: no metric asks for them.

    Args:
        users: (N,) int64.
        requests: (N,) int64.
        top: how many of a request's first places count.
    """

    users: np.ndarray | None = None
    requests: np.ndarray | None = None
    top: int = 10

    def take(self, rows: np.ndarray) -> "Groups":
        """Those of some rows: a mask (N,), or positions."""
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


def groups_of(work: Workspace, slice_: Slice, impressions: pl.DataFrame) -> Groups:
    """Those of a slice's rows, in the order of ``impressions`` (``impression_id``)."""
    user, request = work.project.stream.user.name, work.project.stream.request
    columns = ["impression_id", user, *([request.name] if request is not None else [])]
    shown = work.table("impressions").read([slice_], columns=columns)
    rows = impressions.select("impression_id").join(shown, on="impression_id", how="left", maintain_order="left")
    requests = None if request is None else _numbered(rows[request.name])
    return Groups(_numbered(rows[user]), requests, request.top if request is not None else 0)


def _numbered(values: pl.Series) -> np.ndarray:
    """(N,) int64: alike where the values are, -1 where they are null."""
    numbers: np.ndarray = values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - 1
    return numbers
