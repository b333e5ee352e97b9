"""A live world: visitors come as time goes on, are shown what a student or popularity chooses, and all of it is logged.

Belongs here: the loop, and what it keeps between two starts. Not here: the processes around it (exfm_assets/live.py),
what narrates it.

    <state>/world.json       when it began
    <state>/events.json      what has befallen it since: it is looked at again with each slice
    <state>/to_come.json     outcomes of what was shown before it ended, which had not happened then
    <state>/traffic.jsonl    by slice and surface, who chose what was shown, and how often it was clicked
"""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from exfm.atomic_write import atomic_write
from exfm.declaration import adapter
from exfm.learning import Student
from exfm.project import Project
from exfm.simulation import Event
from exfm.state import State
from exfm.stream import Slice
from pipeline.live.choosing import Choice, Server, by_popularity
from pipeline.live.live_log import LiveLog
from pipeline.live.visits import Shown, Visit, Visitors, context_values

WORLD, EVENTS, TRAFFIC, TO_COME = "world.json", "events.json", "traffic.jsonl", "to_come.json"
TICK_SECONDS, LATE = 0.25, timedelta(seconds=5)
NOBODY = "popularity"  # who chooses where no student does


@dataclass
class Traffic:
    """A slice's impressions and clicks, by surface and by who chose them."""

    shown: Counter[tuple[str, str]] = field(default_factory=Counter)
    clicked: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, surface: str, shown: Shown) -> None:
        key = (surface, shown.by or NOBODY)
        self.shown[key] += len(shown.items)
        self.clicked[key] += int(shown.happened[:, 0].sum())

    def plain(self) -> dict[str, dict[str, dict[str, int]]]:
        of: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        for (surface, by), count in sorted(self.shown.items()):
            of[surface][by] = {"impressions": count, "clicks": self.clicked[surface, by]}
        return of


class LiveWorld:
    """The world of a live project.

    Args:
        server: that is asked; ``None``: nobody is.
        clock: of the world, in UTC.
    """

    def __init__(
        self,
        project: Project,
        state: State,
        server: Server | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        assert project.simulation is not None
        self.project, self.state, self._server, self._clock = project, state, server, clock
        began = clock()
        self._random = np.random.default_rng([project.simulation.seed, int(began.timestamp() * 1000)])
        self._visitors = Visitors(project, self._random)
        self._log, self._since = LiveLog(project.stream, state.log, began), began
        self._traffic, self._events_seen = Traffic(), b""
        self._students = {surface: student_of(project, surface) for surface in project.stream.surfaces}
        self.on_slice: Callable[[Slice, dict[str, Any]], None] = lambda *_: None

    def live_through(self, slices: Sequence[Slice]) -> None:
        """Write slices that are over, in which nobody could be asked."""
        for slice_ in slices:
            self._look_at_events()
            self._since = slice_.start
            self._live_until(slice_.end, asked_from=slice_.end)
            self._end(slice_)

    def run(self, stop: threading.Event) -> None:
        """Live on until told to stop, then write what there is of the slice under way."""
        stream = self.project.stream
        self._look_at_events()
        self._log.take_up(self.state.folder / TO_COME)
        slice_ = stream.slice_at(stream.index_at(self._since))
        while not stop.wait(TICK_SECONDS):
            now = self._clock()
            while slice_.end <= now:
                self._live_until(slice_.end, asked_from=now - LATE)
                self._end(slice_)
                slice_ = stream.slice_at(slice_.index + 1)
                self._look_at_events()
            self._live_until(now, asked_from=now - LATE)
        if self._traffic.shown:
            self._end(slice_, self._clock())
        self._log.keep(self.state.folder / TO_COME)

    def _live_until(self, end: datetime, asked_from: datetime) -> None:
        """Let come who comes before a moment; for visits that are over for long nobody is asked."""
        for visit in self._visitors.between(self._since, end, self._per_day):
            if visit.at < asked_from:
                self._take(visit, by_popularity(visit, self._random))
            else:
                self._visited(replace(visit, at=self._clock()))
        self._organic(self._since, end)
        self._since = end

    def _visited(self, visit: Visit) -> None:
        student = None if visit.in_holdout else self._students[self.project.stream.surfaces[visit.surface]]
        choice = None
        if student is not None and self._server is not None:
            body = {
                "user": visit.user, "context": self._context(student, visit), "candidates": visit.candidates.tolist(),
            }  # fmt: skip
            choice = self._server.choose(student.name, body)
        self._take(visit, choice or by_popularity(visit, self._random))

    def _context(self, student: Student, visit: Visit) -> dict[str, int | str]:
        values = context_values(self.project.stream, visit.context)
        return {name: value for name, value in values.items() if name in student.inputs}

    def _take(self, visit: Visit, choice: Choice) -> None:
        shown = self._visitors.shown(visit, choice.items, choice.by, choice.ids)
        self._log.add(shown)
        self._traffic.add(str(self.project.stream.surfaces[visit.surface]), shown)

    def _organic(self, start: datetime, end: datetime) -> None:
        """Visits of users' own: half as many as there are impressions, as in the simulator."""
        count = self._random.poisson(self._per_day / 2 * ((end - start) / timedelta(days=1)))
        self._log.add_visits(self._visitors.organic(start, end, int(count)))

    @property
    def _per_day(self) -> float:
        assert self.project.simulation is not None
        return self.project.simulation.impressions_per_day

    def _end(self, slice_: Slice, until: datetime | None = None) -> None:
        rows = self._log.write(slice_, until)
        unanswered = dict(self._server.unanswered) if self._server else {}
        seconds = sorted(self._server.seconds) if self._server else []
        told = {
            "slice": slice_.key, "start": slice_.start.isoformat(), "impressions": rows,
            "surfaces": self._traffic.plain(), "unanswered": unanswered,
            "p99_ms": 1000 * seconds[int(0.99 * len(seconds))] if seconds else None,
        }  # fmt: skip
        folder = self.state.folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / TRAFFIC).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        self._traffic = Traffic()
        if self._server is not None:
            self._server.unanswered.clear()
            self._server.seconds.clear()
        self.on_slice(slice_, told)

    def _look_at_events(self) -> None:
        """Take up events that were added since."""
        path = self.state.folder / EVENTS
        content = path.read_bytes() if path.is_file() else b""
        if content == self._events_seen:
            return
        simulation = self.project.simulation
        assert simulation is not None
        events = tuple(adapter(Event).validate_json(json.dumps(each)) for each in json.loads(content))
        self.project = replace(self.project, simulation=replace(simulation, events=events))
        self._visitors, self._events_seen = Visitors(self.project, self._random), content


def student_of(project: Project, surface: int | str) -> Student | None:
    """Who chooses what is shown on a surface: the first student that is declared for it."""
    return next((each for each in project.students if each.surface in (surface, None)), None)


def add_events(state: State, events: Sequence[Event]) -> None:
    """Let something befall a world, one that runs or will."""
    path = state.folder / EVENTS
    known = json.loads(path.read_bytes()) if path.is_file() else []
    plain = [adapter(Event).dump_python(event, mode="json") for event in events]
    with atomic_write(path) as file:
        file.write(json.dumps([*known, *plain], indent=1).encode())


def read_traffic(folder: Path, newest: int = 1) -> list[dict[str, Any]]:
    """The newest slices of a world's traffic, oldest first."""
    try:
        lines = (folder / TRAFFIC).read_text(encoding="utf-8").splitlines()[-newest:]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []
