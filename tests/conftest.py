"""Fixtures that several folders share: a tiny project that was run once a session."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pipeline.workspace import Workspace
from tests.graph.runs import run
from tests.tiny import tiny_workspace

LONGEST = {("graph", "test_live.py"), ("live", "test_command.py")}  # of minutes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or one worker works on it when the others have nothing left."""

    def place(item: pytest.Item) -> int:
        if (item.path.parent.name, item.path.name) in LONGEST:
            return 0
        return 1 if item.get_closest_marker("xdist_group") is not None else 2

    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    for item in slow:  # a timeout is for what hangs: a machine that is half as fast is no fault of a scenario's
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))
    if slow:
        items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups without effect cost minutes without a word: each worker makes what a group's tests begin with."""
    if getattr(session.config.option, "loadgroup", False):  # of a worker
        for item in session.items:
            if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid:
                raise pytest.UsageError(
                    "xdist_group has no effect with this pytest and pytest-xdist: pip install -c constraints.txt"
                )


@pytest.fixture(scope="session", autouse=True)
def revisions_read_once() -> Iterator[None]:
    """Each storage of Dagster that opens has alembic run the scripts of all its revisions anew: a tenth of a run."""
    made: dict[str | None, ScriptDirectory] = {}
    read = ScriptDirectory.from_config

    def once(config: Config) -> ScriptDirectory:
        place = config.get_alembic_option("script_location")
        if place not in made:
            made[place] = read(config)
        return made[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", once)
        yield


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
