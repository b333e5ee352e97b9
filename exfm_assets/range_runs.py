"""What a tick asks for as few runs: each makes a range of slices, and nothing in it is made that was not asked for.

Belongs here: grouping what is asked for, and the sensor that sends it. Not here: what is asked for (automation.py).

Dagster 1.13 makes a backfill of a tick that asks for several slices of an asset, and its backfill daemon goes on every
30 seconds by one level of the graph wherever two assets lack different slices: a late slice took eight such steps. Our
assets skip slices that stand, so a run may cover them: one range for all assets then does, in the order of the graph.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster_shared.record import copy

from exfm.stream import Stream
from exfm_assets.partitions import slice_partitions
from exfm_assets.plan import Planner
from pipeline.upkeep.stored_state import StoredState
from pipeline.workspace import Workspace

Slices = Mapping[dg.AssetKey, Set[int]]  # asset -> indices of slices
Makes = Callable[[Set[dg.AssetKey], int, int], Slices]


@dataclass(frozen=True)
class RangeRun:
    """A run of some assets over the slices ``first`` to ``last``, indices both."""

    assets: frozenset[dg.AssetKey]
    first: int
    last: int


def range_runs(asked: Slices, makes: Makes, parents: Mapping[dg.AssetKey, Iterable[dg.AssetKey]]) -> list[RangeRun]:
    """Runs that may go side by side, and make nothing but what is asked for.

    What hangs on an earlier range is held back: it is still lacking on a later tick, and asked for then.

    Args:
        makes: what a run of some assets over a first to a last slice would make; the rest stands.
        parents: of each asset that is asked for, those it is made of; in the order of the graph.
    """
    runs: list[RangeRun] = []
    under_way: set[dg.AssetKey] = set()  # what is made in an earlier range, or waits for one
    for first, last, assets in _ranges(asked, makes):
        held: set[dg.AssetKey] = set()
        for key, above in parents.items():
            if key in assets and (key in under_way or not (under_way | held).isdisjoint(above)):
                held.add(key)
        if sent := assets - held:
            runs.append(RangeRun(frozenset(sent), first, last))
        under_way |= assets
    return runs


def riding_along(
    runs: Sequence[RangeRun], whole: Iterable[dg.AssetKey], parents: Callable[[dg.AssetKey], Iterable[dg.AssetKey]]
) -> tuple[list[RangeRun], set[dg.AssetKey]]:
    """Assets without slices in the newest run that makes something they are made of; and those that hang on none.

    In a run beside it they would be made of what was there before, and count as up to date with what came meanwhile.
    What others are made of goes first in the oldest run that has one of them.

    Args:
        whole: in the order of the graph.
    """
    at = {key: number for number, run in enumerate(runs) for key in run.assets}
    riding: dict[int, set[dg.AssetKey]] = defaultdict(set)
    alone: set[dg.AssetKey] = set()
    for key in whole:
        above = [at[parent] for parent in parents(key) if parent in at]
        if above:
            at[key] = max(above)
            riding[at[key]].add(key)
        elif below := [number for number, run in enumerate(runs) if any(key in parents(made) for made in run.assets)]:
            riding[below[0]].add(key)
        else:
            alone.add(key)
    return [replace(run, assets=run.assets | riding[number]) for number, run in enumerate(runs)], alone


def _ranges(asked: Slices, makes: Makes) -> Iterator[tuple[int, int, set[dg.AssetKey]]]:
    """First slice, last slice, assets: the longest ranges in which only what is asked for is made, oldest first."""
    lacking = sorted(set().union(*asked.values()))
    while lacking:
        # A range that makes too much does so however far it goes on, so the longest that doesn't is found by halves.
        fits = bisect_left(range(2, len(lacking) + 1), True, key=lambda count: not _fits(lacking[:count], asked, makes))
        yield lacking[0], lacking[fits], _wanted(lacking[: fits + 1], asked)
        lacking = lacking[fits + 1 :]


def _wanted(indices: Iterable[int], asked: Slices) -> set[dg.AssetKey]:
    return {key for key, slices in asked.items() if not slices.isdisjoint(indices)}


def _fits(indices: list[int], asked: Slices, makes: Makes) -> bool:
    made = makes(_wanted(indices, asked), indices[0], indices[-1])
    return all(slices <= asked[key] for key, slices in made.items())


def runs_of(work: Workspace, graph: BaseAssetGraph, asked: Slices) -> list[RangeRun]:
    """``range_runs`` by what a workspace holds now."""
    planner, stream = Planner(work, graph, state=StoredState(work)), work.project.stream

    def makes(keys: Set[dg.AssetKey], first: int, last: int) -> Slices:
        plan = planner.plan((stream.slice_at(index) for index in range(first, last + 1)), keys)
        return {step.key: step.slices.keys() for step in plan.steps}

    ordered = [key for key in graph.toposorted_asset_keys if key in asked]
    return range_runs(asked, makes, {key: graph.get(key).parent_keys for key in ordered})


class RangeRunSensor(dg.AutomationConditionSensorDefinition):
    """Dagster's automation sensor, but what it asks for of assets with slices is sent as ``range_runs``.

    Args:
        work: whose slices are asked for.
        options: as of ``AutomationConditionSensorDefinition``.
    """

    def __init__(self, name: str, work: Workspace, **options: Any) -> None:
        super().__init__(name, use_user_code_server=True, **options)  # conditions of ours look at what is stored
        self._work = work

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> Any:
        data = super().evaluate_tick(context)
        asked, whole = asked_for(data.run_requests or (), self._work.project.stream)
        if not asked:
            return data
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        ordered = [key for key in graph.toposorted_asset_keys if key in whole]
        runs, alone = riding_along(runs_of(self._work, graph, asked), ordered, lambda key: graph.get(key).parent_keys)
        tags = {**self.run_tags, **dg.DagsterRun.tags_for_sensor(self)}
        requests = [_request(run, self._work.project.stream, tags) for run in runs]
        if alone:
            requests.append(dg.RunRequest(asset_selection=sorted(alone), tags=tags))
        return copy(data, run_requests=requests)


def asked_for(
    requests: Iterable[dg.RunRequest], stream: Stream
) -> tuple[dict[dg.AssetKey, set[int]], set[dg.AssetKey]]:
    """The slices of each asset that a tick's requests ask for, as runs or as a backfill; and assets without slices."""
    asked: dict[dg.AssetKey, set[int]] = defaultdict(set)
    whole: set[dg.AssetKey] = set()
    for request in requests:
        if request.asset_graph_subset is not None:
            wanted = {(key, partition) for key, partition in request.asset_graph_subset.iterate_asset_partitions()}
        else:
            wanted = {(key, request.partition_key) for key in request.asset_selection or ()}
        for key, partition in wanted:
            if partition is None:
                whole.add(key)
            else:
                asked[key].add(stream.slice_of(partition).index)
    return dict(asked), whole


def _request(run: RangeRun, stream: Stream, tags: Mapping[str, str]) -> dg.RunRequest:
    first, last = stream.slice_at(run.first).key, stream.slice_at(run.last).key
    if first == last:
        tags = {**tags, **slice_partitions(stream).get_tags_for_partition_key(first)}
        return dg.RunRequest(asset_selection=sorted(run.assets), partition_key=first, tags=tags)
    ranged = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    return dg.RunRequest(asset_selection=sorted(run.assets), tags={**tags, **ranged})
