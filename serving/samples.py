"""Requests a second and how long they took, over the last while, of all worker processes together.

Belongs here: sampling what is counted. Not here: counting (metrics.py).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.metrics import Metrics

EVERY_SECONDS, KEPT = 5.0, 720  # an hour
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Counted:
    """Since the start: answers, refusals, and answers that took no longer than each border of the histogram."""

    answered: float
    refused: float
    within: Mapping[float, float]


class Samples:
    """What was counted between two looks, oldest first.

    Args:
        metrics: of the server.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._kept = metrics, deque[dict[str, Any]](maxlen=KEPT)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sample until stopped."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def told(self) -> list[dict[str, Any]]:
        """All samples: when, requests a second, refused ones a second, p50 and p99 in milliseconds (or ``None``)."""
        return list(self._kept)

    def _run(self) -> None:
        before, at = None, time.monotonic()
        while before is None or not self._stop.wait(EVERY_SECONDS):
            try:
                now, moment = self._counted(), time.monotonic()
            except Exception:  # as where two processes tidy up after a third: the next sample is taken
                _log.exception("sampling failed")
                if self._stop.wait(EVERY_SECONDS):
                    return
                continue
            if before is not None:
                self._kept.append(_between(before, now, moment - at))
            before, at = now, moment

    def _counted(self) -> _Counted:
        answered = refused = 0.0
        within: dict[float, float] = {}
        for family in self._metrics.families():
            for sample in family.samples:
                if sample.name == "exfm_requests_total":
                    if sample.labels["status"] == "200":
                        answered += sample.value
                    else:
                        refused += sample.value
                elif sample.name == "exfm_request_seconds_bucket":
                    border = float(sample.labels["le"])
                    within[border] = within.get(border, 0.0) + sample.value
        return _Counted(answered, refused, within)


def _between(before: _Counted, now: _Counted, seconds: float) -> dict[str, Any]:
    # A worker that was replaced takes its counts with it: then less is counted than before.
    within = {border: max(count - before.within.get(border, 0.0), 0.0) for border, count in sorted(now.within.items())}
    return {
        "at": time.time(),
        "answered": max(now.answered - before.answered, 0.0) / seconds,
        "refused": max(now.refused - before.refused, 0.0) / seconds,
        "p50": _quantile(within, 0.5),
        "p99": _quantile(within, 0.99),
    }


def _quantile(within: Mapping[float, float], share: float) -> float | None:
    """Milliseconds that a share of answers took at most, between the borders around it as if they lay evenly."""
    whole = max(within.values(), default=0.0)
    if not whole:
        return None
    lower = counted = 0.0
    for border, count in within.items():
        if count >= share * whole:
            if border == float("inf"):
                return 1000 * lower
            inside = (share * whole - counted) / (count - counted) if count > counted else 1.0
            return 1000 * (lower + inside * (border - lower))
        lower, counted = border, count
    return None
