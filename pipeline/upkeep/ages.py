"""How old the data behind each asset is, by the stream's own clock.

Belongs here: measuring. Not here: what may be declared (exfm/freshness.py), acting on it (refresh.py), showing it
(exfm_assets/).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from exfm.freshness import Limits
from exfm.learning import Student, Teacher
from exfm.online import graph_loads
from exfm.stream import Stream
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.release import current_release, release_manifest
from pipeline.slices.predictions import scored_slices
from pipeline.slices.provenance import AS_OF
from pipeline.verify.online_current import loaded_online
from pipeline.workspace import Workspace

FreshnessName = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Age:
    """Of one asset's data.

    Args:
        newest: up to when its data is complete; ``None``: there is none yet.
        age: from then, or from the stream's first slice, to the stream's clock.
    """

    asset: str
    newest: datetime | None
    age: timedelta
    limits: Limits

    @property
    def state(self) -> FreshnessName:
        """At ``warn`` and ``fail`` themselves it still holds."""
        return "fail" if self.age > self.limits.fail else "warn" if self.age > self.limits.warn else "pass"

    def __str__(self) -> str:
        of = f"its data ends {self.newest:%Y-%m-%d %H:%M} UTC" if self.newest is not None else "there is none yet"
        bound = {"pass": self.limits.warn, "warn": self.limits.warn, "fail": self.limits.fail}[self.state]
        word = "within" if self.state == "pass" else "more than"
        return f"{self.asset}: {of}, {_hours(self.age)} behind the stream, {word} {_hours(bound)}"


def clock(stream: Stream, now: datetime) -> datetime:
    """What time it is for a stream: now, and of a closed log its end."""
    return now if stream.until is None else min(now, stream.until)


def ages(work: Workspace) -> list[Age]:
    """The age of each asset that has limits, upstream first."""
    return [age() for age in ages_of(work).values()]


def ages_of(work: Workspace) -> dict[str, Callable[[], Age]]:
    """By asset, its age."""
    project = work.project
    at = clock(project.stream, work.now())

    def measured(asset: str, newest: Callable[[], datetime | None], limits: Limits) -> Callable[[], Age]:
        def look() -> Age:
            until = newest()
            since = project.stream.shown_since if until is None else until
            return Age(asset, until, max(at - since, timedelta(0)), limits)

        return look

    looks = {"labels": measured("labels", partial(_labels, work), project.labels_limits)}
    for teacher in project.teachers:
        name = f"teacher/{teacher.name}"
        trained, scored = partial(_trained, work, name), partial(_scored, work, teacher)
        looks[f"{name}/checkpoint"] = measured(f"{name}/checkpoint", trained, project.checkpoint_limits(teacher))
        looks[f"{name}/predictions"] = measured(f"{name}/predictions", scored, project.predictions_limits(teacher))
    for student in project.students:
        asset = f"student/{student.name}/release"
        looks[asset] = measured(asset, partial(released_until, work, student), project.release_limits(student))
    if any(graph_loads(view) for view in project.all_views):
        looks["online_store"] = measured("online_store", partial(_loaded, work), project.online_limits)
    return looks


def released_until(work: Workspace, student: Student) -> datetime | None:
    """Up to when what a student serves has learnt."""
    served = current_release(work, student)
    if served is None:
        return None
    manifest = release_manifest(work, student, served.version) or {}
    return _learnt_until(work.project.stream, served.slice, served.trained_until, int(manifest.get("rows", 0)))


def _trained(work: Workspace, model: str) -> datetime | None:
    for slice_, manifest in reversed(manifests_of(work, model).items()):
        if manifest is not None and manifest.get("trained_until") is not None:
            stream = work.project.stream
            return _learnt_until(stream, slice_.key, manifest["trained_until"], int(manifest.get("rows", 0)))
    return None


def _learnt_until(stream: Stream, slice_key: str, trained_until: str | None, rows: int) -> datetime | None:
    """The end of a slice that had rows to learn from; of one without, the newest impression before it."""
    if rows:
        return stream.slice_of(slice_key).end
    return datetime.fromisoformat(trained_until) if trained_until is not None else None


def _scored(work: Workspace, teacher: Teacher) -> datetime | None:
    scored = scored_slices(work, teacher)
    return scored[-1].end if scored else None


def _labels(work: Workspace) -> datetime | None:
    """The end of the newest slice whose labels are final."""
    stream, table = work.project.stream, work.table("labels")
    for slice_ in reversed(table.stored(stream)):
        sidecar = table.sidecar(slice_)
        as_of = None if sidecar is None else sidecar.made_of.get(AS_OF)
        closes = slice_.end + stream.longest_window
        final = closes if stream.known_until is None else min(closes, stream.known_until)
        if as_of is not None and datetime.fromisoformat(as_of) >= final:
            return slice_.end
    return None


def _loaded(work: Workspace) -> datetime | None:
    """The end of the newest slice whose values of every view are in the online store."""
    stream, loaded = work.project.stream, loaded_online(work) or {}
    ends: Iterator[datetime | None] = (
        stream.slice_of(max(slices)).end if (slices := loaded.get(f"features/{view.name}")) else None
        for view in work.project.all_views
        if graph_loads(view)
    )
    listed = list(ends)
    return None if None in listed else min(end for end in listed if end is not None)


def _hours(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"
