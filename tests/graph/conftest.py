"""Scenes that several test modules begin with; a module that uses one is in its ``xdist_group``."""

import shutil
from pathlib import Path

import pytest

from tests.graph.scene import Scene


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
