"""Each check against a planted fault: it passes before, and fails after, for the slice that was spoilt."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.stream import Slice
from pipeline.drift.check import no_drift
from pipeline.sidecar import write_stored
from pipeline.streams.reader import LogRead
from pipeline.verify import checkpoints_sound, predictions_sound, tables_sound
from pipeline.verify.findings import Finding
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import LAST, failed_checks, run
from tests.tiny import tiny_workspace

CheckFn = Callable[[Workspace, list[Slice]], Finding]


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Workspace:
    """The tiny project's state, to be spoilt."""
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    return work


def last(work: Workspace) -> Slice:
    return work.project.stream.slice_of(LAST)


def spoil(table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Workspace], None]:
    def fault(work: Workspace) -> None:
        work.table(table).write(last(work), change(work.table(table).read([last(work)])))

    return fault


def spoil_features(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Workspace], None]:
    def fault(work: Workspace) -> None:
        table = work.features("user_activity")
        table.write(last(work), change(table.read([last(work)])))

    return fault


def spoil_predictions(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Workspace], None]:
    def fault(work: Workspace) -> None:
        (path,) = (work.state.predictions("large") / last(work).folder).glob("*.parquet")
        write_stored(change(pl.read_parquet(path)), path)

    return fault


def spoil_loss(work: Workspace) -> None:
    path = work.state.checkpoints("student/feed_click") / last(work).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["loss"] = float("nan")
    path.write_text(json.dumps(manifest))


def spoil_drift(work: Workspace) -> None:
    path = work.state.reports / "drift.parquet"
    write_stored(pl.read_parquet(path).with_columns(drifted=pl.lit(True), reason=pl.lit("planted")), path)


def teacher_look(look: Callable[..., CheckFn]) -> Callable[[Workspace], CheckFn]:
    return lambda work: look(work.project.teachers[0])


FAULTS: list[tuple[Callable[[Workspace], CheckFn], Callable[[Workspace], None], str]] = [
    (
        lambda w: tables_sound.contract("impressions"),
        spoil("impressions", lambda f: pl.concat([f, f.head(1)])),
        "repeated impr",
    ),
    (lambda w: tables_sound.contract("impressions"), spoil("impressions", lambda f: f.drop("surface")), "columns are"),
    (
        lambda w: tables_sound.contract("outcomes"),
        spoil("outcomes", lambda f: f.with_columns(pl.col("task").cast(pl.Categorical))),
        "columns are",
    ),
    (
        lambda w: tables_sound.contract("interactions"),
        spoil("interactions", lambda f: f.with_columns(pl.col("event_timestamp") + timedelta(days=1))),
        "outside the slice",
    ),
    (
        lambda w: tables_sound.contract("labels"),
        spoil("labels", lambda f: f.with_columns(pl.col("click").cast(pl.Int64))),
        "columns are",
    ),
    (lambda w: tables_sound.rows_kept("impressions"), spoil("impressions", lambda f: f.tail(-1)), "rows in the log"),
    (lambda w: tables_sound.rows_kept("outcomes"), spoil("outcomes", lambda f: f.tail(-1)), "rows in the log"),
    (
        lambda w: tables_sound.rows_kept("interactions"),
        spoil("interactions", lambda f: pl.concat([f, f.head(1)])),
        "rows in the log",
    ),
    (lambda w: tables_sound.not_empty, spoil("impressions", lambda f: f.clear()), "no rows"),
    (lambda w: tables_sound.same_rows("labels"), spoil("labels", lambda f: f.reverse()), "are not the"),
    (lambda w: tables_sound.same_rows("logged_inputs"), spoil("logged_inputs", lambda f: f.tail(-1)), "are not the"),
    (
        lambda w: tables_sound.feature_contract(w.project.feature_views[0]),
        spoil_features(lambda f: pl.concat([f, f.head(1)])),
        "repeated user_id",
    ),
    (
        lambda w: tables_sound.feature_contract(w.project.feature_views[0]),
        spoil_features(lambda f: f.with_columns(pl.col("created_timestamp") - timedelta(hours=1))),
        "created before",
    ),
    (
        lambda w: tables_sound.feature_contract(w.project.feature_views[0]),
        spoil_features(lambda f: f.with_columns(pl.col("event_timestamp") - timedelta(days=1))),
        "stamped outside",
    ),
    (
        teacher_look(predictions_sound.no_leaks),
        spoil_predictions(lambda f: f.with_columns(trained_until=pl.col("event_timestamp").max())),
        "saw the impression",
    ),
    (
        teacher_look(predictions_sound.coverage),
        spoil_predictions(lambda f: f.tail(-100)),
        "have a prediction, fewer than",
    ),
    (lambda w: checkpoints_sound.finite("student/feed_click"), spoil_loss, "loss nan"),
    (lambda w: no_drift("student/feed_click"), spoil_drift, "planted"),
]


@pytest.mark.parametrize(("look_of", "fault", "sentence"), FAULTS, ids=[f"{n}-{f[2]}" for n, f in enumerate(FAULTS)])
def test_a_planted_fault_is_found(
    copy: Workspace, look_of: Callable[[Workspace], CheckFn], fault: Callable[[Workspace], None], sentence: str
) -> None:
    look, slices = look_of(copy), list(copy.project.stream.slices(copy.project.stream.first_slice, last(copy).end))
    assert look(copy, slices).passed
    fault(copy)
    result = look(copy, slices)
    assert not result.passed
    assert sentence in result.message


def test_a_blocking_check_stops_what_is_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import exfm_assets.assets.stream as stream

    work, read = tiny_workspace(tmp_path), stream.read_sound_log_in_parts

    def loses_rows(*arguments: Any) -> Iterator[LogRead]:
        return (LogRead(part.frame.tail(-1), part.quarantine, part.rows_read) for part in read(*arguments))

    monkeypatch.setattr(stream, "read_sound_log_in_parts", loses_rows)
    result = run(work, "2026-01-01", "2026-01-01")
    assert not result.success
    assert "impressions:rows_kept" in failed_checks(result)
    assert not work.table("labels").stored(work.project.stream)


def test_a_leak_that_was_stored_is_masked_when_read(copy: Workspace) -> None:
    from feature_repo.store import apply
    from pipeline.slices.supervision import stored_supervision

    apply(copy.project, copy.state)  # sources are absolute paths: a moved state is applied anew
    slice_, teacher = last(copy), copy.project.teachers[0]
    clean = stored_supervision(copy, teacher, slice_, ["feed_click_supervision"])
    assert clean.leaks == 0 and clean.coverage == 1.0
    half = copy.table("impressions").read([slice_])["event_timestamp"].median()
    spoil_predictions(lambda frame: frame.with_columns(trained_until=pl.lit(half).cast(pl.Datetime("us", "UTC"))))(copy)
    read = stored_supervision(copy, teacher, slice_, ["feed_click_supervision"])
    impressions = copy.table("impressions").read([slice_])
    seen = (impressions["event_timestamp"] <= half).to_numpy()
    assert read.leaks == seen.sum() > 0
    column = teacher.tasks.index("click")
    assert all(map(lambda value: value != value, read.logits[seen, column]))
    assert read.coverage == pytest.approx(1 - seen.mean())
