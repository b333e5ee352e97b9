"""Visits: who comes when, to which surface, and what could be shown; then what they do with what they were shown.

Belongs here: drawing both from the simulated world. Not here: who chooses what is shown (choosing.py), the log of it
(live_log.py), the world itself (streams/world.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from exfm.project import Project
from exfm.stream import Stream
from pipeline.streams.simulator import world_of
from pipeline.streams.world import ITEMS, Floats, Ints, World

CANDIDATES = 30  # items that could be shown to a visitor
SHOWN = 4  # of which so many are
HOLDOUT = 0.1  # share of users whom no student ever answers: what the students are compared with


@dataclass(frozen=True)
class Visit:
    """Somebody who asks to be shown something.

    Args:
        surface: its index in ``stream.surfaces``.
        context: (C,) indices of context values.
        candidates: (CANDIDATES or fewer,) items, the most shown of them first.
        in_holdout: whether no student is asked.
    """

    at: datetime
    user: int
    surface: int
    context: Ints
    candidates: Ints
    in_holdout: bool


@dataclass(frozen=True)
class Shown:
    """What a visitor was shown, and what came of it.

    Args:
        by: the student that chose, or ``None``.
        ids: (SHOWN,) of the impressions.
        probabilities: (SHOWN, T) true ones.
        happened: (SHOWN, T) whether there was an outcome.
        logged: (SHOWN, T) what the log says of it.
        delays: (SHOWN, T) after how many seconds.
    """

    visit: Visit
    by: str | None
    ids: Ints
    items: Ints
    probabilities: Floats
    happened: np.ndarray
    logged: np.ndarray
    delays: Floats


class Visitors:
    """Everybody of a project's simulated world.

    Args:
        random: what is drawn follows from it.
    """

    def __init__(self, project: Project, random: np.random.Generator) -> None:
        assert project.simulation is not None
        self.stream, self._random = project.stream, random
        self.world: World = world_of(project.simulation, project.stream)

    def between(self, start: datetime, end: datetime, shown_per_day: float) -> Iterator[Visit]:
        """Visits of [start, end), oldest first: as many as ``shown_per_day`` impressions need, on average."""
        expected = shown_per_day / SHOWN * ((end - start) / timedelta(days=1))
        count = int(self._random.poisson(expected * self.world.traffic(self.world.days(start))))
        if not count:
            return
        after = np.sort(self._random.uniform(0, (end - start).total_seconds(), count))
        users = self.world.draw_users(self._random, count, start)
        day = self.world.days(start)
        surfaces = self.world.shown_on(self._random.integers(0, len(self.stream.surfaces), count), day)
        contexts = self.world.context_of(users, self._random)
        weights = np.cumsum(self.world.appeal(np.arange(self.world.alive(ITEMS, start)), start))
        drawn = np.searchsorted(weights, self._random.uniform(0, weights[-1], (count, CANDIDATES)))
        for seconds, user, surface, context, items in zip(after, users, surfaces, contexts, drawn, strict=True):
            _, first = np.unique(items, return_index=True)
            yield Visit(
                start + timedelta(seconds=float(seconds)), int(user), int(surface), context, items[np.sort(first)],
                in_holdout=bool(holdout(int(user))),
            )  # fmt: skip

    def shown(self, visit: Visit, items: Ints, by: str | None, ids: Ints) -> Shown:
        """What a visitor does with what is shown."""
        count, tasks = len(items), len(self.stream.tasks)
        everywhere = np.full(count, visit.surface)
        context = np.repeat(visit.context[None, :], count, axis=0)
        days = np.full(count, self.world.days(visit.at))
        probabilities = self.world.probabilities(np.full(count, visit.user), items, everywhere, context, days)
        happened = self._random.uniform(size=(count, tasks)) < probabilities
        logged = self.world.logged(happened, everywhere, days, lambda _: self._random.uniform(size=count))
        windows = np.array([task.window.total_seconds() for task in self.stream.tasks])
        # Exponential, cut off at the window's end: most outcomes come soon.
        delays = -np.log1p(-self._random.uniform(size=(count, tasks)) * (1 - np.exp(-4.0))) * windows / 4
        return Shown(visit, by, ids, items, probabilities, happened, logged, delays)

    def organic(self, start: datetime, end: datetime, count: int) -> list[tuple[datetime, int, int]]:
        """When which users came to which items by themselves."""
        if not count:
            return []
        after = np.sort(self._random.uniform(0, (end - start).total_seconds(), count))
        users = self.world.draw_users(self._random, count, start)
        surfaces = self._random.integers(0, len(self.stream.surfaces), count)
        items = self.world.draw_items(self._random, users, surfaces, np.full(count, self.world.days(start)), start)
        return [
            (start + timedelta(seconds=float(seconds)), int(user), int(item))
            for seconds, user, item in zip(after, users, items, strict=True)
        ]


def context_values(stream: Stream, context: Ints) -> dict[str, int | str]:
    """A visit's context by the columns' names, as it is logged."""
    return {
        column.name: int(at) if column.dtype is int else f"{column.name}_{int(at)}"
        for column, at in zip(stream.context, context, strict=True)
    }


def holdout(user: int) -> bool:
    """Is a user one of the share whom no student answers? Always the same ones."""
    return (user * 0x9E3779B1 & 0xFFFFFFFF) / 2**32 < HOLDOUT
