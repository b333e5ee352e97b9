"""Who chooses what a visitor is shown: a released student, asked over HTTP, or the order in which items are popular.

Belongs here: asking, and what is done where no answer comes. Not here: the server (serving/), visits (visits.py).
"""

import http.client
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.live.visits import SHOWN, Visit
from pipeline.streams.world import Ints

PATIENCE_SECONDS = 1.0  # for an answer
AGAIN_SECONDS = 0.5  # after which a server that did not answer is asked again
LAST = 2**63


@dataclass(frozen=True)
class Choice:
    """What is shown.

    Args:
        by: the student that chose; ``None``: items by how popular they are.
        ids: of the impressions.
    """

    by: str | None
    items: Ints
    ids: Ints


def by_popularity(visit: Visit, random: np.random.Generator) -> Choice:
    """The first candidates: those drawn first are those that are shown most."""
    items = visit.candidates[:SHOWN]
    return Choice(None, items, random.integers(0, LAST, len(items)))


@dataclass
class Server:
    """One server, asked by one thread; its connection stays open.

    Attributes:
        unanswered: why there was no answer -> how often.
        seconds: that answers took, of the newest.
    """

    host: str
    port: int
    unanswered: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    _connection: http.client.HTTPConnection | None = None
    _not_before: float = 0.0

    def choose(self, student: str, body: dict[str, Any]) -> Choice | None:
        """What a student answers; ``None`` where it does not."""
        if time.monotonic() < self._not_before:
            self.unanswered["the server does not answer"] += 1
            return None
        started = time.perf_counter()
        try:
            status, answer = self._post(f"/rank/{student}", body)
            best = answer["scores"][:SHOWN] if status == 200 else []
            items, ids = [each["item"] for each in best], [int(each["impression_id"]) for each in best]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):  # or it is another server
            self._connection, self._not_before = None, time.monotonic() + AGAIN_SECONDS
            self.unanswered["the server does not answer"] += 1
            return None
        if status != 200:
            self.unanswered[str(answer.get("error", status))] += 1
            return None
        self.seconds.append(time.perf_counter() - started)
        return Choice(student, np.array(items, dtype=np.int64), np.array(ids, dtype=np.int64))

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())
