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
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureStore

from exfm.project import Project
from exfm.state import State
from feature_repo.store import open_store
from serving.arms import is_canary
from serving.encoder import Signature
from serving.errors import RequestError
from serving.exploring import Order, order_of
from serving.features import Asked, FeatureReader, Gathered, ItemCache
from serving.impression_ids import impression_ids
from serving.model import ServedModel
from serving.releases import Releases, Serving
from serving.request_log import RequestLog, Same, rows_of, schema_of
from serving.requests import asked_of, clock_of, declared_columns
from serving.shadows import Answered, Shadows


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
        log_days: of the request log that are kept; 0: all.
    """

    body: int = 1_000_000
    candidates: int = 1_000
    waiting: int = 64
    seconds: float = 2.0
    item_age: float = 30.0
    items: int = 1_000_000
    index_age: float = 600.0
    log_days: int = 0


@dataclass
class Answer:
    """What is sent, and what is measured of it.

    Args:
        in_order: scores of the candidates as they were asked.
        serving: what answered, be it the canary.
        is_drawn: was the order drawn by chance?
    """

    body: dict[str, Any]
    in_order: list[float]
    serving: Serving
    gathered: Gathered
    is_drawn: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranked:
    """Candidates of an answer, as they were asked.

    Args:
        ids: of their impressions, by place.
    """

    scores: np.ndarray
    order: Order
    ids: np.ndarray
    request_id: str

    def told(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        """As they are returned, place by place."""
        return [
            {"item": items[at], "score": float(self.scores[at]), "impression_id": str(each)}
            for at, each in zip(self.order.by_place.tolist(), self.ids.tolist(), strict=True)
        ]


class Answering:
    """All students of a project, over one Feast store.

    Args:
        log: where answers are logged; ``None``: nowhere.
        now: the clock of requests, in UTC; ``None``: the stream's.
        threads: of one score.
        store: ``None``: as ``feature_store.yaml`` says.
        seed: of what is drawn by chance; ``None``: of the system.
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
        seed: int | None = None,
    ) -> None:
        self.project, self.state, self.limits, self.log = project, state, limits, log
        self.now = now or clock_of(project)
        self._store, self._cache = store or open_store(project, state), ItemCache(limits.item_age)
        self.releases = Releases(state, project.students, self._reader, threads=threads)
        shadowed = any(student.serving.shadow for student in project.students)
        self.shadows = Shadows(RequestLog(state.shadows, limits.log_days)) if shadowed and log is not None else None
        self._draws, self._drawing = np.random.default_rng(seed), Lock()
        self._schemas: dict[str, pa.Schema] = {}
        self._declared = {student.name: declared_columns(project, student) for student in project.students}
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
        if self.shadows is not None:
            self.shadows.start()
        self.releases.start()

    def stop(self) -> None:
        """End all threads; what was answered is logged."""
        self.releases.stop()
        if self.shadows is not None:
            self.shadows.stop()
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

    def shadow_of(self, student: str) -> Serving | None:
        """What scores each request to a student beside it, if it has a release and answers are logged."""
        name = self.releases.students[student].serving.shadow
        return None if name is None or self.shadows is None else self.releases.of(name)

    def rank(self, student: str, body: bytes, given_up: Callable[[], bool] = lambda: False) -> Answer:
        """Candidates in the order of their scores.

        Args:
            given_up: whether nobody waits for the answer any more: then it is not logged as one that was given.

        Raises:
            RequestError: if the request can't be answered as it is.
        """
        serving = self.serving(student)
        self.check_log()
        known = self.known(student)
        asked = asked_of(body, self.project, serving.student, known, self.limits.candidates, self.now())
        return self.ranked(serving, asked, given_up)

    def readers(self, student: str) -> list[FeatureReader]:
        """Of all that scores requests to a student: what serves, its canary, its shadow."""
        servings = (self.releases.of(student), self.releases.canary_of(student), self.shadow_of(student))
        return [each.reader for each in servings if each is not None]

    def known(self, student: str) -> frozenset[str]:
        """Columns that requests may bring: those that are read, or will or would be, as it or its shadow declares."""
        return self._declared[student].union(*(reader.known for reader in self.readers(student)))

    def check_log(self) -> None:
        """Refuse requests whose answers could not be logged.

        Raises:
            RequestError: if so.
        """
        if self.log is not None and self.log.is_full:
            raise RequestError(f"the request log can't be written: {self.log.fault}", 503)

    def ranked(self, serving: Serving, asked: Asked, given_up: Callable[[], bool]) -> Answer:
        """Candidates that are known to be right in the order of the scores of what serves, or of its canary."""
        student, seconds, request = serving.student.name, dict[str, float](), uuid.uuid4()
        serving = self._arm(serving, asked, request.hex)
        with timed(seconds, "features"):
            gathered = serving.reader.gather(asked)
        with timed(seconds, "scores"):
            scores = serving.model.score(gathered.columns, len(asked.each), asked.now.timestamp())
        with self._drawing:
            order = order_of(scores, serving.student.serving.exploration, self._draws)
        ranked = Ranked(scores, order, impression_ids(request, len(scores)), request.hex)
        if self.log is not None and not given_up():
            with timed(seconds, "log"):
                logged = self.log_answer(serving, asked, gathered, ranked)
            if (shadow := self.shadow_of(student)) is not None and self.shadows is not None:
                ids = (logged["impression_id"], logged[self.project.stream.item.name])
                self.shadows.score(shadow, Answered(student, asked, *ids, request.hex))
        answer = {
            "request_id": request.hex, "student": student, "release": serving.number, "version": serving.version,
            "scores": ranked.told([each[self.project.stream.item.name] for each in asked.each]),
        }  # fmt: skip
        return Answer(answer, scores.tolist(), serving, gathered, order.is_drawn, seconds)

    def _arm(self, serving: Serving, asked: Asked, request_id: str) -> Serving:
        """What serves, or the canary, by the user."""
        canary, name = self.releases.canary_of(serving.student.name), serving.student.name
        user, share = asked.shared[self.project.stream.user.name], serving.student.serving.canary
        return canary if canary is not None and is_canary(name, user, request_id, share) else serving

    def log_answer(self, serving: Serving, asked: Asked, gathered: Gathered, ranked: Ranked) -> pa.RecordBatch:
        """A row a candidate, as they were asked."""
        columns = _logged(serving, asked, gathered, ranked, self._keys)
        try:
            rows = rows_of(columns, self.schema(serving.version), len(ranked.scores))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise RequestError(f"a value is of no column's type ({error}): pass those of the log") from error
        if self.log is not None:
            self.log.add(serving.student.name, serving.version, rows)
        return rows


def _logged(
    serving: Serving,
    asked: Asked,
    gathered: Gathered,
    ranked: Ranked,
    keys: Sequence[str],
) -> dict[str, Any]:
    """An answer's columns in the log, candidates as they were asked; ``served_position`` says where each came."""
    order = ranked.order
    position = np.empty(len(ranked.scores), dtype=np.int64)
    position[order.by_place] = np.arange(len(position))
    columns: dict[str, Any] = {
        "served_request": Same(ranked.request_id),
        "impression_id": ranked.ids[position],
        "event_timestamp": Same(asked.now),
        "served_release": Same(serving.number),
        "served_version": Same(serving.version),
        "served_position": position,
        "served_score": ranked.scores,
        "served_propensity": order.propensity,
        "served_arm": Same(serving.arm),
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
