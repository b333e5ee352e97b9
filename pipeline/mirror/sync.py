"""Bringing MLflow up to what is stored.

Belongs here: the order, which may be broken off anywhere. Not here: what is wanted (runs.py, registered.py), how it is
written (run_sync.py, model_sync.py), how MLflow is reached (connecting.py).

Everything of ours is found by its tags, and made with them in one call: whatever broke off a sync before, the next one
finds what is there and adds the rest. Nothing is read back into the project.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from exfm.mlflow import MLflow
from pipeline.mirror.connecting import MirrorError, called, client_of, limited, require_installed, uri_of, worded
from pipeline.mirror.handle import Handle, whose
from pipeline.mirror.model_sync import ModelSync, faults_in_words
from pipeline.mirror.registered import registered_model
from pipeline.mirror.run_sync import RunSync, experiment_of
from pipeline.mirror.runs import student_runs, teacher_run
from pipeline.mirror.wanted import WantedModel, WantedRun, milliseconds
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Mirrored:
    """What a sync left.

    Args:
        where: MLflow's address, without who opens it.
        serving: by model, the number of the release that serves.
        written: calls that changed something; 0 if it was up to date.
    """

    where: str
    experiment: str
    runs: int
    versions: int
    serving: dict[str, int | None]
    written: int


def mirror(work: Workspace, declared: MLflow) -> Mirrored:
    """Bring MLflow up; safe to do again, and to break off.

    Raises:
        MirrorError: if MLflow is not installed, can't be reached, refuses, or holds something of somebody else's under
            a name of ours. What serves does not depend on it.
    """
    with limited(), _alone(work):
        uri = uri_of(declared)
        require_installed()
        runs, models = wanted_of(work, declared)
        experiment = declared.experiment or work.project.name
        with worded(uri):
            handle = Handle(client_of(uri), uri, whose(work))
            faults = _bring_up(handle, work, experiment, runs, models, copied=declared.copy_weights)
    if faults:
        raise MirrorError(faults_in_words(uri, faults))
    return Mirrored(
        where=called(uri),
        experiment=experiment,
        runs=len(runs),
        versions=sum(len(model.versions) for model in models),
        serving={model.name: model.aliases["serving"] for model in models},
        written=handle.written,
    )


def wanted_of(work: Workspace, declared: MLflow) -> tuple[list[WantedRun], list[WantedModel]]:
    """What MLflow should hold, by what is stored."""
    runs = [run for teacher in work.project.teachers for run in teacher_run(work, teacher)]
    runs += [run for student in work.project.students for run in student_runs(work, student)]
    models = (registered_model(work, declared, student) for student in work.project.students)
    return runs, [model for model in models if model is not None]


def _bring_up(
    handle: Handle,
    work: Workspace,
    experiment: str,
    runs: list[WantedRun],
    models: list[WantedModel],
    *,
    copied: bool,
) -> list[str]:
    run_sync = RunSync(handle, experiment_of(handle, work, experiment), milliseconds(work.now()), copied=copied)
    for run in runs:
        run_sync.bring_up(run)
    model_sync = ModelSync(handle, run_sync.ids, copied)
    for model in models:
        model_sync.bring_up(model)
    return model_sync.faults


@contextmanager
def _alone(work: Workspace) -> Iterator[None]:
    """One sync at a time: two would both make what neither finds."""
    work.state.folder.mkdir(parents=True, exist_ok=True)
    with (work.state.folder / ".mirroring").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
