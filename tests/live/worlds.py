"""A small live world for tests, whose clock they move."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exfm.project import Project
from exfm.state import State
from pipeline.live.choosing import Server
from pipeline.live.live_world import LiveWorld
from projects import live

FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def live_project() -> Project:
    """The live project on a stream that begins at a known moment, with a crowd of a tenth."""
    simulation = live.PROJECT.simulation
    assert simulation is not None
    return replace(
        live.PROJECT,
        stream=replace(live.PROJECT.stream, first_slice=FIRST),
        simulation=replace(simulation, impressions_per_day=400 * live.MINUTES_A_DAY, users=200, items=60),
    )


class Clock:
    """A clock that goes on by some seconds whenever the world waits."""

    def __init__(self, now: datetime, step: timedelta = SECOND) -> None:
        self.now, self._step = now, step

    def __call__(self) -> datetime:
        return self.now

    def waits(self, until: datetime) -> "Stop":
        """What the world waits for; it is set once the clock is there."""
        return Stop(self, until, self._step)


class Stop:
    """As an event: set at some moment of a clock, which each wait moves on."""

    def __init__(self, clock: Clock, until: datetime, step: timedelta) -> None:
        self._clock, self._until, self._step = clock, until, step

    def wait(self, _: float | None = None) -> bool:
        self._clock.now += self._step
        return self._clock.now >= self._until


def world(folder: Path, clock: Clock, server: Server | None = None) -> LiveWorld:
    project = live_project()
    return LiveWorld(project, State(folder=folder / "live", log=folder / "live" / "log"), server, clock)
