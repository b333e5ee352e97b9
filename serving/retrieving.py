"""A retrieval's answer: the items with the highest scores of an index, ranked by another student where that is asked.

Belongs here: what follows what. Not here: the index (item_index.py), when it is made anew (indexes.py), ranking
(answering.py), HTTP (app.py).
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from serving.answering import Answer, Answering, Ranked, timed
from serving.errors import RequestError
from serving.exploring import Order
from serving.features import Asked, Gathered, ItemCache
from serving.impression_ids import impression_ids
from serving.indexes import Indexes
from serving.releases import Serving
from serving.requests import Wanted, wanted_of
from serving.retrievers import Retriever


class Retrieving:
    """Retrieval over the releases, the store and the log of an ``Answering``."""

    def __init__(self, answering: Answering) -> None:
        self.answering, limits = answering, answering.limits
        uncached = ItemCache(0)  # an index reads all items, and would leave no room to those that are asked for
        self.indexes = Indexes(
            answering.project, answering.state, answering.releases,
            lambda signature: answering.reader_of(signature, uncached), answering.schema, answering.now,
            limits.items, limits.index_age,
        )  # fmt: skip

    def retrieve(self, student: str, body: bytes, given_up: Callable[[], bool] = lambda: False) -> Answer:
        """The items with the highest scores, best first.

        Where ``rank`` names a student, those are ranked by it: the answer is its, and its log has it.

        Raises:
            RequestError: if the request can't be answered as it is.
        """
        answering, seconds = self.answering, dict[str, float]()
        answering.serving(student)
        answering.check_log()
        retriever = self.indexes.of(student)
        wanted = wanted_of(
            body, answering.project, retriever.serving.student, lambda name: self._known(retriever, name),
            answering.limits.candidates, answering.now(),
        )  # fmt: skip
        with timed(seconds, "features"):
            gathered = retriever.reader.gather(Asked(wanted.shared, ({},), wanted.now))
        with timed(seconds, "search"):
            items, scores = retriever.search(gathered.columns, wanted.now.timestamp(), wanted.k)
        if wanted.rank is not None:
            return self._ranked(
                retriever, self._ranker(retriever, wanted.rank), wanted, items, scores, given_up, seconds
            )
        asked = Asked(wanted.shared, [{self._item: one} for one in items[self._item].to_pylist()], wanted.now)
        ranked = _as_found(scores)
        found = [one[self._item] for one in asked.each]
        answer = Answer(
            _body(retriever, ranked, found), scores.tolist(), retriever.serving, gathered, seconds=seconds
        )  # fmt: skip
        if not given_up() and answering.log is not None and len(scores):
            with timed(seconds, "log"):
                of_items = {name: items[name].to_pylist() for name in retriever.towers.item.signature.columns}
                served = replace(gathered, columns={**gathered.columns, **of_items})
                answering.log_answer(retriever.serving, asked, served, ranked)
        return answer

    @property
    def _item(self) -> str:
        return self.answering.project.stream.item.name

    def _ranker(self, retriever: Retriever, name: str) -> Serving:
        """The student that ranks what was retrieved.

        Raises:
            RequestError: if it can't.
        """
        ranker = self.answering.serving(name)
        surface, own = ranker.student.surface, retriever.serving.student.surface
        if surface is not None and surface != own:
            raise RequestError(
                f"rank: {name} ranks on surface {surface!r}, not on {own!r}: name a student of that surface, or of all"
            )
        return ranker

    def _known(self, retriever: Retriever, rank: str | None) -> frozenset[str]:
        """Columns that a request may bring."""
        known = retriever.reader.known
        if rank is not None:
            known |= self.answering.known(self._ranker(retriever, rank).student.name) - {*retriever.items.column_names}
        return known - {self._item}

    def _ranked(
        self,
        retriever: Retriever,
        ranker: Serving,
        wanted: Wanted,
        items: pa.Table,
        scores: np.ndarray,
        given_up: Callable[[], bool],
        seconds: dict[str, float],
    ) -> Answer:
        """Both stages: what was retrieved, in the order of the other student's scores."""
        read = {name for reader in self.answering.readers(ranker.student.name) for name in reader.of_log}
        names = [self._item, *(name for name in items.column_names if name in read)]
        each = items.select(list(dict.fromkeys(names))).to_pylist()
        if not each:
            gathered = Gathered()
            return Answer(_body(retriever, _as_found(scores), []), [], ranker, gathered, seconds=seconds)
        surface = self.answering.project.stream.surface.name
        shown_on = wanted.shared[surface] if ranker.student.surface is None else ranker.student.surface
        asked = Asked({**wanted.shared, surface: shown_on}, each, wanted.now)
        answer = self.answering.ranked(ranker, asked, given_up)
        retrieved = dict(zip((one[self._item] for one in each), scores.tolist(), strict=True))
        told = [{**one, "retrieved": retrieved[one["item"]]} for one in answer.body["scores"]]
        by = {"student": retriever.serving.student.name, **_index(retriever)}
        parts = {**seconds, **answer.seconds}
        together = {part: seconds.get(part, 0.0) + answer.seconds.get(part, 0.0) for part in parts}
        return replace(answer, body={**answer.body, "scores": told, "retrieval": by}, seconds=together)


def _index(retriever: Retriever) -> dict[str, Any]:
    """What is told of an index."""
    serving, index = retriever.serving, retriever.index
    return {
        "release": serving.number, "version": serving.version, "items": index.size, "made": retriever.made.isoformat()
    }  # fmt: skip


def _as_found(scores: np.ndarray) -> Ranked:
    """Items as an index gives them, best first."""
    request, count = uuid.uuid4(), len(scores)
    order = Order(np.arange(count), np.ones(count), is_drawn=False)
    return Ranked(scores, order, impression_ids(request, count), request.hex)


def _body(retriever: Retriever, ranked: Ranked, items: Sequence[Any]) -> dict[str, Any]:
    return {
        "request_id": ranked.request_id, "student": retriever.serving.student.name, **_index(retriever),
        "scores": ranked.told(items),
    }  # fmt: skip
