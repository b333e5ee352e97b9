"""The simulator: draws a slice's events from the world.

Belongs here: drawing one slice. Not here: the world itself (world.py), writing it as a log (simulated_log.py).

A slice is a pure function of the seed and the slice, so slices can be made in any order, apart, or again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
import polars as pl

from exfm.log_columns import Column
from exfm.simulation import Simulation
from exfm.stream import Slice, Stream
from pipeline.streams.contract import schema_of
from pipeline.streams.simulated_inputs import labels_told, log_inputs, requests, share_where_it_happened
from pipeline.streams.world import BROKEN, CONTEXT_VALUES, DAY, FLIPPED, SLICE, Floats, Ints, World, during, generator

IDS_PER_SECOND = 1_000_000
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class SimulatedSlice:
    """A slice's events in the contract's columns, and ``truth``: what each task's label is expected to be.

    That is its true probability, or of values the expected share of the ceiling.
    """

    impressions: pl.DataFrame
    outcomes: pl.DataFrame
    interactions: pl.DataFrame
    truth: pl.DataFrame


@lru_cache(maxsize=4)
def world_of(simulation: Simulation, stream: Stream) -> World:
    """The world is a value: kept, because its intercepts take a moment to find."""
    return World(simulation, stream)


def simulate(simulation: Simulation, stream: Stream, slice_: Slice) -> SimulatedSlice:
    """Draw one slice."""
    world = world_of(simulation, stream)
    random = generator(simulation.seed, SLICE, slice_.index)
    day = world.days(slice_.start)
    usual = simulation.impressions_per_day * world.traffic(day)
    count = int(random.poisson(usual * ((slice_.end - slice_.start) / DAY)))
    at = np.sort(_times(random, count, slice_))
    days = world.days(slice_.start) + (at / 86_400e6)
    users = world.draw_users(random, count, slice_.start)
    surfaces = world.shown_on(random.integers(0, len(stream.surfaces), count), day)
    items = world.draw_items(random, users, surfaces, days, slice_.start)
    context = world.context_of(users, random)
    ids = int(slice_.start.timestamp()) * IDS_PER_SECOND + np.arange(count)
    probabilities = world.probabilities(users, items, surfaces, context, days)
    happened = random.uniform(size=probabilities.shape) < probabilities
    happened = world.logged(
        happened, surfaces, days,
        lambda number: generator(simulation.seed, FLIPPED, slice_.index, number).uniform(size=count),
    )  # fmt: skip
    shown = {
        "impression_id": ids,
        "event_timestamp": _stamps(slice_.start, at),
        stream.user.name: users,
        stream.item.name: items,
        stream.surface.name: np.array(stream.surfaces, dtype=object)[surfaces],
        **{column.name: _values(column, context[:, index]) for index, column in enumerate(stream.context)},
        **log_inputs(world, slice_, items),
        **({} if stream.weight is None else {stream.weight: np.ones(count)}),
        **({} if stream.request is None else {stream.request.name: requests(stream.request, slice_, users, at)}),
        **labels_told(world, slice_, happened),
    }
    impressions = pl.DataFrame(shown, schema=schema_of(stream, "impressions"), strict=False)
    impressions = _with_broken_columns(impressions, simulation, stream, slice_, days)
    outcomes, clicked_at = _outcomes(random, simulation, stream, slice_, ids, at, happened)
    outcomes = outcomes.filter(pl.col("task").is_in(pl.Series(stream.outcome_tasks, dtype=pl.String).implode()))
    expected = {task.name: probabilities[:, n] * share_where_it_happened(task) for n, task in enumerate(stream.tasks)}
    truth = {"impression_id": ids, **expected}
    clicks = happened[:, 0]
    interactions = _interactions(random, world, slice_, users[clicks], items[clicks], clicked_at, count // 2)
    frames = (impressions, outcomes, interactions, pl.DataFrame(truth))
    return SimulatedSlice(*(frame.clear() if world.is_silent(day) else frame for frame in frames))


def _with_broken_columns(
    impressions: pl.DataFrame, simulation: Simulation, stream: Stream, slice_: Slice, days: Floats
) -> pl.DataFrame:
    """Context columns as they are logged while an event breaks them: what happened does not depend on it."""
    for number, event in enumerate(simulation.events):
        if event.kind not in ("null", "stuck"):
            continue
        column = next(column for column in stream.context if column.name == event.of)
        drawn = generator(simulation.seed, BROKEN, slice_.index, number).uniform(size=impressions.height)
        broken = pl.Series(during(event, days) & (drawn < event.strength))
        instead = None if event.kind == "null" else _values(column, np.zeros(1, dtype=np.int64))[0]
        written = pl.when(broken).then(pl.lit(instead)).otherwise(pl.col(column.name))
        impressions = impressions.with_columns(written.cast(impressions.schema[column.name]).alias(column.name))
    return impressions


def _times(random: np.random.Generator, count: int, slice_: Slice) -> Floats:
    """Microseconds since the slice's start: more in the evening (UTC) than at night."""
    grid = np.linspace(0, (slice_.end - slice_.start) / MICROSECOND, 97)
    hours = (slice_.start.hour + slice_.start.minute / 60 + grid / 3600e6) % 24
    busy = np.cumsum(1.0 + 0.6 * np.sin((hours - 14) / 24 * 2 * np.pi))
    drawn = random.uniform(busy[0], busy[-1], count)
    at: Floats = np.minimum(np.interp(drawn, busy, grid), grid[-1] - 1)
    return at


def _stamps(start: datetime, microseconds: Floats) -> pl.Series:
    epoch = int(start.timestamp()) * 1_000_000
    return pl.Series(epoch + microseconds.astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def _values(column: Column, indices: Ints) -> list[object]:
    """Context values by index: numbers, or words made of the column's name."""
    values: list[object] = [n if column.dtype is int else f"{column.name}_{n}" for n in range(CONTEXT_VALUES)]
    return [values[index] for index in indices]


def _outcomes(
    random: np.random.Generator,
    simulation: Simulation,
    stream: Stream,
    slice_: Slice,
    ids: Ints,
    at: Floats,
    happened: np.ndarray,
) -> tuple[pl.DataFrame, Floats]:
    """Outcomes with their delays, and the late, repeated and orphaned ones; also when the first task's happened."""
    rows: list[pl.DataFrame] = []
    first_at = np.empty(0)
    for index, task in enumerate(stream.tasks):
        window = task.window / MICROSECOND
        yes, no = np.flatnonzero(happened[:, index]), np.flatnonzero(~happened[:, index])
        # Exponential, cut off at the window's end: most outcomes come soon.
        delay = -np.log1p(-random.uniform(size=yes.size) * (1 - np.exp(-4.0))) * window / 4
        first_at = at[yes] + delay if index == 0 else first_at
        late = random.choice(no, min(int(simulation.late_share * yes.size), no.size), replace=False)
        after = window + 1 + random.uniform(size=late.size) * (stream.lateness / MICROSECOND or window)
        again = random.choice(yes.size, int(simulation.duplicate_share * yes.size), replace=False)
        lost = int(simulation.orphan_share * yes.size)
        unknown = -1 - random.integers(0, 2**40, lost)
        moments = [
            at[yes] + delay,
            at[late] + after,
            (at[yes] + delay)[again] + 1e6,
            random.choice(at, lost) if at.size else at,
        ]
        named = np.concatenate([ids[yes], ids[late], ids[yes][again], unknown])
        stamps = _stamps(slice_.start, np.concatenate(moments))
        rows.append(
            pl.DataFrame({"impression_id": named, "outcome_timestamp": stamps}).with_columns(task=pl.lit(task.name))
        )
    schema = schema_of(stream, "outcomes")
    return pl.concat(rows).select(list(schema)).sort("outcome_timestamp", "impression_id", "task"), first_at


def _interactions(
    random: np.random.Generator, world: World, slice_: Slice, users: Ints, items: Ints, at: Floats, organic: int
) -> pl.DataFrame:
    """What users did: the first task's outcomes, and visits of their own to items they like."""
    stream = world.stream
    own = np.sort(_times(random, organic, slice_))
    visitors = world.draw_users(random, organic, slice_.start)
    surfaces = random.integers(0, len(stream.surfaces), organic)
    liked = world.draw_items(random, visitors, surfaces, world.days(slice_.start) + own / 86_400e6, slice_.start)
    columns = {
        "event_timestamp": _stamps(slice_.start, np.concatenate([at, own])),
        stream.user.name: np.concatenate([users, visitors]),
        stream.item.name: np.concatenate([items, liked]),
    }
    frame = pl.DataFrame(columns, schema=schema_of(stream, "interactions"), strict=False)
    return frame.sort("event_timestamp", stream.user.name, stream.item.name)
