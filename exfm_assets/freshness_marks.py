"""Freshness marks: Dagster's PASS, WARN and FAIL of an asset, set by the age of its data.

Belongs here: the sensor that sets them, and the check that says the age in a sentence. Not here: measuring
(pipeline/upkeep/ages.py), what is declared (exfm/freshness.py).

Dagster's own daemon marks an asset by when it was recorded last: a release that was recorded a minute ago passes,
though its data is a week old, and a closed log turns red for good. So that daemon is off in ``dagster.yaml``, and this
sensor writes the same marks. Where it is on, both would write, so this one leaves them alone and says so.
"""

from datetime import datetime

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from pipeline.upkeep.ages import Age, ages
from pipeline.workspace import Workspace

STATES = {"pass": FreshnessState.PASS, "warn": FreshnessState.WARN, "fail": FreshnessState.FAIL}
SECONDS = 30


def freshness_sensor() -> dg.SensorDefinition:
    """Looks at every asset with a freshness policy, and marks those whose state changed."""

    @dg.sensor(
        name="freshness",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SECONDS,
        jobs=[],
        required_resource_keys={"work"},
    )
    def freshness(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Marks assets by the age of their data, in the clock of the stream."""
        work: Workspace = context.resources.work
        measured = ages(work)
        old = "; ".join(str(age) for age in measured if age.state != "pass")
        if context.instance.freshness_enabled:
            return dg.SkipReason(
                "Dagster's own freshness daemon is on and marks assets by when they were recorded: set `freshness: "
                f"enabled: false` in dagster.yaml for marks by the age of the data. {old}"
            )
        for age in mark(context.instance, measured, work.now()):
            context.log.info(str(age)) if age.state == "pass" else context.log.warning(str(age))
        return dg.SkipReason(old or f"the data of all {len(measured)} assets with a policy is fresh")

    return freshness


def mark(instance: dg.DagsterInstance, measured: list[Age], at: datetime) -> list[Age]:
    """Set the marks that are others than they were; gives those that were set."""
    keys = {age.asset: dg.AssetKey(age.asset.split("/")) for age in measured}
    known = instance.get_freshness_state_records(list(keys.values()))
    changed = []
    for age in measured:
        key, state = keys[age.asset], STATES[age.state]
        before = known[key].freshness_state if key in known else FreshnessState.UNKNOWN
        if before == state:
            continue
        change = FreshnessStateChange(
            key=key, previous_state=before, new_state=state, state_change_timestamp=at.timestamp()
        )
        instance._report_runless_asset_event(change)  # the public one takes the same, but checks its type wrongly
        changed.append(age)
    return changed
