"""What a server tells Prometheus of itself.

Belongs here: names, labels, buckets. Not here: when something is counted (app.py).
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.values import MutexValue, ValueClass

from serving.answering import Answer
from serving.arms import CANARY
from serving.releases import Serving
from serving.retrievers import Retriever

SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Of one server; of several worker processes together where ``PROMETHEUS_MULTIPROC_DIR`` is set."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        self.requests = Counter(
            "exfm_requests", "Requests by student and HTTP status", ("student", "status"), registry=on
        )
        self.seconds = Histogram(
            "exfm_request_seconds",
            "Time of a whole request that was answered",
            ("student",),
            buckets=SECONDS,
            registry=on,
        )
        self.parts = Histogram(
            "exfm_part_seconds", "Time of a part of an answer", ("student", "part"), buckets=SECONDS, registry=on
        )
        self.candidates = Counter("exfm_candidates", "Candidates that were scored", ("student",), registry=on)
        self.hits = Counter(
            "exfm_item_cache", "Rows of candidates, by whether they were cached", ("found",), registry=on
        )
        self.missing = Counter(
            "exfm_missing_features", "Entities that the online store did not know", ("student", "view"), registry=on
        )
        age = "Age of the oldest feature of the last answer"
        self.feature_age = Gauge(
            "exfm_feature_age_seconds", age, ("student",), multiprocess_mode="livemax", registry=on
        )
        self.release = Gauge(
            "exfm_release_number",
            "Number of the release that is served",
            ("student",),
            multiprocess_mode="livemin",
            registry=on,
        )
        newest = "Time of the newest impression that the served release has learnt from, in seconds since 1970"
        self.trained_until = Gauge(
            "exfm_release_trained_until_seconds", newest, ("student",), multiprocess_mode="livemax", registry=on
        )
        self.faults = Gauge(
            "exfm_release_faults",
            "Whether a newer release can't be loaded",
            ("student",),
            multiprocess_mode="livemax",
            registry=on,
        )
        self.arms = Counter(
            "exfm_answers", "Answers by what gave them: served or canary", ("student", "arm"), registry=on
        )
        self.drawn = Counter("exfm_drawn_orders", "Answers whose order was drawn by chance", ("student",), registry=on)
        self.shadowed = Counter(
            "exfm_shadow_requests",
            "Requests of a student with a shadow, by what became of them: scored, skipped or failed",
            ("student", "outcome"),
            registry=on,
        )
        self.canary = Gauge(
            "exfm_canary_number",
            "Number of the release that a share of users gets; 0: none",
            ("student",),
            multiprocess_mode="livemin",
            registry=on,
        )
        items = "Items in the index that is retrieved from"
        self.index_items = Gauge("exfm_index_items", items, ("student",), multiprocess_mode="livemin", registry=on)
        made = "When the items' features of the index were read, in seconds since 1970"
        self.index_made = Gauge("exfm_index_made_seconds", made, ("student",), multiprocess_mode="livemin", registry=on)
        faults = "Whether a newer index can't be made"
        self.index_faults = Gauge("exfm_index_faults", faults, ("student",), multiprocess_mode="livemax", registry=on)
        self.answering = Gauge(
            "exfm_requests_in_progress", "Requests that are answered or wait", multiprocess_mode="livesum", registry=on
        )

    def answered(self, student: str, answer: Answer) -> None:
        """Count an answer's parts."""
        for part, seconds in answer.seconds.items():
            self.parts.labels(student, part).observe(seconds)
        self.arms.labels(student, answer.serving.arm).inc()
        if answer.is_drawn:
            self.drawn.labels(student).inc()
        gathered = answer.gathered
        self.candidates.labels(student).inc(len(answer.body["scores"]))
        self.hits.labels("yes").inc(gathered.hits)
        self.hits.labels("no").inc(gathered.misses)
        for view, count in gathered.missing.items():
            self.missing.labels(student, view).inc(count)
        if gathered.age is not None:
            self.feature_age.labels(student).set(gathered.age)

    def shadow(self, student: str, outcome: str) -> None:
        """Count what became of a request in the shadow of a student."""
        self.shadowed.labels(student, outcome).inc()

    def changed(self, student: str, arm: str, serving: Serving | None, fault: str | None) -> None:
        """Note what a student serves now, in this process; why a newer release can't be, if so."""
        if arm == CANARY:
            self.canary.labels(student).set(0 if serving is None else serving.number)
            return
        self.faults.labels(student).set(fault is not None)
        if serving is not None:
            self.release.labels(student).set(serving.number)
            if serving.trained_until is not None:
                self.trained_until.labels(student).set(datetime.fromisoformat(serving.trained_until).timestamp())

    def indexed(self, student: str, retriever: Retriever | None, fault: str | None) -> None:
        """Note what a student retrieves from now, in this process; why a newer index can't be made, if so."""
        self.index_faults.labels(student).set(fault is not None)
        if retriever is not None:
            self.index_items.labels(student).set(retriever.index.size)
            self.index_made.labels(student).set(retriever.made.timestamp())

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._together())

    def families(self) -> Iterator[Metric]:
        """All of it, one metric after the other."""
        return iter(self._together().collect())

    def _together(self) -> CollectorRegistry:
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None or ValueClass is MutexValue:  # Feast names a folder too, maybe after these were made
            return self.registry
        for path in Path(folder).glob("gauge_live*_*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                mark_process_dead(pid)
        together = CollectorRegistry()
        together.register(_Ours(MultiProcessCollector(None)))
        return together


class _Ours(Collector):
    """Of what all processes keep, this project's alone: Feast keeps its own there, too."""

    def __init__(self, every: MultiProcessCollector) -> None:
        self._every = every

    def collect(self) -> Iterator[Metric]:
        return (each for each in self._every.collect() if each.name.startswith("exfm_"))
