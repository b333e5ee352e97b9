"""The simulated world: who is there, what they like, and how likely each outcome truly is.

Belongs here: users, items, tastes and true probabilities, each a pure function of the seed and the time.
Not here: drawing a slice's events from them (simulator.py), the knobs (exfm/simulation.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from exfm.simulation import Event, Simulation
from exfm.stream import Stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
DAY = timedelta(days=1)
BLOCK = 4096  # entities drawn together, so that number 5 is the same whether 10 or 10 million exist
USERS, ITEMS, CONTEXT, SLICE, REFERENCE, BROKEN, INPUTS, FLIPPED = range(8)  # what a stream of random numbers is for
CONTEXT_VALUES = 6
REFERENCE_ROWS = 8_000
CANDIDATES = 4
HIGHEST_RATE = 0.95  # of outcomes that an event makes more likely


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers of their own for each purpose: independent, and the same in every process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def during(event: Event, days: Floats) -> NDArray[np.bool_]:
    """(N,) whether an event goes on at these days since the stream began."""
    going: NDArray[np.bool_] = (days >= event.day) & (days < event.end)
    return going


@lru_cache(maxsize=64)
def _block(seed: int, kind: int, block: int, width: int) -> Floats:
    """(BLOCK, width) traits of entities that are drawn together; kept, because they are asked for again and again."""
    return generator(seed, kind, block).standard_normal((BLOCK, width))


@dataclass(frozen=True)
class World:
    """A seeded world on a stream.

    Users have a propensity a task, a taste, and a taste that they drift towards; items have quality, taste and an
    appeal that halves every ``half_life_days`` since birth. A surface mixes the dimensions of taste in its own way.
    """

    simulation: Simulation
    stream: Stream

    def days(self, moment: datetime) -> float:
        """Days since the stream began."""
        return (moment - self.stream.first_slice) / DAY

    def alive(self, kind: int, moment: datetime) -> int:
        """How many users or items were born before a moment; ids count up from 0."""
        first, daily = (
            (self.simulation.users, self.simulation.new_users_per_day)
            if kind == USERS
            else (self.simulation.items, self.simulation.new_items_per_day)
        )
        return first + int(daily * max(self.days(moment), 0.0))

    def traits(self, kind: int, ids: Ints) -> Floats:
        """(N, 2 + T + 2 K) standard normal traits of users or items by id; the same id always has the same."""
        width = 2 + len(self.stream.tasks) + 2 * self.simulation.taste
        blocks = np.unique(ids // BLOCK)
        drawn = np.stack([_block(self.simulation.seed, kind, int(block), width) for block in blocks])
        traits: Floats = drawn[np.searchsorted(blocks, ids // BLOCK), ids % BLOCK]
        return traits

    def activity(self, ids: Ints) -> Floats:
        """How often users come: heavy-tailed (log-normal)."""
        often: Floats = np.exp(1.3 * self.traits(USERS, ids)[:, 0])
        return often

    def born(self, ids: Ints) -> Floats:
        """Days at which items were born; those alive at the start were born over two half-lives before it."""
        simulation = self.simulation
        before = -2 * simulation.half_life_days * (1 - ids / simulation.items)
        after = (ids - simulation.items + 1) / max(simulation.new_items_per_day, 1)
        days: Floats = np.where(ids < simulation.items, before, after)
        return days

    def appeal(self, ids: Ints, moment: datetime) -> Floats:
        """How much items are shown: log-normal, halved every half-life, nothing before birth."""
        day, traits = self.days(moment), self.traits(ITEMS, ids)
        age = day - self.born(ids)
        popular = self._turned(traits[:, :1], traits[:, 1:2], np.array([day]))[:, 0]
        decayed = np.exp(1.1 * popular) * 0.5 ** (age / self.simulation.half_life_days)
        shown: Floats = np.where(age >= 0, decayed, 0.0)
        return shown

    def _drift_angle(self, days: Floats) -> Floats:
        """How far taste has moved towards what it drifts to, as an angle."""
        simulation = self.simulation
        moved: dict[str, Floats] = {
            "none": np.zeros_like(days),
            "gradual": simulation.drift_strength * days / 7,
            "sudden": simulation.drift_strength * (days >= simulation.drift_day).astype(np.float64),
        }
        jumped = sum((event.strength * during(event, days) for event in self._events("taste")), np.zeros_like(days))
        angle: Floats = np.pi / 2 * (moved[simulation.drift] + jumped)
        return angle

    def _turned(self, before: Floats, after: Floats, days: Floats) -> Floats:
        """(N, M) traits of items that events of popularity turn into others, at these (N,) or (1,) days."""
        events = self._events("popularity")
        if not events:
            return before
        moved = sum((event.strength * during(event, days) for event in events), np.zeros_like(days))
        angle = np.pi / 2 * moved[:, None]
        turned: Floats = np.cos(angle) * before + np.sin(angle) * after
        return turned

    def _events(self, kind: str) -> list[Event]:
        return [event for event in self.simulation.events if event.kind == kind]

    def traffic(self, day: float) -> float:
        """How many times as many impressions there are as usual."""
        strengths = [event.strength for event in self._events("traffic") if event.day <= day < event.end]
        return float(np.prod(strengths)) if strengths else 1.0

    def is_silent(self, day: float) -> bool:
        """Is nothing logged?"""
        return any(event.day <= day < event.end for event in self._events("missing"))

    def shown_on(self, surfaces: Ints, day: float) -> Ints:
        """Indices of surfaces, with those that are not shown yet replaced by the next one that is."""
        hidden = {
            self.stream.surfaces.index(event.of) for event in self._events("surface") if event.of and day < event.day
        }
        shown = surfaces
        for _ in hidden:
            shown = np.where(np.isin(shown, sorted(hidden)), (shown + 1) % len(self.stream.surfaces), shown)
        return shown

    def affinity(self, users: Ints, items: Ints, surfaces: Ints, days: Floats) -> Floats:
        """How well items meet users' taste of the day on a surface: about standard normal. Arrays broadcast, (N,)."""
        first, taste = 2 + len(self.stream.tasks), self.simulation.taste
        user, item = self.traits(USERS, users), self.traits(ITEMS, items)[:, first : first + taste]
        angle = self._drift_angle(days)[:, None]
        wanted = np.cos(angle) * user[:, first : first + taste] + np.sin(angle) * user[:, first + taste :]
        met: Floats = np.einsum("nk,nk,nk->n", wanted, item, self._mix[surfaces]) / np.sqrt(taste)
        return met

    @cached_property
    def _mix(self) -> Floats:
        """(S, K) positive weights of taste's dimensions on each surface, mean square 1."""
        shape = (len(self.stream.surfaces), self.simulation.taste)
        drawn: Floats = np.exp(0.5 * generator(self.simulation.seed, CONTEXT, 0).standard_normal(shape))
        mixed: Floats = drawn / np.sqrt((drawn**2).mean(axis=1, keepdims=True))
        return mixed

    @cached_property
    def context_effects(self) -> Floats:
        """(T, C, CONTEXT_VALUES) effect of each context value on each task's logit."""
        shape = (len(self.stream.tasks), len(self.stream.context), CONTEXT_VALUES)
        effects: Floats = 0.2 * generator(self.simulation.seed, CONTEXT, 1).standard_normal(shape)
        return effects

    def _free_logits(self, users: Ints, items: Ints, surfaces: Ints, context: Ints, days: Floats) -> Floats:
        """(N, T) logits before each surface's and task's intercept."""
        tasks = len(self.stream.tasks)
        propensity = 0.6 * self.traits(USERS, users)[:, 2 : 2 + tasks]
        item = self.traits(ITEMS, items)
        other = 2 + tasks + self.simulation.taste + np.arange(tasks) % self.simulation.taste  # no item's taste is there
        quality = 0.7 * self._turned(item[:, 2 : 2 + tasks], item[:, other], days)
        liking = 0.7 * self.affinity(users, items, surfaces, days)[:, None]
        hour = 0.15 * np.sin(2 * np.pi * (days % 1.0))[:, None] * np.linspace(1, -1, tasks)
        positions = np.arange(context.shape[1])
        effects = self.context_effects[:, positions, context].sum(axis=2).T  # (T, N, C) -> (N, T)
        logits: Floats = propensity + quality + liking + hour + effects
        return logits

    def probabilities(self, users: Ints, items: Ints, surfaces: Ints, context: Ints, days: Floats) -> Floats:
        """(N, T) true probabilities of an outcome inside its attribution window.

        Args:
            users, items, surfaces: (N,) ids, and indices into ``stream.surfaces``.
            context: (N, C) indices of context values.
            days: (N,) days since the stream began.
        """
        free = self._free_logits(users, items, surfaces, context, days)
        probabilities: Floats = 1 / (1 + np.exp(-(free + self.intercepts[surfaces])))
        for event in self._events("rates"):
            raised = np.minimum(probabilities * event.strength, HIGHEST_RATE)
            there = True if event.of is None else surfaces == self.stream.surfaces.index(event.of)
            probabilities = np.where((during(event, days) & there)[:, None], raised, probabilities)
        return probabilities

    def logged(self, happened: Flags, surfaces: Ints, days: Floats, drawn: Callable[[int], Floats]) -> Flags:
        """(N, T) what the log says of what happened, which events may flip.

        Args:
            happened: (N, T); surfaces, days: (N,).
            drawn: (N,) random numbers in [0, 1) for the event of this number.
        """
        for number, event in enumerate(self._events("flipped")):
            there = True if event.of is None else surfaces == self.stream.surfaces.index(event.of)
            wrong = during(event, days) & there & (drawn(number) < event.strength)
            happened = happened ^ wrong[:, None]
        return happened

    def rates(self) -> Floats:
        """(S, T) mean rate of each task on each surface: 30 % down to 3 %."""
        tasks = np.geomspace(0.22, 0.04, len(self.stream.tasks)) if len(self.stream.tasks) > 1 else np.array([0.22])
        surfaces = np.geomspace(1.36, 0.75, len(self.stream.surfaces)) if len(self.stream.surfaces) > 1 else np.ones(1)
        return surfaces[:, None] * tasks[None, :]

    @cached_property
    def intercepts(self) -> Floats:
        """(S, T) so that a reference crowd at the stream's start meets ``rates`` (bisection), whatever befalls it."""
        if self.simulation.events:
            return replace(self, simulation=replace(self.simulation, events=())).intercepts
        random = generator(self.simulation.seed, REFERENCE, 0)
        start = self.stream.first_slice
        intercepts = np.empty((len(self.stream.surfaces), len(self.stream.tasks)))
        for surface in range(len(self.stream.surfaces)):
            surfaces = np.full(REFERENCE_ROWS, surface)
            users = self.draw_users(random, REFERENCE_ROWS, start)
            items = self.draw_items(random, users, surfaces, np.zeros(REFERENCE_ROWS), start)
            context = self.context_of(users, random)
            free = self._free_logits(users, items, surfaces, context, random.uniform(0, 1, REFERENCE_ROWS))
            for task, rate in enumerate(self.rates()[surface]):
                low, high = -12.0, 6.0
                for _ in range(50):
                    middle = (low + high) / 2
                    above = (1 / (1 + np.exp(-(free[:, task] + middle)))).mean() > rate
                    low, high = (low, middle) if above else (middle, high)
                intercepts[surface, task] = (low + high) / 2
        return intercepts

    def draw_users(self, random: np.random.Generator, count: int, moment: datetime) -> Ints:
        """Users by their activity among those alive."""
        weights = np.cumsum(self.activity(np.arange(self.alive(USERS, moment))))
        return np.searchsorted(weights, random.uniform(0, weights[-1], count))

    def draw_items(
        self, random: np.random.Generator, users: Ints, surfaces: Ints, days: Floats, moment: datetime
    ) -> Ints:
        """Items as a recommender shows them: a few candidates by appeal, of which taste tends to choose."""
        weights = np.cumsum(self.appeal(np.arange(self.alive(ITEMS, moment)), moment))
        candidates = np.searchsorted(weights, random.uniform(0, weights[-1], (CANDIDATES, len(users))))
        liking = np.stack([self.affinity(users, column, surfaces, days) for column in candidates])
        chosen = (liking + random.gumbel(size=liking.shape)).argmax(axis=0)
        shown: Ints = candidates[chosen, np.arange(len(users))]
        return shown

    def context_of(self, users: Ints, random: np.random.Generator) -> Ints:
        """(N, C) indices of context values: each user's own most of the time."""
        columns = len(self.stream.context)
        usual = (users[:, None] * (2 * np.arange(columns) + 3) // 7) % CONTEXT_VALUES
        other = random.integers(0, CONTEXT_VALUES, usual.shape)
        values: Ints = np.where(random.uniform(size=usual.shape) < 0.85, usual, other)
        return values
