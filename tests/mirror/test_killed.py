"""A sync that is killed after any call to MLflow: the next one leaves what an undisturbed one would have."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exfm.mlflow import MLflow
from pipeline.mirror import sync
from pipeline.mirror.sync import mirror
from pipeline.workspace import Workspace
from tests.mirror.held import Held


class Killed(BaseException):
    """Nobody catches it."""


class Dying:
    """A client that dies right after its n-th call was made."""

    def __init__(self, client: Any, calls: int) -> None:
        self._client, self.calls = client, calls

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            made = call(*args, **kwargs)
            self.calls -= 1
            if self.calls == 0:
                raise Killed
            return made

        return counted


def killed_after(monkeypatch: pytest.MonkeyPatch, work: Workspace, declared: MLflow, calls: int) -> bool:
    """Sync with a client that dies; ``False`` if it had no more to do."""
    with monkeypatch.context() as patched:
        connect = sync.client_of
        patched.setattr(sync, "client_of", lambda uri: Dying(connect(uri), calls))
        try:
            mirror(work, declared)
        except Killed:
            return True
    return False


def renamed(told: dict[str, Any], mine: str) -> dict[str, Any]:
    return {key.replace(mine, "x"): value for key, value in told.items()}


def small(work: Workspace) -> Workspace:
    """One student: fewer calls."""
    project = work.project
    return replace(work, project=replace(project, students=project.students[:1]))


def check_kills(work: Workspace, declared: MLflow, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Each sync in an experiment and models of its own, in one store."""

    def place(name: str) -> tuple[MLflow, Callable[[], dict[str, Any]]]:
        there = replace(declared, experiment=name, models=f"{name}.{{student}}")
        return there, lambda: renamed(Held(there).whole(f"{name}.feed_click"), name)

    undisturbed, told = place("undisturbed")
    mirror(work, undisturbed)
    expected = told()
    calls = 1
    while True:
        there, told = place(f"killed{calls}")
        if not killed_after(monkeypatch, work, there, calls):
            break
        mirror(work, there)
        assert told() == expected, calls
        assert not mirror(work, there).written
        calls += every
    assert calls > 30


def test_what_was_killed_is_finished_by_the_next_sync(
    work: Workspace, declared: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kills(small(work), declared, monkeypatch, every=11)


@pytest.mark.slow
def test_what_was_killed_after_any_call_is_finished_by_the_next_sync(
    work: Workspace, declared: MLflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kills(small(work), declared, monkeypatch, every=1)
