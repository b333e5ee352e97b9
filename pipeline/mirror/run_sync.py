"""Runs in MLflow: made once, then given the tags and figures that they lack.

Belongs here: one experiment and its runs. Not here: what a run should have (runs.py).
"""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from pipeline.mirror.connecting import MirrorError, called, is_server
from pipeline.mirror.handle import KEY, STATE, Handle, first_of_each, lacking, pages
from pipeline.mirror.wanted import Point, WantedRun
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

POINTS, FILES, PARENT = "exfm.points", "exfm.files", "mlflow.parentRunId"
A_CALL = 1_000  # figures that MLflow takes at once
RELEASE = "release"  # the folder of a run's artifacts that a release's files are uploaded to


def experiment_of(handle: Handle, work: Workspace, name: str) -> str:
    """The id of an experiment, which is made if there is none.

    Raises:
        MirrorError: if it was deleted.
    """
    found = handle.client.get_experiment_by_name(name)
    if found is None:
        # A store would keep what is uploaded in whatever folder a process happens to start.
        files = None if is_server(handle.uri) else (work.state.folder / "mlflow").resolve().as_uri()
        return str(handle.write(handle.client.create_experiment, name, artifact_location=files))
    if found.lifecycle_stage != "active":
        raise MirrorError(
            f"MLflow at {called(handle.uri)}: experiment {name!r} was deleted: restore it, or name another in "
            "MLflow.experiment"
        )
    return str(found.experiment_id)


class RunSync:
    """The runs of an experiment that are ours.

    Args:
        now: milliseconds since 1970.
        copied: whether files are uploaded.
    """

    def __init__(self, handle: Handle, experiment: str, now: int, *, copied: bool) -> None:
        self._handle, self._experiment, self._now, self._copied = handle, experiment, now, copied
        search = partial(
            handle.client.search_runs, [experiment], filter_string=f"tags.`{STATE}` = '{handle.whose[STATE]}'"
        )
        ours = (run for run in pages(search) if handle.is_ours(run.data.tags))
        self._runs = first_of_each(ours, lambda run: (run.data.tags.get(KEY), run.info.start_time))
        self.ids: dict[str, str] = {}

    def bring_up(self, wanted: WantedRun) -> None:
        """Make a run if it is not there, and add what it lacks; runs that it is below come before it."""
        run = self._runs.get(wanted.key) or self._made(wanted)
        self.ids[wanted.key] = run.info.run_id
        self._describe(run, wanted)
        if run.data.tags.get(POINTS) != wanted.digest:
            self._log(run, wanted.points)
            self._handle.write(self._handle.client.set_tag, run.info.run_id, POINTS, wanted.digest)
        if self._copied and wanted.files is not None and FILES not in run.data.tags:
            self._handle.write(self._handle.client.log_artifacts, run.info.run_id, str(wanted.files), RELEASE)
            self._handle.write(self._handle.client.set_tag, run.info.run_id, FILES, RELEASE)
        if run.info.status != "FINISHED":
            self._handle.write(
                self._handle.client.set_terminated, run.info.run_id, status="FINISHED", end_time=wanted.began
            )

    def _made(self, wanted: WantedRun) -> "Run":
        return self._handle.write(
            self._handle.client.create_run,
            self._experiment,
            start_time=wanted.began,
            run_name=wanted.name,
            tags=self._handle.tags_of(wanted.key),
        )

    def _describe(self, run: "Run", wanted: WantedRun) -> None:
        from mlflow.entities import Param, RunTag

        above = {PARENT: self.ids[wanted.parent]} if wanted.parent is not None else {}
        tags = [RunTag(name, value) for name, value in lacking({**wanted.tags, **above}, run.data.tags)]
        # MLflow changes no parameter, and a release's are what it was made under.
        params = [Param(name, value) for name, value in wanted.params.items() if name not in run.data.params]
        if tags or params:
            self._handle.write(self._handle.client.log_batch, run.info.run_id, params=params, tags=tags)

    def _log(self, run: "Run", points: Iterable[Point]) -> None:
        from mlflow.entities import Metric

        wanted = list(points)
        there = self._logged(run, {point.name for point in wanted})
        new: list[Metric] = []
        for point in wanted:
            before = there.get((point.name, point.step))
            if before is None:
                new.append(Metric(point.name, point.value, point.at, point.step))
            elif before.value != point.value:  # judged again: MLflow keeps both, and shows the newer one
                new.append(Metric(point.name, point.value, max(self._now, before.timestamp + 1), point.step))
        for first in range(0, len(new), A_CALL):
            self._handle.write(self._handle.client.log_batch, run.info.run_id, metrics=new[first : first + A_CALL])

    def _logged(self, run: "Run", names: set[str]) -> "dict[tuple[str, int], Metric]":
        """The newest figure of each name and slice."""
        newest: dict[tuple[str, int], Metric] = {}
        for name in sorted(names & run.data.metrics.keys()):
            for metric in self._handle.client.get_metric_history(run.info.run_id, name):
                before = newest.get((name, metric.step))
                if before is None or metric.timestamp >= before.timestamp:
                    newest[name, metric.step] = metric
        return newest
