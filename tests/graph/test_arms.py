"""The drift report's arms: figures of what was answered, against plain Python over rows that a test wrote itself."""

import math
import shutil
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from exfm.serving import Serving
from pipeline.drift.arms import FILE, arms_of, arms_table, stored_arms
from pipeline.report.page import page_of
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_workspace

Key = tuple[str, str, str, int]


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    """A student with a canary, one with a shadow."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    first, second = work.project.students
    shade = replace(first, name="shade")
    students = (
        replace(first, serving=Serving(canary=0.3, shadow="shade")), replace(second, serving=Serving(canary=0.1)), shade
    )  # fmt: skip
    return replace(work, project=replace(work.project, students=students))


def logged(work: Workspace, index: int, seed: int) -> tuple[dict[Key, list[tuple[float, float]]], int]:
    """Write a request log of some of a slice's impressions; scores and labels by student, slice, arm, release."""
    draws, slice_ = np.random.default_rng(seed), work.project.stream.slice_at(index)
    shown = work.table("impressions").read([slice_]).sample(400, seed=seed)
    labels = work.table("labels").read([slice_])
    known: dict[str, dict[int, Any]] = {
        task: dict(zip(labels["impression_id"], labels[task], strict=True)) for task in ("click", "convert")
    }
    rows: dict[tuple[Path, str], list[dict[str, Any]]] = defaultdict(list)
    expected: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    mixed = 0
    for at, one in enumerate(shown.iter_rows(named=True)):
        student, task = ("feed_click", "click") if at % 2 else ("feed_convert", "convert")
        arm, release = ("canary", 4) if draws.random() < 0.3 else ("served", 3)
        score, beside = (float(np.float32(each)) for each in draws.random(2))
        item, wrong = one["item_id"], at % 50 == 7  # its id was given to another item
        row = {
            "impression_id": one["impression_id"], "event_timestamp": one["event_timestamp"] - timedelta(seconds=9),
            "item_id": item + 1 if wrong else item, "served_version": f"v{release}", "served_release": release,
        }  # fmt: skip
        rows[work.state.requests, student].append({**row, "served_arm": arm, "served_score": score})
        if student == "feed_click":
            rows[work.state.shadows, student].append({**row, "served_shadow": "shade", "served_score": beside})
        mixed += wrong
        label = known[task].get(one["impression_id"])
        if label is None or wrong:
            continue
        expected[student, slice_.key, arm, release].append((score, float(label)))
        if student == "feed_click":
            expected[student, slice_.key, "shadow shade", release].append((beside, float(label)))
    for (folder, student), each in rows.items():
        path = folder / student / f"day={slice_.start:%Y-%m-%d}" / f"v-{seed}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        of_release = pl.DataFrame(each, schema_overrides={"served_score": pl.Float32, "served_release": pl.Int64})
        of_release.with_columns(pl.col("event_timestamp").dt.cast_time_unit("us")).write_parquet(path)
    return expected, mixed


def entropy(rate: float) -> float:
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def test_figures_of_each_arm_are_those_of_its_rows(work: Workspace) -> None:
    expected: dict[Key, list[tuple[float, float]]] = {}
    others = 0
    for index in (1, 3, 4):  # of the newest three slices one was answered by nobody, and slice 1 is older
        more, mixed = logged(work, index, index)
        expected |= more if index > 1 else {}
        others += mixed if index > 1 else 0
    bad = work.state.requests / "feed_click" / "day=2026-01-05" / "v-bad.parquet"
    bad.write_bytes(b"PAR1")
    made = arms_of(work)
    found = {(row["student"], row["slice"], row["arm"], row["release"]): row for row in made.rows.to_dicts()}
    assert made.other_items >= others > 0 and sum(made.passed_over.values()) == 1 and len(made.left_out) == 2
    assert found.keys() == expected.keys() and len(found) == 2 * 6
    for key, pairs in expected.items():
        row = found[key]
        rate = sum(label for _, label in pairs) / len(pairs)
        score = sum(each for each, _ in pairs) / len(pairs)
        loss = -sum(math.log(each if label else 1 - each) for each, label in pairs) / len(pairs)
        assert row["impressions"] == len(pairs)
        assert (row["rate"], row["score"]) == pytest.approx((rate, score))
        if 0 < rate < 1:
            assert row["ne"] == pytest.approx(loss / entropy(rate), rel=1e-6)
            assert row["calibration"] == pytest.approx(score / rate)
        else:
            assert row["ne"] is None
    assert arms_table(arms_of(work).rows).count("shadow shade") == 4


def test_the_drift_report_and_the_page_have_them(work: Workspace) -> None:
    logged(work, 4, 4)
    result = run(work, FIRST, LAST, select='key:"drift_report"', checks=False)
    (event,) = result.get_asset_materialization_events()
    told = event.materialization.metadata["arms"].value
    assert isinstance(told, str) and "| feed_click | 2026-01-05 | canary | 4 |" in told
    stored = stored_arms(work)
    assert stored is not None and stored.height == 6
    page = page_of(work)
    assert "shadow shade" in page and page.count("<td>canary</td>") == 2
    (work.state.reports / FILE).write_bytes(b"")
    assert stored_arms(work) is None and "shadow shade" not in page_of(work)


def test_nobody_answered_and_an_earlier_log(work: Workspace) -> None:
    assert arms_of(work).rows.is_empty() and arms_table(arms_of(work).rows).count("\n") == 1
    logged(work, 4, 4)
    for path in work.state.requests.rglob("*.parquet"):
        pl.read_parquet(path).drop("served_arm").write_parquet(path)
    assert set(arms_of(work).rows["arm"]) == {"served", "shadow shade"}
