"""The plan of a run: what would be made and why, what is reused, and about how long it takes.

Belongs here: carrying what is missing and out of date on to all that hangs on it, along the asset graph.
Not here: finding it (pipeline/upkeep/), running it (main_job.py), printing it (plan_words.py).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from exfm.stream import Slice
from exfm_assets.assets.features import ONLINE, REGISTRY
from exfm_assets.assets.imported import IMPORTED_LOG
from exfm_assets.assets.releases import GATES
from exfm_assets.assets.reports import REPORT
from exfm_assets.assets.students import DRIFT_REPORT
from exfm_assets.assets.studies import GROUP as STUDIES
from exfm_assets.assets.teachers import PREDICTIONS
from exfm_assets.plan_words import OVERHEAD_SECONDS
from pipeline.registry.plain_manifests import dropped_before
from pipeline.slices.teaching import teaching
from pipeline.upkeep.durations import seconds_a_slice
from pipeline.upkeep.stored_state import WHOLE, StoredState
from pipeline.upkeep.warm_starts import warm_starts
from pipeline.workspace import Workspace

NOT_THERE = "not made yet"
SUMS_UP = (GATES, DRIFT_REPORT, REPORT)  # of everything: made again after anything, and alone never


@dataclass(frozen=True)
class Step:
    """What would be made of one asset.

    Args:
        slices: index of each slice -> why; ``WHOLE`` alone for an asset without slices.
        seconds: about how long, ``None`` if it was never made before.
        restored: indices of slices before the first one whose weights retention dropped: they are trained once more, to
            be continued; nothing else is made of them.
    """

    key: dg.AssetKey
    slices: Mapping[int, str]
    seconds: float | None
    restored: tuple[int, ...] = ()

    @property
    def has_slices(self) -> bool:
        return WHOLE not in self.slices


@dataclass(frozen=True)
class Plan:
    """What a run over some slices would make, upstream first.

    Args:
        standing: assets of which nothing is made.
        warm_starts: a sentence for each model that goes on with more inputs than it has learnt from.
        before: slices before those that were asked for, from the first one that is restored on.
    """

    slices: tuple[Slice, ...]
    steps: tuple[Step, ...]
    standing: tuple[dg.AssetKey, ...]
    warm_starts: tuple[str, ...] = ()
    before: tuple[Slice, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps

    @property
    def range(self) -> tuple[Slice, Slice]:
        """The first and the last slice of which anything is made; the last one of all if that is nothing."""
        last = self.slices[-1]
        touched = [step for step in self.steps if step.has_slices]
        indices = [index for step in touched for index in (*step.slices, *step.restored)]
        by_index = {slice_.index: slice_ for slice_ in (*self.before, *self.slices)}
        return (by_index[min(indices)], by_index[max(indices)]) if indices else (last, last)

    @property
    def range_slices(self) -> tuple[Slice, ...]:
        """The slices that a run of it walks over."""
        first, last = self.range
        return tuple(slice_ for slice_ in (*self.before, *self.slices) if first.index <= slice_.index <= last.index)

    @property
    def expected(self) -> float | None:
        """Seconds of the whole run, with what is around the work; ``None`` where most of it was never made here."""
        timed = sum(step.seconds is not None for step in self.steps if step.has_slices)
        known = timed * 2 > sum(step.has_slices for step in self.steps)
        return self.seconds + OVERHEAD_SECONDS if known else None

    @property
    def seconds(self) -> float:
        """About how long the work takes, as far as it was done before."""
        return sum(step.seconds or 0.0 for step in self.steps)


class Planner:
    """Walks the asset graph from the log down.

    Args:
        recorded: asset -> indices that Dagster has a record of (``WHOLE`` for one without slices); what is stored but
            not recorded is reported, at no cost.
        state: what is stored, if it was looked at already; else whole files are read for it.
    """

    def __init__(
        self,
        work: Workspace,
        graph: BaseAssetGraph,
        recorded: Mapping[dg.AssetKey, frozenset[int]] | None = None,
        state: StoredState | None = None,
    ) -> None:
        self.work, self.graph, self.recorded = work, graph, recorded
        self.state = state or StoredState(work, read_whole=True)

    def plan(self, slices: Iterable[Slice], selected: Iterable[dg.AssetKey]) -> Plan:
        """What would be made of some assets over a range of slices."""
        listed, keys = tuple(slices), set(selected)
        steps: dict[dg.AssetKey, Step] = {}
        for key in self.graph.toposorted_asset_keys:
            if key in keys and (made := self._made(key, listed, steps)):
                restored = self._restored(key, made)
                steps[key] = Step(key, made, self._seconds(key, (*made, *restored)), restored)
        standing = tuple(key for key in self.graph.toposorted_asset_keys if key in keys and key not in steps)
        said = tuple(line for asset, line in warm_starts(self.work).items() if dg.AssetKey(asset.split("/")) in keys)
        oldest = min((at for step in steps.values() for at in step.restored), default=listed[0].index)
        before = tuple(self.work.project.stream.slice_at(at) for at in range(oldest, listed[0].index))
        return Plan(listed, tuple(steps.values()), standing, said, before)

    def _restored(self, key: dg.AssetKey, made: Mapping[int, str]) -> tuple[int, ...]:
        """Slices of a chain of checkpoints that must be trained once more, for what is made to continue them."""
        kind, name, part = (*key.path, "", "")[:3]
        if part not in ("checkpoint", "control") or WHOLE in made:
            return ()
        models = [f"{'control' if part == 'control' else kind}/{name}"]
        models += [f"control/{name}"] if kind == "student" and part == "checkpoint" else []  # it is judged against it
        return tuple(sorted({at for model in models for at in dropped_before(self.work, model, min(made))}))

    def _made(self, key: dg.AssetKey, slices: tuple[Slice, ...], steps: Mapping[dg.AssetKey, Step]) -> dict[int, str]:
        name = key.to_user_string()
        if not self.graph.get(key).is_partitioned:
            reason = self._reason_of_whole(key, name, steps)
            return {WHOLE: reason} if reason is not None else {}
        made: dict[int, str] = {}
        for slice_ in slices:
            reason = self._reason(key, name, slice_.index, steps, made)
            if reason is not None:
                made[slice_.index] = reason
        return made

    def _reason(
        self, key: dg.AssetKey, name: str, index: int, steps: Mapping[dg.AssetKey, Step], mine: Mapping[int, str]
    ) -> str | None:
        if (fault := self.state.outdated(name).get(index)) is not None:
            return fault.why
        if index not in self.state.stored(name) and self._is_kept(key, index):
            return NOT_THERE
        # Nothing stored depends on the registry; what hangs on the files of a log is told by what was read of them.
        for parent in sorted(self.graph.get(key).parent_keys - {REGISTRY, IMPORTED_LOG}):
            made = mine if parent == key else steps[parent].slices if parent in steps else {}
            above = [at for at in self._above(key, parent, index) if at in made]
            if any(not self._leaves_columns(parent, at, steps) for at in above):
                return _follows(parent)
        if self.recorded is not None and index not in self.recorded.get(key, frozenset()):
            return "Dagster has no record of it"
        return None

    def _leaves_columns(self, key: dg.AssetKey, index: int, steps: Mapping[dg.AssetKey, Step]) -> bool:
        """Does a table that is made again only get more columns? What was made of those that it has stands."""
        fault = self.state.outdated(key.to_user_string()).get(index)
        if fault is None or fault.columns_of is None:
            return False
        return not any(
            parent.to_user_string() in fault.columns_of
            and any(at in steps[parent].slices for at in self._above(key, parent, index))
            for parent in self.graph.get(key).parent_keys & steps.keys()
        )

    def _is_kept(self, key: dg.AssetKey, index: int) -> bool:
        """Is a slice of the asset ever stored?"""
        if key.path[0] == "teacher" and key.path[-1] == PREDICTIONS:
            return self.state.is_ever_scored(self.work.project.teacher(key.path[1]), index)
        return True

    def _above(self, key: dg.AssetKey, parent: dg.AssetKey, index: int) -> range | tuple[int, ...]:
        """The slices of a parent that a slice is made of."""
        if key.path[0] == "student" and parent.path[0] == "teacher" and not self._teaches(key, parent, index):
            return ()
        if not self.graph.get(parent).is_partitioned:
            return (WHOLE,)
        mapping = self.graph.get(key).partition_mappings.get(parent)
        if isinstance(mapping, dg.TimeWindowPartitionMapping):
            return range(index + mapping.start_offset, index + mapping.end_offset + 1)
        return (index,)

    def _teaches(self, key: dg.AssetKey, parent: dg.AssetKey, index: int) -> bool:
        """Are these the predictions that a student reads of a slice? A takeover changes nothing of slices before it."""
        taught = self.work.project.student(key.path[1]).teachers
        return parent.path[-1] == PREDICTIONS and parent.path[1] in {
            teaching(self.work, name, index).name for name in taught
        }

    def _reason_of_whole(self, key: dg.AssetKey, name: str, steps: Mapping[dg.AssetKey, Step]) -> str | None:
        if (fault := self.state.outdated(name).get(WHOLE)) is not None:
            return fault.why
        if key == REGISTRY and (why := self.state.registry_fault()) is not None:
            return why
        if key == ONLINE and not self.state.is_loaded():
            return NOT_THERE
        if self.graph.get(key).group_name == STUDIES:
            return "asked for"
        if key == IMPORTED_LOG and not self.state.is_imported():
            return NOT_THERE
        if parents := [parent for parent in self.graph.get(key).parent_keys if parent in steps and parent != REGISTRY]:
            return _follows(min(parents))
        if key == REPORT and not (self.work.state.reports / "report.html").is_file():
            return NOT_THERE
        if self.recorded is not None and key not in self.recorded and not _may_be_refused(key):
            return "Dagster has no record of it"
        return None

    def _seconds(self, key: dg.AssetKey, made: Collection[int]) -> float | None:
        seconds = seconds_a_slice(self.work, key.to_user_string())
        return None if seconds is None else seconds * len(made)


def _follows(parent: dg.AssetKey) -> str:
    return f"after {parent.to_user_string()}"


def _may_be_refused(key: dg.AssetKey) -> bool:
    """Where a gate refuses, nothing is recorded, and asking again would not change that."""
    return key.path[-1] == "release"


def recorded_by(
    instance: dg.DagsterInstance, work: Workspace, graph: BaseAssetGraph
) -> dict[dg.AssetKey, frozenset[int]]:
    """Asset -> indices of the slices that an instance has a record of."""
    stream = work.project.stream
    index_of = {slice_.key: slice_.index for slice_ in stream.slices(stream.first_slice, work.now())}
    recorded: dict[dg.AssetKey, frozenset[int]] = {}
    for key in graph.toposorted_asset_keys:
        if graph.get(key).is_partitioned:
            partitions = instance.get_materialized_partitions(key)
            recorded[key] = frozenset(index_of[partition] for partition in partitions if partition in index_of)
        elif instance.get_latest_materialization_event(key) is not None:
            recorded[key] = frozenset({WHOLE})
    return recorded
