"""What a sync leaves in MLflow, on a real store: at first, again, and after changes of what serves."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from pipeline.evaluation.evaluations import evaluations_of
from pipeline.mirror import handle
from pipeline.mirror.sync import Mirrored
from pipeline.registry.lineage import declaration_digest
from pipeline.releases.choosing import promote, roll_back
from pipeline.releases.release import current_release
from pipeline.releases.withdrawing import settle, withdraw
from pipeline.workspace import Workspace
from tests.graph.clockwork import KEYS
from tests.mirror.held import MODEL, Held


def test_a_sync_leaves_a_run_and_a_version_for_each_release(
    work: Workspace, synced: Callable[[], Mirrored], store: Held
) -> None:
    left, student = synced(), work.project.students[0]
    assert left.serving == {MODEL: 3, "tiny.feed_convert": 1} and left.versions == 4
    runs = store.runs()
    releases = [f"student/feed_click/release/{number}" for number in (1, 2, 3)]
    assert set(runs) == {"teacher/large", "student/feed_click", "student/feed_convert",
                         "student/feed_convert/release/1", *releases}  # fmt: skip
    first = runs[releases[0]]
    assert first.data.params["network"] == "DCNv2" and first.data.params["distillation.weight"] == "2.0"
    assert first.data.tags["mlflow.parentRunId"] == runs["student/feed_click"].info.run_id
    assert first.data.tags["exfm.declaration"] == declaration_digest(work.project, student)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    versions = store.versions()
    assert [versions[number].tags["exfm.release"] for number in (1, 2, 3)] == ["1", "2", "3"]
    served = current_release(work, student)
    assert served is not None and store.aliases() == {"serving": 3, "previous": 2}
    assert versions[3].tags["exfm.checkpoint"] == served.version and versions[3].run_id == runs[releases[2]].info.run_id
    assert versions[3].source == (work.state.release("feed_click") / served.version).as_uri()
    assert "Data: " in versions[3].description and "teacher_checkpoints" not in versions[3].description


def test_figures_are_those_of_the_evaluations_with_slices_as_steps(
    work: Workspace, synced: Callable[[], Mirrored], store: Held
) -> None:
    synced()
    student, stream = work.project.students[0], work.project.stream
    told = evaluations_of(work, student).filter(pl.col("ne").is_finite())
    run = store.runs()["student/feed_click"]
    for model in ("student", "control", "teacher"):
        of_model = told.filter(model=model)
        expected = {stream.slice_of(key).index: ne for key, ne in of_model.select("slice", "ne").iter_rows()}
        history = store.client.get_metric_history(run.info.run_id, f"ne/{model}")
        assert {metric.step: metric.value for metric in history} == expected and len(history) == len(expected) > 1
    gain = {metric.step: metric.value for metric in store.client.get_metric_history(run.info.run_id, "gain")}
    ne = {model: told.filter(model=model, slice=KEYS[-1])["ne"][0] for model in ("student", "control")}
    assert gain[4] == pytest.approx((ne["control"] - ne["student"]) / ne["control"])
    gated = store.runs()["student/feed_convert/release/1"].data.metrics
    assert gated["gate/ne/student"] > 0 and gated["gate/ne against control/all/low"] <= gated["gate/calibration/high"]
    # Release 1 is of slice 1, whose checkpoint was judged on slice 3.
    judged = store.runs()["student/feed_click/release/1"]
    assert [metric.step for metric in store.client.get_metric_history(judged.info.run_id, "ne/student")] == [3]


def test_a_second_sync_adds_nothing(synced: Callable[[], Mirrored], store: Held) -> None:
    first = synced()
    before = store.whole(MODEL, "tiny.feed_convert")
    second = synced()
    assert first.written > 20 and second == replace(first, written=0)
    assert store.whole(MODEL, "tiny.feed_convert") == before


def test_what_is_there_is_found_on_all_pages(
    synced: Callable[[], Mirrored], store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "PAGE", 2)
    synced()
    assert synced().written == 0 and len(store.runs()) == 7 and len(store.versions()) == 3


def test_aliases_follow_what_serves(work: Workspace, synced: Callable[[], Mirrored], store: Held) -> None:
    student = work.project.students[0]
    synced()
    roll_back(work, student, why="bad")
    synced()
    assert store.aliases() == {"serving": 2, "previous": 3}
    tags = store.client.get_registered_model(MODEL).tags
    assert tags["exfm.serves"].startswith("release 2, rolled back ") and tags["exfm.serves"].endswith("(bad)")
    assert tags["exfm.pinned"] == "yes"
    promote(work, student, "1", why="")
    # A person who moves an alias in MLflow changes nothing of what serves, so it is moved back.
    store.client.set_registered_model_alias(MODEL, "serving", "3")
    synced()
    assert store.aliases() == {"serving": 1, "previous": 2} and len(store.versions()) == 3
    assert store.client.get_registered_model(MODEL).tags["exfm.pinned"] == "no"


def test_a_withdrawal_is_said_where_it_touched(work: Workspace, synced: Callable[[], Mirrored], store: Held) -> None:
    student = work.project.students[0]
    synced()
    withdraw(work, "student/feed_click", KEYS[2], why="flipped labels")
    settle(work, student)
    synced()
    said = {number: version.tags.get("exfm.withdrawn", "") for number, version in store.versions().items()}
    assert said == {1: "", **dict.fromkeys((2, 3), f"student/feed_click {KEYS[2]}: flipped labels")}
    assert store.aliases() == {"serving": 1, "previous": 3}
    assert "taken back" in store.client.get_registered_model(MODEL).tags["exfm.serves"]


def test_a_figure_that_is_judged_again_is_added_once_and_shown(
    work: Workspace, synced: Callable[[], Mirrored], store: Held
) -> None:
    synced()
    table, slice_ = work.evaluations("feed_click"), work.project.stream.slice_at(4)
    rows = table.read([slice_])
    table.write(slice_, rows.with_columns(ne=pl.col("ne") + 1), {"evaluation": "again"})
    assert synced().written and not synced().written
    run = store.runs()["student/feed_click"]
    history = [m for m in store.client.get_metric_history(run.info.run_id, "ne/student") if m.step == 4]
    before = rows.filter(model="student")["ne"][0]
    assert [metric.value for metric in sorted(history, key=lambda m: m.timestamp)] == [before, before + 1]
    assert run.data.metrics["ne/student"] == before + 1
