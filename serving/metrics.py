"""What a server tells Prometheus of itself.

Belongs here: names, labels, buckets. Not here: when something is counted (app.py).
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.answering import Answer
from serving.releases import Releases

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
        self.feature_age = Gauge("exfm_feature_age_seconds", age, ("student",), multiprocess_mode="max", registry=on)
        self.release = Gauge(
            "exfm_release_number",
            "Number of the release that is served",
            ("student",),
            multiprocess_mode="min",
            registry=on,
        )
        staleness = "Since the newest impression that the served release has learnt from"
        self.release_age = Gauge(
            "exfm_release_age_seconds", staleness, ("student",), multiprocess_mode="max", registry=on
        )
        self.faults = Gauge(
            "exfm_release_faults",
            "Whether a newer release can't be loaded",
            ("student",),
            multiprocess_mode="max",
            registry=on,
        )
        self.answering = Gauge(
            "exfm_requests_in_progress", "Requests that are answered or wait", multiprocess_mode="livesum", registry=on
        )

    def answered(self, student: str, answer: Answer) -> None:
        """Count an answer's parts."""
        for part, seconds in answer.seconds.items():
            self.parts.labels(student, part).observe(seconds)
        gathered = answer.gathered
        self.candidates.labels(student).inc(len(answer.body["scores"]))
        self.hits.labels("yes").inc(gathered.hits)
        self.hits.labels("no").inc(gathered.misses)
        for view, count in gathered.missing.items():
            self.missing.labels(student, view).inc(count)
        if gathered.age is not None:
            self.feature_age.labels(student).set(gathered.age)

    def text(self, releases: Releases) -> bytes:
        """All of it, as Prometheus reads it."""
        for name in releases.students:
            serving = releases.of(name)
            self.faults.labels(name).set(name in releases.faults)
            if serving is None:
                continue
            self.release.labels(name).set(serving.number)
            if serving.trained_until is not None:
                until = datetime.fromisoformat(serving.trained_until)
                self.release_age.labels(name).set((datetime.now(UTC) - until).total_seconds())
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        together.register(_Ours(MultiProcessCollector(None)))
        return generate_latest(together)


class _Ours(Collector):
    """Of what all processes keep, this project's alone: Feast keeps its own there, too."""

    def __init__(self, every: MultiProcessCollector) -> None:
        self._every = every

    def collect(self) -> Iterator[Metric]:
        return (each for each in self._every.collect() if each.name.startswith("exfm_"))
