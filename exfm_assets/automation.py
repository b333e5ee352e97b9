"""What runs by itself, and when: one named condition for each reason.

Belongs here: automation conditions and the sensor that evaluates them.
Not here: what a check measures (checks.py), what an asset does.

Slices are caught up by level (missing, inputs there); students are refreshed by event (stale, drifted, never
released), so that a hopeless drift or a crash never loops.
"""

from datetime import timedelta

import dagster as dg

from exfm.stream import Stream
from exfm_assets.partitions import slices_within
from exfm_assets.running import end_dead_runs

AC = dg.AutomationCondition
LOOKBACK_SLICES = 30
LONGEST_WAIT_MINUTES = 5


def _either(left: dg.AutomationCondition, right: dg.AutomationCondition) -> dg.AutomationCondition:
    """The same as ``left | right``, with another name.

    Dagster 1.13 keeps the memory of a ``since`` under the names of its two conditions alone: two of one asset whose
    conditions are both an "or" share it.
    """
    return ~(~left & ~right)


def _ready(optional: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """Missing, with every input there, not in progress, and not failed since (no hot loop).

    Args:
        optional: inputs that may be missing.
    """
    lacks = AC.any_deps_missing()
    lacks = lacks.ignore(optional) if optional is not None else lacks
    return ~_just_ended() & AC.missing() & ~lacks & ~AC.in_progress() & ~AC.execution_failed()


def _just_ended() -> dg.AutomationCondition:
    """It was requested in the last tick, or its run was seen to end in this one.

    Dagster 1.13 reads what is made before what is in progress: a run that ends in between shows as neither, and its
    slice would be requested again. The next tick sees it.
    """
    begun = _either(AC.newly_requested(), AC.in_progress()).since(AC.newly_updated())
    return AC.newly_requested() | (begun & (~AC.in_progress()).newly_true())


def _recent(stream: Stream) -> dg.AutomationCondition:
    return AC.in_latest_time_window(LOOKBACK_SLICES * stream.slice_length)


def catch_up(stream: Stream, optional: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """Every recent slice that has ended and is missing."""
    return (_recent(stream) & _ready(optional)).with_label("catch_up")


def catch_up_when_labels_close(stream: Stream) -> dg.AutomationCondition:
    """As ``catch_up``, once the slice's longest attribution window is over.

    Dagster can't ask for the age of a slice, so the newest ones are left out: as many as the window reaches. A closed
    log has no newer slices to wait for.
    """
    if stream.until is not None:
        return catch_up(stream)
    waiting = (slices_within(stream, stream.longest_window) - 1) * stream.slice_length
    too_new = AC.in_latest_time_window(waiting if waiting > timedelta(0) else None)
    return (_recent(stream) & ~too_new & _ready()).with_label("catch_up_when_labels_close")


def just_failed(check_asset: dg.AssetKey) -> dg.AutomationCondition:
    """A check on that asset was evaluated since the last tick, and failed."""
    failed = AC.any_checks_match(AC.newly_updated() & AC.check_failed())
    return AC.asset_matches(check_asset, failed).with_label("check_just_failed")


def just_stale(release: dg.AssetKey) -> dg.AutomationCondition:
    """The release has just passed its policy's warn or fail window.

    The edge, not the level: the stored state stays stale until the daemon's next pass, and a level would train twice.
    """
    stale = AC.freshness_warned().newly_true() | AC.freshness_failed().newly_true()
    return AC.asset_matches(release, stale).with_label("just_stale")


def never_released(release: dg.AssetKey) -> dg.AutomationCondition:
    return AC.asset_matches(release, AC.missing()).with_label("never_released")


def refresh_student(stream: Stream, release: dg.AssetKey, drift_report: dg.AssetKey) -> dg.AutomationCondition:
    """Train on what has come since, when the release grew stale, its quality drifted, or there is none yet.

    Slices are asked for one after the other, since each continues the one before; the reason holds until each is
    there, also through a run that was cancelled or whose process died.
    """
    reason = just_stale(release) | just_failed(drift_report) | never_released(release)
    # First in the conjunction: a later condition is evaluated only for slices that passed, and would forget the reason
    # for those that must wait for the slice before them.
    wanted = reason.since(AC.newly_updated())
    return (wanted & _recent(stream) & _ready()).with_label("refresh_student")


def judge_what_served(
    stream: Stream, checkpoint: dg.AssetKey, control: dg.AssetKey, release: dg.AssetKey
) -> dg.AutomationCondition:
    """Every recent slice whose labels are closed, by the checkpoint that served it.

    A released student is judged by the checkpoints it had, also while it is not refreshed. One that was never released
    needs its checkpoints of the slices before first, or an older one would be judged instead.
    """
    own = dg.AssetSelection.assets(checkpoint, control)
    # `any_deps_missing` passes what is requested on the same tick, and another run may come first.
    settled = ~AC.any_deps_match(AC.missing()).allow(own) | ~never_released(release)
    return (catch_up(stream, optional=own) & settled).with_label("judge_what_served")


def ride_along(stream: Stream) -> dg.AutomationCondition:
    """In the run of whatever it depends on; by itself where that was materialised without it."""
    with_them = AC.any_deps_match(AC.will_be_requested())
    after_them = AC.any_deps_updated().since(AC.newly_updated()) & ~AC.any_deps_in_progress()
    return (_recent(stream) & (with_them | after_them) & ~AC.in_progress()).with_label("ride_along")


def _settled(stream: Stream) -> dg.AutomationCondition:
    """Nothing upstream is in progress, or it has been for long: where runs never end, drift would never be evaluated.

    A reader sees whole evaluations even while others are written; waiting only saves doing it twice.
    """
    minutes = min(max(stream.slice_length // timedelta(minutes=1), 1), LONGEST_WAIT_MINUTES)
    waited = AC.cron_tick_passed(f"*/{minutes} * * * *").since_last_handled()  # type: ignore[misc]  # typed for assets alone
    return (~AC.any_deps_in_progress() | waited) & ~AC.in_progress()


def follow(stream: Stream) -> dg.AutomationCondition:
    """Once for each change upstream, when it has settled; again if the run of it died or was cancelled."""
    once = AC.any_deps_updated().since_last_handled() | AC.newly_missing()
    made = _either(AC.newly_updated(), AC.initial_evaluation())
    until_made = AC.any_deps_updated().since(made) & ~AC.execution_failed()
    return ((once | until_made) & _settled(stream)).with_label("follow")


def follow_once(stream: Stream) -> dg.AutomationCondition:
    """Once for each change upstream, for what may decide that there is nothing to record."""
    once = AC.any_deps_updated().since_last_handled() | AC.newly_missing()
    return (once & _settled(stream)).with_label("follow_once")


def on_change() -> dg.AutomationCondition:
    """When it is missing, or its declaration changed."""
    changed = AC.code_version_changed() | AC.newly_missing() | AC.missing()
    return (changed & ~AC.in_progress() & ~AC.execution_failed()).with_label("on_change")


def sensors() -> list[dg.SensorDefinition]:
    """The automation, on from the start, and what ends the runs of dead processes."""
    # Dagster's own default sensor is off until a user finds the switch.
    automation = dg.AutomationConditionSensorDefinition(
        "automation",
        target="*",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    return [automation, _dead_runs()]


def _dead_runs() -> dg.SensorDefinition:
    @dg.sensor(name="dead_runs", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=15, jobs=[])
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Ends runs whose process is gone, so that their slices and pool slots are free again."""
        ended = end_dead_runs(context.instance)
        for message in ended:
            context.log.warning(message)
        return dg.SkipReason("; ".join(ended) or "every run that is under way has a process")

    return dead_runs
