"""A request's answer: features, scores, order, and what is logged of it.

Belongs here: what follows what, and how long each part takes. Not here: HTTP (app.py), each part itself.
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureStore

from exfm.project import Project
from exfm.state import State
from feature_repo.store import open_store
from serving.encoder import Signature
from serving.errors import RequestError
from serving.features import Asked, FeatureReader, Gathered, ItemCache
from serving.model import ServedModel
from serving.releases import Releases, Serving
from serving.request_log import RequestLog, Same, rows_of, schema_of
from serving.requests import asked_of, clock_of


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes.

    Args:
        body: bytes of a request.
        candidates: of a request.
        waiting: requests that are answered or wait for it at once; more are told to come again.
        seconds: after which a request is given up.
        item_age: seconds for which candidates' features are kept; 0: never.
        items: of an index, those that were shown last.
        index_age: seconds after which an index is made anew with the items' features of then.
    """

    body: int = 1_000_000
    candidates: int = 1_000
    waiting: int = 64
    seconds: float = 2.0
    item_age: float = 30.0
    items: int = 1_000_000
    index_age: float = 600.0


@dataclass
class Answer:
    """What is sent, and what is measured of it.

    Args:
        in_order: scores of the candidates as they were asked.
    """

    body: dict[str, Any]
    in_order: list[float]
    serving: Serving
    gathered: Gathered
    seconds: dict[str, float] = field(default_factory=dict)


class Answering:
    """All students of a project, over one Feast store.

    Args:
        log: where answers are logged; ``None``: nowhere.
        now: the clock of requests, in UTC; ``None``: the stream's.
        threads: of one score.
        store: ``None``: as ``feature_store.yaml`` says.
    """

    def __init__(
        self,
        project: Project,
        state: State,
        limits: Limits = Limits(),
        log: RequestLog | None = None,
        now: Callable[[], datetime] | None = None,
        threads: int = 1,
        store: FeatureStore | None = None,
    ) -> None:
        self.project, self.state, self.limits, self.log = project, state, limits, log
        self.now = now or clock_of(project)
        self._store, self._cache = store or open_store(project, state), ItemCache(limits.item_age)
        self.releases = Releases(state, project.students, self._reader, threads=threads)
        self._schemas: dict[str, pa.Schema] = {}
        stream = project.stream
        self._keys = (stream.user.name, stream.item.name, stream.surface.name)

    def _reader(self, model: ServedModel) -> FeatureReader:
        """Of a release that is being loaded; one whose answers could not be logged is refused here."""
        reader = self.reader_of(model.signature)
        self._schemas[model.version] = schema_of(model.signature, reader.dtypes, self._keys)
        return reader

    def reader_of(self, signature: Signature, cache: ItemCache | None = None) -> FeatureReader:
        """Features of some columns; ``cache``: of candidates' rows, ``None``: the common one."""
        return FeatureReader(self.project, self._store, signature, cache or self._cache)

    def schema(self, version: str) -> pa.Schema:
        """Columns of a loaded release's request log."""
        return self._schemas[version]

    def start(self) -> None:
        """Load what is released, and follow it."""
        if self.log is not None:
            self.log.start()
        self.releases.start()

    def stop(self) -> None:
        """End all threads; what was answered is logged."""
        self.releases.stop()
        if self.log is not None:
            self.log.stop()

    def serving(self, student: str) -> Serving:
        """What a student answers with.

        Raises:
            RequestError: if there is no such student, or nothing of it is released.
        """
        if student not in self.releases.students:
            names = ", ".join(self.releases.students)
            raise RequestError(f"{student!r:.60} is no student: use one of {names}", 404)
        serving = self.releases.of(student)
        if serving is None:
            fault = self.releases.faults.get(student)
            why = f"its release can't be served ({fault})" if fault else "it has no release yet: its gate passed none"
            raise RequestError(f"student {student}: {why}", 503)
        return serving

    def rank(self, student: str, body: bytes, given_up: Callable[[], bool] = lambda: False) -> Answer:
        """Candidates in the order of their scores.

        Args:
            given_up: whether nobody waits for the answer any more: then it is not logged as one that was given.

        Raises:
            RequestError: if the request can't be answered as it is.
        """
        serving = self.serving(student)
        self.check_log()
        known = serving.reader.known
        asked = asked_of(body, self.project, serving.student, known, self.limits.candidates, self.now())
        return self.ranked(serving, asked, given_up)

    def check_log(self) -> None:
        """Refuse requests whose answers could not be logged.

        Raises:
            RequestError: if so.
        """
        if self.log is not None and self.log.is_full:
            raise RequestError(f"the request log can't be written: {self.log.fault}", 503)

    def ranked(self, serving: Serving, asked: Asked, given_up: Callable[[], bool]) -> Answer:
        """Candidates that are known to be right in the order of a release's scores."""
        seconds = dict[str, float]()
        with timed(seconds, "features"):
            gathered = serving.reader.gather(asked)
        with timed(seconds, "scores"):
            scores = serving.model.score(gathered.columns, len(asked.each), asked.now.timestamp())
        order = np.argsort(-scores, kind="stable")
        request_id, item, student = uuid.uuid4().hex, self.project.stream.item.name, serving.student.name
        ranked = [{"item": asked.each[at][item], "score": float(scores[at])} for at in order.tolist()]
        if self.log is not None and not given_up():
            with timed(seconds, "log"):
                self.log_answer(serving, asked, gathered, scores, order, request_id)
        answer = {
            "request_id": request_id, "student": student, "release": serving.number, "version": serving.version,
            "scores": ranked,
        }  # fmt: skip
        return Answer(answer, scores.tolist(), serving, gathered, seconds)

    def log_answer(
        self,
        serving: Serving,
        asked: Asked,
        gathered: Gathered,
        scores: np.ndarray,
        order: np.ndarray,
        request_id: str,
    ) -> None:
        """A row a candidate, as they were asked."""
        columns = _logged(serving, asked, gathered, scores, order, request_id, self._keys)
        try:
            rows = rows_of(columns, self.schema(serving.version), len(order))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise RequestError(f"a value is of no column's type ({error}): pass those of the log") from error
        if self.log is not None:
            self.log.add(serving.student.name, serving.version, rows)


def _logged(
    serving: Serving,
    asked: Asked,
    gathered: Gathered,
    scores: np.ndarray,
    order: np.ndarray,
    request_id: str,
    keys: Sequence[str],
) -> dict[str, Any]:
    """An answer's columns in the log, candidates as they were asked; ``served_position`` says where each came."""
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    columns: dict[str, Any] = {
        "served_request": Same(request_id),
        "impression_id": [f"{request_id}-{place}" for place in position.tolist()],
        "event_timestamp": Same(asked.now),
        "served_release": Same(serving.number),
        "served_version": Same(serving.version),
        "served_position": position,
        "served_score": scores,
        "served_propensity": Same(1.0),  # nothing is drawn by chance
    }
    for name in keys:
        of_each = any(name in one for one in asked.each)
        everywhere = asked.shared.get(name)
        columns[name] = [one.get(name, everywhere) for one in asked.each] if of_each else Same(everywhere)
    for name, values in gathered.columns.items():
        columns[name] = Same(values[0]) if len(values) == 1 else values
    return columns


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Note how long a part takes."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started
