"""Scenes that several test modules begin with; a module that uses one is in its ``xdist_group``."""

import shutil
from pathlib import Path

import pytest

from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.after_release import TRAIN, began, flip, quick
from tests.graph.runs import FIRST, LAST, run
from tests.graph.scene import Scene
from tests.tiny import tiny_workspace


@pytest.fixture(scope="session")
def seven_released(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Seven slices, one after the other, each released when it was judged; look, don't touch. Group ``withdraw``."""
    scene = Scene(Path(tmp_path_factory.mktemp("withdraw")))
    for index in range(7):
        assert not scene.land(index).day(index + 1.6).settle(20).failed
    return scene


@pytest.fixture
def seven(seven_released: Scene, tmp_path: Path) -> Scene:
    """The same, to be played with."""
    shutil.copytree(seven_released.folder, tmp_path, dirs_exist_ok=True)
    copied = Scene(tmp_path).day(7.6)
    copied.record_all()
    assert copied.settle().asked == []
    return copied


@pytest.fixture(scope="session")
def learnt(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """A student has learnt from all slices, in some worlds of slices with flipped labels. Group ``afterwards``."""
    worlds = {}
    for name, flipped in (("sound", ()), ("poisoned", (2,)), ("poisoned twice", (2, 3))):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(ran.work.state.folder, folder / "tiny")
        work = worlds[name] = quick(tiny_workspace(folder))
        for index in flipped:
            flip(work, index)
        assert run(work, FIRST, LAST, select=TRAIN, checks=False).success
    return worlds


@pytest.fixture
def poisoned(learnt: dict[str, Workspace], tmp_path: Path) -> Workspace:
    shutil.copytree(learnt["poisoned"].state.folder, tmp_path / "tiny")
    return began(quick(tiny_workspace(tmp_path)))


@pytest.fixture
def poisoned_twice(learnt: dict[str, Workspace], tmp_path: Path) -> Workspace:
    shutil.copytree(learnt["poisoned twice"].state.folder, tmp_path / "tiny")
    return began(quick(tiny_workspace(tmp_path)))


@pytest.fixture
def sound(learnt: dict[str, Workspace], tmp_path: Path) -> Workspace:
    shutil.copytree(learnt["sound"].state.folder, tmp_path / "tiny")
    return began(quick(tiny_workspace(tmp_path)))
