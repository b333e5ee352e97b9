"""Fixtures that several folders share: a tiny project that was run once a session."""

from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from pipeline.workspace import Workspace
from tests.graph.runs import run
from tests.tiny import tiny_workspace


@dataclass(frozen=True)
class Ran:
    """A tiny project after its main job; look, don't touch."""

    work: Workspace
    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    work: Workspace = tiny_workspace(Path(tmp_path_factory.mktemp("ran")))
    instance = dg.DagsterInstance.ephemeral()
    return Ran(work, run(work, instance=instance), instance)
