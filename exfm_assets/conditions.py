"""Conditions that Dagster does not have: they look at what is stored, not only at what was recorded.

Belongs here: operands of automation conditions. Not here: which asset has which condition (automation.py), what is out
of date (pipeline/verify/), why a student is refreshed (pipeline/upkeep/refresh.py).

They need the workspace, so the sensor that evaluates them runs in the code location (``use_user_code_server``).
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.asset_graph_view.entity_subset import EntitySubset

from exfm.learning import Student
from exfm_assets.corrections import cost_of
from pipeline.registry.plain_manifests import dropped_before
from pipeline.releases.release import current_release
from pipeline.releases.touched import first_touched, pending_since
from pipeline.upkeep.ages import clock
from pipeline.upkeep.refresh import refresh_of
from pipeline.upkeep.stored_state import StoredState
from pipeline.verify.models_current import Fault
from pipeline.workspace import Workspace

LOG_TABLES = ("impressions", "outcomes", "interactions", "labels")
_states: WeakKeyDictionary[AssetGraphView, StoredState] = WeakKeyDictionary()  # one look a tick


def _state_at(context: dg.AutomationContext, work: Workspace) -> StoredState:
    view = context.asset_graph_view
    if view not in _states:
        _states[view] = StoredState(work)
    return _states[view]


def _of(candidates: EntitySubset, keys: set[str]) -> EntitySubset:
    """Those of the candidates that have one of the keys."""
    chosen = keys & candidates.expensively_compute_partition_keys() if keys and not candidates.is_empty else set()
    return candidates.compute_intersection_with_partition_keys(chosen)


class _Operand(dg.AutomationCondition):
    """A condition with a name and words of its own.

    Dagster keeps what it knows of a condition under its name, so two of one asset that differ must differ there.
    """

    def __init__(self, label: str, words: str, child: dg.AutomationCondition | None = None) -> None:
        self._label, self._words, self._child = label, words, child

    @property
    def name(self) -> str:
        return self._label

    @property
    def description(self) -> str:
        return self._words

    @property
    def children(self) -> Sequence[dg.AutomationCondition]:
        return [] if self._child is None else [self._child]


class Outdated(_Operand):
    """Slices of which what is stored is not what would be made now.

    Where only the data behind them changed, ``Upkeep.look_back`` newest slices count, and of models ``Upkeep.retrain``.
    """

    def __init__(self, work: Workspace) -> None:
        super().__init__("outdated", "What is stored is not what would be made now")
        self._work = work
        self._said: set[int] = set()  # slices of the log whose correction is not made good yet

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        oldest = oldest_corrected(self._work, context.key)
        faults = {
            index: fault
            for index, fault in _state_at(context, self._work).outdated(context.key.to_user_string()).items()
            if fault.slice is not None and (not fault.is_correction or index >= oldest)
        }
        subset = _of(context.candidate_subset, {fault.slice.key for fault in faults.values() if fault.slice})
        cost = self._cost(context) if context.key.to_user_string() in LOG_TABLES else None
        return dg.AutomationResult(context, subset, metadata={"cost": cost} if cost else None)

    def _cost(self, context: dg.AutomationContext) -> str | None:
        """Of late and corrected slices of the log: what making them good costs, said once, before it is paid."""
        state, oldest = _state_at(context, self._work), oldest_corrected(self._work, context.key)
        corrected: dict[int, tuple[str, Fault]] = {}
        for table in reversed(LOG_TABLES):  # a late slice is one in all of them: the first names it
            faults = state.outdated(table).items()
            corrected |= {at: (table, fault) for at, fault in faults if fault.is_correction and at >= oldest}
        new = {at: found for at, found in corrected.items() if at not in self._said}
        self._said = set(corrected)
        if not new:
            return None
        graph, learnt = context.asset_graph_view.asset_graph, oldest_corrected(self._work, dg.AssetKey("teacher"))
        table = new[min(new)][0]
        cost = cost_of(state, graph, table, {at: fault for at, (_, fault) in sorted(new.items())}, learnt)
        dg.get_dagster_logger().warning(cost)
        return cost


class FilesDue(_Operand):
    """Files of the log are new, or others than they were when they were read in."""

    def __init__(self, work: Workspace) -> None:
        super().__init__("files_due", "Files of the log are new, or others than they were")
        self._work = work

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        faults = _state_at(context, self._work).outdated(context.key.to_user_string())
        if not faults:
            return dg.AutomationResult(context, context.get_empty_subset())
        why = "; ".join(fault.why for fault in faults.values())
        return dg.AutomationResult(context, context.candidate_subset, metadata={"reason": why})


class Correctable(_Operand):
    """Slices so new that a correction of what they are made of is made good; of any age what a withdrawal touched."""

    def __init__(self, work: Workspace) -> None:
        super().__init__("correctable", "The slice is no older than Upkeep lets corrections be")
        self._work = work

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        stream = self._work.project.stream
        oldest = pending_since(self._work, oldest_corrected(self._work, context.key))
        kind, name, part = (*context.key.path, "", "")[:3]
        if (kind, part) in (("teacher", "predictions"), ("student", "checkpoint")):
            oldest = first_touched(self._work, f"{kind}/{name}", oldest)
        names = context.candidate_subset.expensively_compute_partition_keys()
        keys = {name for name in names if stream.slice_of(name).index >= oldest}
        return dg.AutomationResult(context, _of(context.candidate_subset, keys))


def oldest_corrected(work: Workspace, key: dg.AssetKey) -> int:
    """The index of the oldest slice of an asset that is made again where only the data behind it changed."""
    upkeep, stream = work.project.upkeep, work.project.stream
    is_model = key.path[0] in ("teacher", "student")
    return stream.index_at(clock(stream, work.now())) - (upkeep.retrain if is_model else upkeep.look_back)


class LabelsClosed(_Operand):
    """Slices whose longest attribution window is over: their labels are final."""

    def __init__(self, work: Workspace) -> None:
        super().__init__("labels_closed", "The slice's longest attribution window is over")
        self._work = work

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        stream, now, keys = self._work.project.stream, self._work.now(), set()
        for key in context.candidate_subset.expensively_compute_partition_keys():
            closes = stream.slice_of(key).end + stream.longest_window
            if stream.until is not None or closes <= now:  # a closed log has no more to wait for
                keys.add(key)
        return dg.AutomationResult(context, _of(context.candidate_subset, keys))


class RefreshWanted(_Operand):
    """The student is to be trained on what has come since: it was never released, drifted, or grows stale."""

    def __init__(self, work: Workspace, student: Student) -> None:
        super().__init__("refresh_wanted", f"{student.name} was never released, drifted, or is about to grow stale")
        self._work, self._student = work, student

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        reason = refresh_of(self._work, self._student)
        if reason is None:
            return dg.AutomationResult(context, context.get_empty_subset())
        return dg.AutomationResult(context, context.candidate_subset, metadata={"reason": reason})


class Supervised(_Operand):
    """Slices that whoever teaches them has scored: teachers that were succeeded, or wait to, are not waited for."""

    def __init__(self, work: Workspace, student: Student) -> None:
        super().__init__("supervised", f"Who teaches {student.name} on the slice has scored it")
        self._work, self._student = work, student

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        state, stream = _state_at(context, self._work), self._work.project.stream
        keys = {
            name
            for name in context.candidate_subset.expensively_compute_partition_keys()
            if all(state.is_scored(teacher, stream.slice_of(name).index) for teacher in self._student.teachers)
        }
        return dg.AutomationResult(context, _of(context.candidate_subset, keys))


class NeverReleased(_Operand):
    """Nothing of the student is served."""

    def __init__(self, work: Workspace, student: Student) -> None:
        super().__init__("never_released", f"No checkpoint of {student.name} was ever released")
        self._work, self._student = work, student

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        served = current_release(self._work, self._student)
        return dg.AutomationResult(context, context.candidate_subset if served is None else context.get_empty_subset())


class Unbroken(_Operand):
    """Of what its part asks for, the slices that can be made in one walk: each continues the one before it.

    That one is stored, or asked for too. A slice after one that is made again is made again as well, where it is
    stored. Nothing is asked for while any slice of the asset is in progress: two runs would train beside each other.

    Args:
        part: what is asked for, but for the slices before.
    """

    def __init__(self, work: Workspace, part: dg.AutomationCondition) -> None:
        super().__init__("unbroken", "Each slice continues one that is stored or asked for", part)
        self._work, self._part = work, part

    @property
    def requires_cursor(self) -> bool:
        return False

    async def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:  # type: ignore[override]
        asked = await context.for_child_condition(self._part, [0], context.candidate_subset).evaluate_async()
        view, key, stream = context.asset_graph_view, context.key, self._work.project.stream
        every = view.get_full_subset(key=key)
        nothing = dg.AutomationResult(context, context.get_empty_subset(), child_results=[asked])
        if asked.true_subset.is_empty:
            return nothing
        for busy in (view.compute_run_in_progress_subset, view.compute_backfill_in_progress_subset):
            if not (await busy(key=key, from_subset=every)).is_empty:
                return nothing
        missing = await view.compute_missing_subset(key=key, from_subset=every)
        lacking = missing.expensively_compute_partition_keys()
        wanted = {stream.slice_of(name).index for name in asked.true_subset.expensively_compute_partition_keys()}
        chosen = unbroken(wanted, lambda at: stream.slice_at(at).key not in lacking, every.size)
        chosen |= self._restored(key, chosen)
        return dg.AutomationResult(
            context, _of(every, {stream.slice_at(at).key for at in chosen}), child_results=[asked]
        )

    def _restored(self, key: dg.AssetKey, chosen: set[int]) -> set[int]:
        """Slices before the first chosen one whose weights retention dropped: they are trained again to continue it."""
        kind, name, part = key.path
        model = f"{'control' if part == 'control' else kind}/{name}"
        return set(dropped_before(self._work, model, min(chosen, default=0)))


def unbroken(wanted: set[int], is_made: Callable[[int], bool], count: int) -> set[int]:
    """Indices that can be walked over, of those wanted, and those stored that must follow them.

    Args:
        is_made: whether a slice is there, whatever it was made of.
        count: of all slices.
    """
    chosen: set[int] = set()
    for index in range(min(wanted), count):
        before = index - 1
        if index > max(wanted) and before not in chosen:
            break
        follows = before in chosen
        if (index in wanted or (follows and is_made(index))) and (index == 0 or follows or is_made(before)):
            chosen.add(index)
    return chosen
