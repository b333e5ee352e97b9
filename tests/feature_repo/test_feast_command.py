"""Feast's UI lists the project under the name that it is declared with."""

from pathlib import Path

import pytest

from exfm.state import State
from feature_repo import feast_command
from feature_repo.store import apply, open_store
from tests.tiny import tiny_project


def test_the_ui_calls_the_project_what_it_is_declared_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, state = tiny_project(), State(folder=tmp_path / "state", log=tmp_path / "log")
    apply(project, state)
    monkeypatch.setattr(feast_command, "load_project", lambda: project)
    [listed] = feast_command._named(open_store(project, state), "exfm", "")["projects"]
    assert listed["name"] == project.name and project.name in listed["description"]
    assert listed["id"] == "exfm" and listed["registryPath"] == "/api/v1"
