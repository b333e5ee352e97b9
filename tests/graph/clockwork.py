"""Ticks of the automation over an ephemeral instance, with events reported instead of computed.

Belongs here: reporting events, and asking what a tick asks for. Not here: what a test expects (test_automation.py).
"""

import json
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.test_utils import create_run_for_test

from exfm.atomic_write import write_text
from exfm_assets.definitions import build_defs
from pipeline.workspace import Workspace
from tests.tiny import SLICES

KEYS = [f"2026-01-0{day}" for day in range(1, SLICES + 1)]


def key(path: str) -> dg.AssetKey:
    return dg.AssetKey(path.split("/"))


def requested_by(result: dg.EvaluateAutomationConditionsResult, defs: dg.Definitions) -> dict[str, list[str]]:
    """Asset -> the slices that a tick asks for, none for an asset without slices."""
    graph, requested = defs.resolve_asset_graph(), {}
    for evaluation in result.results:
        if evaluation.true_subset.is_empty or not isinstance(evaluation.key, dg.AssetKey):
            continue
        sliced = graph.get(evaluation.key).is_partitioned
        keys = evaluation.true_subset.expensively_compute_partition_keys() if sliced else []
        requested[evaluation.key.to_user_string()] = sorted(keys)
    return requested


class Clockwork:
    """Ticks the sensor's conditions over an instance, and tells what each tick asks for."""

    def __init__(self, work: Workspace) -> None:
        self.work, self.defs = work, build_defs(work)
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: Any = None

    def tick(self, at: datetime | None = None) -> dict[str, list[str]]:
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.cursor, evaluation_time=at
        )
        self.cursor = result.cursor
        return requested_by(result, self.defs)

    def materialised(self, path: str, partitions: list[str] | None = None) -> None:
        for partition in partitions or [None]:  # type: ignore[list-item]
            self.instance.report_runless_asset_event(dg.AssetMaterialization(key(path), partition=partition))

    def at_work(self, path: str, partition: str | None) -> str:
        """Report a run that has begun a slice and does not end; its id."""
        begun = create_run_for_test(self.instance, status=dg.DagsterRunStatus.STARTED)
        planned = AssetMaterializationPlannedData(key(path), partition=partition)
        event = DagsterEvent.build_asset_materialization_planned_event("job", "step", planned)
        self.instance.report_dagster_event(event, begun.run_id)
        return begun.run_id

    def everything_but(self, *paths: str) -> None:
        """Report every asset as materialised for all slices, but for those that start with one of the paths."""
        graph = self.defs.resolve_asset_graph()
        for key in sorted(graph.get_all_asset_keys()):
            name = key.to_user_string()
            if not name.startswith(paths):
                self.materialised(name, KEYS if graph.get(key).is_partitioned else None)

    def serves(self, student: str, slice_key: str) -> None:
        """Let a student serve the checkpoint of a slice; it alone counts for the age of its data."""
        end = self.work.project.stream.slice_of(slice_key).end.isoformat()
        released = {"version": f"planted-{slice_key}", "slice": slice_key, "trained_until": end, "released_at": end}
        write_text(self.work.state.release(student) / "current.json", json.dumps(released))
