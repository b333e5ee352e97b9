"""Shadow students: they score what was asked of another one, after it was answered; nobody waits for them.

Belongs here: when they score, and what is logged of it. Not here: features (features.py), which release a shadow has
(releases.py).

One thread scores for all. What it can't keep up with is skipped and counted, and a fault of it is logged and counted:
neither changes an answer.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa

from serving.features import Asked
from serving.releases import Serving
from serving.request_log import RequestLog, Same, rows_of

WAITING = 64  # requests; more are not scored
SCORED, SKIPPED, FAILED = "scored", "skipped", "failed"
_log = logging.getLogger(__name__)


def folder_of(student: str) -> str:
    """Folder of a student's shadow in the request log; no student's name has a hyphen."""
    return f"{student}-shadow"


@dataclass(frozen=True)
class Answered:
    """What was answered, as a shadow needs it.

    Args:
        ids: of the impressions, candidates as they were asked.
    """

    student: str
    asked: Asked
    ids: pa.Array
    request_id: str


def schema_of(ids: pa.DataType) -> pa.Schema:
    """Columns of the log of a shadow's scores; what was answered has the features (request_log.py)."""
    return pa.schema(
        {
            "impression_id": ids, "event_timestamp": pa.timestamp("us", "UTC"), "served_request": pa.string(),
            "served_student": pa.string(), "served_release": pa.int64(), "served_version": pa.string(),
            "served_score": pa.float32(),
        }
    )  # fmt: skip


class Shadows:
    """Of a server process.

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
            if self._waiting >= WAITING:
                self.on_scored(answered.student, SKIPPED)
                return
            self._waiting += 1
        self._pool.submit(self._score, shadow, answered)

    def stop(self) -> None:
        """Score what waits, then end."""
        self._pool.shutdown()

    def _score(self, shadow: Serving, answered: Answered) -> None:
        student = answered.student
        try:
            rows = _scored(shadow, answered)
            self._log.add(folder_of(student), shadow.version, rows)
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
    columns = {
        "impression_id": answered.ids,
        "event_timestamp": Same(asked.now),
        "served_request": Same(answered.request_id),
        "served_student": Same(shadow.student.name),
        "served_release": Same(shadow.number),
        "served_version": Same(shadow.version),
        "served_score": np.asarray(scores),
    }
    return rows_of(columns, schema_of(answered.ids.type), len(asked.each))
