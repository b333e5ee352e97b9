"""Shadow students: they score what was asked of another one, after it was answered; nobody waits for them.

Belongs here: when they score, and what is logged of it. Not here: features (features.py), which release a shadow has
(releases.py).

One thread scores for all, into a log of their own. What they can't keep up with, or the disk refuses, is skipped and
counted; a fault of a shadow is said and counted. None of it changes an answer.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pyarrow as pa

from serving.features import Asked
from serving.releases import Serving
from serving.request_log import RequestLog, Same, rows_of

WAITING = 64  # requests; more are not scored
SCORED, SKIPPED, FAILED = "scored", "skipped", "failed"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """What was answered, as a shadow needs it.

    Args:
        ids: of the impressions, and ``items`` of the log, candidates as they were asked.
    """

    student: str
    asked: Asked
    ids: pa.Array
    items: pa.Array
    request_id: str


class Shadows:
    """Of a server process.

    Args:
        log: of shadows alone.

    Attributes:
        on_scored: told of each request, by student and what became of it: ``scored``, ``skipped`` or ``failed``.
        faults: student -> the last fault of its shadow, until it scores again.
    """

    def __init__(self, log: RequestLog) -> None:
        self._log, self._pool = log, ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._lock, self._waiting = Lock(), 0
        self.faults: dict[str, str] = {}
        self.on_scored: Callable[[str, str], None] = lambda *_: None

    def score(self, shadow: Serving, answered: Answered) -> None:
        """Score what was asked once there is time; if too much waits already, don't."""
        with self._lock:
            if self._waiting >= WAITING or self._log.is_full:
                self.on_scored(answered.student, SKIPPED)
                return
            self._waiting += 1
        self._pool.submit(self._score, shadow, answered)

    def start(self) -> None:
        """Open the log."""
        self._log.start()

    def stop(self) -> None:
        """Score what waits, then end; what was scored is logged."""
        self._pool.shutdown()
        self._log.stop()

    def _score(self, shadow: Serving, answered: Answered) -> None:
        student = answered.student
        try:
            rows = _scored(shadow, answered)
            self._log.add(student, shadow.version, rows)
        except Exception as error:  # whatever it is, requests were answered without it
            fault = f"{type(error).__name__}: {error}"
            if self.faults.get(student) != fault:
                _log.exception("student %s: its shadow %s can't score", student, shadow.student.name)
            self.faults[student] = fault
            self.on_scored(student, FAILED)
        else:
            self.faults.pop(student, None)
            self.on_scored(student, SCORED)
        finally:
            with self._lock:
                self._waiting -= 1


def _scored(shadow: Serving, answered: Answered) -> pa.RecordBatch:
    """A row a candidate, as they were asked."""
    asked = answered.asked
    gathered = shadow.reader.gather(asked)
    scores = shadow.model.score(gathered.columns, len(asked.each), asked.now.timestamp())
    columns: dict[str, tuple[Any, pa.DataType]] = {
        "impression_id": (answered.ids, answered.ids.type),
        "event_timestamp": (Same(asked.now), pa.timestamp("us", "UTC")),
        shadow.reader.stream.item.name: (answered.items, answered.items.type),
        "served_request": (Same(answered.request_id), pa.string()),
        "served_shadow": (Same(shadow.student.name), pa.string()),
        "served_release": (Same(shadow.number), pa.int64()),
        "served_version": (Same(shadow.version), pa.string()),
        "served_score": (scores, pa.float32()),
    }
    schema = pa.schema({name: kind for name, (_, kind) in columns.items()})
    return rows_of({name: values for name, (values, _) in columns.items()}, schema, len(asked.each))
