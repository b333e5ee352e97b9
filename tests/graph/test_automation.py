"""What asks for what, tick by tick: automation conditions on a tiny project, events reported instead of computed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.declarative_automation.operators import NewlyTrueCondition, SinceCondition
from dagster._core.events import DagsterEvent

from pipeline.drift.report import SCHEMA
from pipeline.tables import write_parquet
from tests.graph.clockwork import KEYS, Clockwork
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_project, tiny_workspace

DRIFT = dg.AssetKey("drift_report")


@pytest.fixture
def clockwork(tmp_path: Path) -> Clockwork:
    return Clockwork(tiny_workspace(tmp_path))


def nodes(condition: dg.AutomationCondition) -> list[dg.AutomationCondition]:
    return [condition, *(node for child in condition.children for node in nodes(child))]


def test_no_two_conditions_of_an_asset_share_their_memory(clockwork: Clockwork) -> None:
    """Dagster keeps it under the names of a condition's direct parts."""
    for spec in clockwork.defs.resolve_all_asset_specs():
        kept: dict[str, str] = {}
        for node in nodes(spec.automation_condition) if spec.automation_condition else ():
            if isinstance(node, SinceCondition | NewlyTrueCondition):
                memory = node.get_node_unique_id(parent_unique_id=None, index=None, target_key=None)
                assert kept.setdefault(memory, node.get_unique_id()) == node.get_unique_id(), (spec.key, node)


def test_an_empty_instance_is_caught_up_without_a_hand(clockwork: Clockwork) -> None:
    requested = clockwork.tick()
    assert (
        requested["simulated_log"]
        == requested["impressions"]
        == requested["labels"]
        == requested["features/user_activity"]
        == KEYS
    )
    assert "feature_registry" in requested
    clockwork.materialised("feature_registry")
    clockwork.tick()
    requested = clockwork.tick()
    assert requested["logged_inputs"] == KEYS
    # A chain is asked for as a whole, to be walked over in one run; and there is no release yet.
    assert requested["teacher/large/checkpoint"] == requested["student/feed_click/checkpoint"] == KEYS
    assert requested["teacher/large/predictions"] == requested["student/feed_click/evaluation"] == KEYS


def test_when_all_is_there_nothing_is_asked_for(clockwork: Clockwork) -> None:
    clockwork.everything_but()
    clockwork.tick()
    assert clockwork.tick() == {}


def test_a_chain_is_asked_for_as_far_as_its_inputs_reach(clockwork: Clockwork) -> None:
    clockwork.everything_but("teacher", "student", "drift_report", "report", "logged_inputs", "feature_registry")
    clockwork.materialised("logged_inputs", KEYS[:2] + KEYS[3:])  # a slice that can't be made: the registry lacks
    requested = clockwork.tick()
    assert requested["teacher/large/checkpoint"] == KEYS[:2]
    clockwork.materialised("feature_registry")
    clockwork.materialised("logged_inputs", [KEYS[2]])
    clockwork.materialised("teacher/large/checkpoint", KEYS[:2])
    requested = clockwork.tick()
    assert requested["teacher/large/checkpoint"] == KEYS[2:]
    assert requested["student/feed_click/checkpoint"] == KEYS  # never released: it begins with the stream


def test_nothing_is_asked_of_a_chain_that_is_at_work(clockwork: Clockwork) -> None:
    """Two runs would train one model beside each other."""
    clockwork.everything_but("teacher/large/checkpoint")
    clockwork.materialised("teacher/large/checkpoint", KEYS[:2])
    clockwork.at_work("teacher/large/checkpoint", KEYS[2])
    assert "teacher/large/checkpoint" not in clockwork.tick()


def test_students_wait_for_a_reason_and_evaluations_do_not(clockwork: Clockwork) -> None:
    clockwork.everything_but(
        "student/feed_click/checkpoint", "student/feed_click/control", "student/feed_click/evaluation"
    )
    clockwork.serves("feed_click", LAST)
    requested = clockwork.tick()
    assert requested["student/feed_click/evaluation"] == KEYS
    assert "student/feed_click/checkpoint" not in requested and "student/feed_click/control" not in requested


@pytest.mark.slow
def test_a_release_that_grows_stale_asks_for_the_missing_slices_of_its_student_alone(clockwork: Clockwork) -> None:
    """By the age of its data: with a gate of one slice it may be three days and a half behind the stream."""
    clockwork.everything_but("student/feed_click/checkpoint", "student/feed_convert/checkpoint")
    clockwork.serves("feed_click", KEYS[3])
    clockwork.serves("feed_convert", KEYS[3])
    clockwork.materialised("student/feed_click/checkpoint", KEYS[:4])
    assert "student/feed_click/checkpoint" not in clockwork.tick()
    clockwork.serves("feed_click", KEYS[2])  # at the next slice's end it would be too old
    requested = clockwork.tick()
    assert requested["student/feed_click/checkpoint"] == KEYS[4:]
    assert "student/feed_convert/checkpoint" not in requested
    clockwork.materialised("student/feed_click/checkpoint", KEYS[4:])
    # What is served is as old as before, as where a gate refuses: there is no more to learn from, so nothing is asked.
    assert not [1 for _ in range(3) if "student/feed_click/checkpoint" in clockwork.tick()]


def test_what_was_asked_for_and_never_came_is_asked_for_again(clockwork: Clockwork) -> None:
    """A run that was cancelled, or whose process died, leaves its slice missing."""
    clockwork.everything_but("student/feed_click/checkpoint")
    clockwork.materialised("student/feed_click/checkpoint", KEYS[:3])
    assert clockwork.tick()["student/feed_click/checkpoint"] == KEYS[3:]  # never released
    assert "student/feed_click/checkpoint" not in clockwork.tick()  # it may have ended just now
    assert clockwork.tick()["student/feed_click/checkpoint"] == KEYS[3:]


def test_a_run_that_seems_to_have_ended_without_a_slice_is_looked_at_once_more(clockwork: Clockwork) -> None:
    """What is made is read before what is at work: a run that ends in between seems to have made nothing."""
    path = "student/feed_click/evaluation"
    clockwork.everything_but(path)
    clockwork.materialised(path, KEYS[:3] + KEYS[4:])
    assert clockwork.tick()[path] == [KEYS[3]]
    assert path not in clockwork.tick()  # as Dagster sees it in such a tick
    clockwork.materialised(path, [KEYS[3]])
    assert path not in clockwork.tick()


def test_so_is_one_that_nobody_asked_for(clockwork: Clockwork) -> None:
    path = "student/feed_click/evaluation"
    clockwork.everything_but(path)
    clockwork.materialised(path, KEYS[:3] + KEYS[4:])
    run_id = clockwork.at_work(path, KEYS[3])
    assert path not in clockwork.tick()
    clockwork.instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name="job"), run_id)
    assert path not in clockwork.tick()
    assert clockwork.tick()[path] == [KEYS[3]]  # it made nothing


def test_a_student_that_was_never_released_is_judged_by_checkpoints_of_the_slices_before(clockwork: Clockwork) -> None:
    """Not by an older one, because its own is not there yet."""
    mine = [f"student/feed_click/{part}" for part in ("checkpoint", "control", "evaluation", "release")]
    clockwork.everything_but(*mine)
    for part in ("checkpoint", "control"):
        clockwork.materialised(f"student/feed_click/{part}", KEYS[:2])
    clockwork.at_work("student/feed_click/control", KEYS[2])
    requested = clockwork.tick()
    lag = clockwork.work.project.stream.serving_lag("click")
    assert lag == 2 and "student/feed_click/control" not in requested
    assert requested["student/feed_click/evaluation"] == KEYS[:3]  # what the others need is at work
    clockwork = Clockwork(clockwork.work)
    clockwork.everything_but(*mine)
    requested = clockwork.tick()
    assert all(requested[f"student/feed_click/{part}"] == KEYS for part in ("checkpoint", "control", "evaluation"))


def test_what_hangs_on_all_students_follows_any_slice_that_was_judged(clockwork: Clockwork) -> None:
    """On a live stream the slice that was just judged is never the last one."""
    clockwork.everything_but("student/feed_click/evaluation")
    for part in KEYS[:2]:
        clockwork.materialised("student/feed_click/evaluation", [part])
    requested = clockwork.tick()
    assert requested["student/feed_click/evaluation"] == requested["student_progress"] == KEYS[2:]  # in the same run
    clockwork.materialised("student/feed_click/evaluation", [KEYS[2]])
    clockwork.materialised("student_progress", [KEYS[2]])
    requested = clockwork.tick()
    assert {"drift_report", "release_gates"} <= set(requested)


@pytest.mark.slow
def test_what_follows_and_failed_is_asked_for_again_only_after_a_change(clockwork: Clockwork) -> None:
    clockwork.everything_but()
    clockwork.tick()
    clockwork.materialised("student_progress", [KEYS[1]])
    assert "drift_report" in clockwork.tick()
    run_id = clockwork.at_work("drift_report", None)
    assert "drift_report" not in clockwork.tick()
    clockwork.instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_FAILURE", job_name="job"), run_id)
    assert not [1 for _ in range(4) if "drift_report" in clockwork.tick()]
    clockwork.materialised("student_progress", [KEYS[2]])
    assert "drift_report" in clockwork.tick()


@pytest.mark.slow
def test_where_work_never_ends_what_hangs_on_it_waits_for_minutes_only(clockwork: Clockwork) -> None:
    """A busy daemon always has an evaluation under way: drift and releases were not looked at for as long."""
    clockwork.everything_but()
    noon = datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
    clockwork.tick(noon)
    watched = {"drift_report", "release_gates", "report", "student/feed_click/release"}
    for path in ("student/feed_click/evaluation", "student_progress"):
        clockwork.materialised(path, [KEYS[1]])
        clockwork.at_work(path, KEYS[2])
    requested = [watched & set(clockwork.tick(noon + timedelta(seconds=30 * n))) for n in range(1, 13)]
    assert requested[:9] == [set()] * 9  # until 12:04:31
    assert set().union(*requested[9:]) >= watched - {"report"}


def test_a_part_materialised_by_hand_is_followed_too(clockwork: Clockwork) -> None:
    clockwork.everything_but()
    clockwork.tick()
    clockwork.materialised("student/feed_click/evaluation", [KEYS[1]])
    assert clockwork.tick()["student_progress"] == [KEYS[1]]


def drifted(clockwork: Clockwork, *, passed: bool) -> None:
    """Run the drift report for real on a planted table, so that its check is what is evaluated."""
    row = {"model": "student/feed_click", "measure": "ne", "slice": LAST, "drifted": not passed, "state": "drifted"}
    rows = pl.DataFrame([{**row, "reason": "planted"}], schema=SCHEMA)
    write_parquet(rows, clockwork.work.state.reports / "drift.parquet")
    evaluation = dg.AssetCheckEvaluation(
        asset_key=DRIFT,
        check_name="drift_student_feed_click",
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={},
    )
    clockwork.materialised("drift_report")
    clockwork.instance.report_runless_asset_event(evaluation)


@pytest.mark.slow
def test_drift_asks_for_what_has_come_since(clockwork: Clockwork) -> None:
    clockwork.everything_but("student/feed_click/checkpoint")
    clockwork.materialised("student/feed_click/checkpoint", KEYS[:2])
    clockwork.serves("feed_click", KEYS[-2])  # young enough, but from before the slice that drifted
    drifted(clockwork, passed=True)
    assert "student/feed_click/checkpoint" not in clockwork.tick()
    drifted(clockwork, passed=False)
    assert clockwork.tick()["student/feed_click/checkpoint"] == KEYS[2:]
    clockwork.materialised("student/feed_click/checkpoint", KEYS[2:])
    assert not [1 for _ in range(3) if "student/feed_click/checkpoint" in clockwork.tick()]


def test_a_failed_slice_is_not_asked_for_again(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    clockwork = Clockwork(work)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "log").write_text("a file where a folder must be")
    assert not run(work, FIRST, LAST, select='key:"simulated_log"', instance=clockwork.instance).success
    assert "simulated_log" not in clockwork.tick()


def test_labels_of_a_live_stream_wait_for_their_windows(tmp_path: Path) -> None:
    today, project = datetime(2026, 3, 1, tzinfo=UTC), tiny_project()
    first = today - timedelta(days=4)
    live = replace(project, stream=replace(project.stream, first_slice=first, until=None))
    ended = [f"{first + timedelta(days=day):%Y-%m-%d}" for day in range(4)]
    # Windows of yesterday's last impressions close at noon today.
    for hours, closed in ((11, ended[:-1]), (13, ended)):
        at = today + timedelta(hours=hours)
        clockwork = Clockwork(replace(tiny_workspace(tmp_path, live), now=lambda at=at: at))  # type: ignore[misc]
        clockwork.materialised("feature_registry")
        requested = clockwork.tick(at)
        assert requested["impressions"] == requested["logged_inputs"] == ended
        assert requested["labels"] == closed


@pytest.mark.parametrize(
    ("path", "partition"),
    [("feature_registry", None), ("features/user_activity", LAST)],
)
@pytest.mark.slow
def test_what_failed_is_tried_again_at_the_next_full_ten_minutes(
    clockwork: Clockwork, path: str, partition: str | None
) -> None:
    """Also where it failed because its process never began: else all that hangs on it would wait for ever."""
    clockwork.everything_but(path)
    if partition is not None:
        clockwork.materialised(path, [key for key in KEYS if key != partition])
    noon = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    run_id = clockwork.at_work(path, partition)
    clockwork.tick(noon)
    clockwork.instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_FAILURE", job_name="job"), run_id)
    assert not [n for n in range(1, 9) if path in clockwork.tick(noon + timedelta(minutes=n))]  # until 12:09
    assert path in clockwork.tick(noon + timedelta(minutes=9, seconds=5))
