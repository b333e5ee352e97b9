"""A released project to be played with, and servers over it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.values import MutexValue
from starlette.testclient import TestClient

from exfm.state import State
from pipeline.workspace import Workspace
from serving.answering import Answering, Limits
from serving.app import Server
from serving.request_log import RequestLog
from tests.conftest import Ran
from tests.serving.asking import Client


@pytest.fixture(autouse=True, scope="module")
def _own_counts() -> Iterator[None]:
    """Each server counts by itself: through Feast's folder it would go on where others of the test run ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.metrics.ValueClass", MutexValue)
        patch.setattr("prometheus_client.values.ValueClass", MutexValue)
        yield


@pytest.fixture(scope="module")
def only_asked(ran: Ran) -> Iterator[TestClient]:
    """A server of the released project, for requests that change nothing."""
    with TestClient(Server(Answering(ran.work.project, ran.work.state, Limits(), None)).app()) as client:
        yield client


@pytest.fixture
def work(ran: Ran, tmp_path: Path) -> Workspace:
    """A copy of a released project, to be played with."""
    folder = tmp_path / ran.work.state.folder.name
    shutil.copytree(ran.work.state.folder, folder, ignore=shutil.ignore_patterns("tables", "checkpoints", "log"))
    return Workspace(ran.work.project, State(folder=folder, log=ran.work.state.log))


@pytest.fixture
def client(work: Workspace) -> Iterator[Client]:
    opened: list[TestClient] = []

    def open_(limits: Limits | None = None, log: RequestLog | None = None) -> TestClient:
        answering = Answering(work.project, work.state, limits or Limits(), log)
        opened.append(TestClient(Server(answering).app()))
        return opened[-1].__enter__()

    yield open_
    for each in opened:
        each.__exit__(None, None, None)
