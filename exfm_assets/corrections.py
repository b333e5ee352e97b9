"""What late or corrected slices of the log will cost, said before it is paid.

Belongs here: one sentence for the slices that a tick finds. Not here: which slices that is (conditions.py), the plan
(plan.py).
"""

from collections.abc import Mapping
from dataclasses import replace

from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from exfm_assets.assets.studies import GROUP as STUDIES
from exfm_assets.plan import Plan, Planner
from exfm_assets.plan_words import summary_line
from pipeline.upkeep.ages import clock
from pipeline.upkeep.stored_state import StoredState
from pipeline.verify.models_current import Fault

MODELS = ("teacher", "student")


def cost_of(state: StoredState, graph: BaseAssetGraph, asset: str, faults: Mapping[int, Fault], oldest: int) -> str:
    """What is made again because of corrected slices of an asset, and about how long it takes, in a sentence.

    Args:
        faults: index of each slice -> its fault.
        oldest: index of the oldest slice that models learn again.
    """
    project, first = state.work.project, min(faults)
    now = clock(project.stream, state.work.now())
    ended = [slice_ for slice_ in project.stream.slices(project.stream.slice_at(first).start, now) if slice_.end <= now]
    keys = [key for key in graph.toposorted_asset_keys if graph.get(key).group_name != STUDIES]
    plan = Planner(state.work, graph, state=state).plan(ended, keys)
    learnt = first >= oldest
    if not learnt:
        plan = _without_models(plan)
    named = ", ".join(project.stream.slice_at(index).key for index in sorted(faults)[:3])
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    models = (
        "; what models have learnt of them stays, for Upkeep.retrain="
        f"{project.upkeep.retrain} slices: checks say so, and `exfm run` over them learns them again"
    )
    return (
        f"{asset} {named}{more}: {next(iter(faults.values())).why}. To be made again: {summary_line(plan)}"
        f"{'' if learnt else models}"
    )


def _without_models(plan: Plan) -> Plan:
    steps = tuple(step for step in plan.steps if step.key.path[0] not in MODELS)
    return replace(
        plan, steps=steps, standing=(*plan.standing, *(step.key for step in plan.steps if step not in steps))
    )
