"""A plan in words: one line an asset and reason, what is reused, and about how long it takes.

Belongs here: wording. Not here: the plan (plan.py).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.upkeep.stored_state import WHOLE

if TYPE_CHECKING:
    from exfm_assets.plan import Plan, Step

OVERHEAD_SECONDS = 12  # imports, Dagster's own events, checks and the report, of a run of a few slices on two cores
NAMED = 4  # assets whose time is not known, by name; of more, how many


def plan_lines(plan: "Plan") -> Iterator[str]:
    """The plan for a person, upstream first."""
    first, last = plan.slices[0], plan.slices[-1]
    of = f"{first.key}...{last.key}" if len(plan.slices) > 1 else first.key
    if plan.is_empty:
        yield f"{of}: nothing is to be made: all {len(plan.standing)} assets stand"
        yield from (f"  {line}" for line in plan.warm_starts)
        return
    yield f"{of}: {len(plan.steps)} assets have something to be made, {len(plan.standing)} stand"
    for step in plan.steps:
        for why, slices in _by_reason(step).items():
            where = f" {_ranges(plan, slices)}" if step.has_slices else ""
            yield f"  {step.key.to_user_string()}{where}: {why}"
        if step.restored:
            where = _ranges(plan, list(step.restored))
            why = "once more, for retention dropped the weights that are continued"
            yield f"  {step.key.to_user_string()} {where}: {why}"
    yield from (f"  {line}" for line in plan.warm_starts)
    yield f"about {in_words(plan.seconds + OVERHEAD_SECONDS)}{_unknown(plan)}"


def summary_line(plan: "Plan") -> str:
    """The same in one line."""
    first, last = plan.range
    slices = first.key if first == last else f"{first.key}...{last.key}"
    assets = f"{len(plan.steps)} asset{'' if len(plan.steps) == 1 else 's'}"
    return f"{assets}, {slices}, about {in_words(plan.seconds + OVERHEAD_SECONDS)}{_unknown(plan)}"


def in_words(seconds: float) -> str:
    """A duration as a person says it."""
    return f"{max(round(seconds), 1)} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def _unknown(plan: "Plan") -> str:
    """Which assets take time that is not known."""
    sliced = [step.key.to_user_string() for step in plan.steps if step.has_slices and step.seconds is None]
    timed = [name for name in sliced if not name.endswith(("/evaluation", "_progress", "_log"))]
    if not timed:
        return ""
    if len(timed) > NAMED:
        return f", and what {len(timed)} assets take that were not made here before"
    return f", and what {', '.join(timed)} take, not made here before"


def _by_reason(step: "Step") -> dict[str, list[int]]:
    reasons: dict[str, list[int]] = {}
    for index, why in step.slices.items():
        reasons.setdefault(why, []).append(index)
    return reasons


def _ranges(plan: "Plan", indices: list[int]) -> str:
    keys = {slice_.index: slice_.key for slice_ in (*plan.before, *plan.slices)}
    runs: list[list[int]] = []
    for index in sorted(set(indices) - {WHOLE}):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(keys[run[0]] if len(run) == 1 else f"{keys[run[0]]}...{keys[run[-1]]}" for run in runs)
