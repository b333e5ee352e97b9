"""The tiny project with an MLflow store of its own: a file in the test's folder.

Belongs here: fixtures, and looking at what the store holds. Not here: what a test expects.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exfm.mlflow import MLflow
from pipeline.mirror.sync import Mirrored, mirror
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.history import changing
from pipeline.releases.publishing import publish
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.mirror.held import Held
from tests.tiny import tiny_project, tiny_workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables: MLflow takes three seconds to make them."""
    mlflow = pytest.importorskip("mlflow", reason='MLflow is not installed: pip install "exfm[mlflow]"')
    path = Path(tmp_path_factory.mktemp("mlflow")) / "empty.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def declared(empty_store: Path, tmp_path: Path) -> MLflow:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return MLflow(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def work(ran: Ran, tmp_path: Path, declared: MLflow) -> Workspace:
    """Three releases of the first student, one of the second."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path, tiny_project(mlflow=declared))
    student = work.project.students[0]
    shutil.rmtree(work.state.release(student.name))
    for index in (1, 2, 3):
        slice_ = work.project.stream.slice_at(index)
        with changing(work, student):
            publish(work, student, slice_, CheckpointStore.of(work, student).manifest(slice_).version, "cpu")
    return work


@pytest.fixture
def synced(work: Workspace, declared: MLflow) -> Callable[[], Mirrored]:
    return lambda: mirror(work, declared)


@pytest.fixture
def store(declared: MLflow) -> Held:
    return Held(declared)
