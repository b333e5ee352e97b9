"""A released student of two towers to be played with, and servers over it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from exfm.state import State
from pipeline.workspace import Workspace
from serving.answering import Answering, Limits
from serving.app import Server
from serving.request_log import RequestLog
from tests.serving.retrieval.asking import Client, until
from tests.serving.retrieval.towers import run_in


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return run_in(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def only_asked(found: Workspace) -> Iterator[TestClient]:
    """A server of the released project, for requests that change nothing."""
    with TestClient(Server(Answering(found.project, found.state, Limits(), None)).app()) as client:
        until(lambda: client.get("/ready").status_code == 200)
        yield client


@pytest.fixture
def work(found: Workspace, tmp_path: Path) -> Workspace:
    """A copy, to be played with."""
    folder = tmp_path / found.state.folder.name
    shutil.copytree(found.state.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "log"))
    return Workspace(found.project, State(folder=folder, log=found.state.log))


@pytest.fixture
def client(work: Workspace) -> Iterator[Client]:
    opened: list[TestClient] = []

    def open_(limits: Limits | None = None, log: RequestLog | None = None, *, wait: bool = True) -> TestClient:
        opened.append(TestClient(Server(Answering(work.project, work.state, limits or Limits(), log)).app()))
        each = opened[-1].__enter__()
        if wait:
            until(lambda: each.get("/ready").status_code == 200)
        return each

    yield open_
    for each in opened:
        each.__exit__(None, None, None)
