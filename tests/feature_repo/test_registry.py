"""The embedded registry: whole or not there, one writer at a time, and it follows its state wherever that goes."""

import logging
import multiprocessing
import shutil
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from feast import FeatureStore, FileSource

from exfm.state import State
from exfm.writing import StateError, alone
from feature_repo.embedded import REGISTRY
from feature_repo.registry import follow, make
from feature_repo.store import apply, open_store
from tests.tiny import tiny_project

ODD = "a%20b?c=d#e:f g'h\"i;ü☃{1,2}&~$HOME"


def state_in(folder: Path) -> State:
    return State(folder=folder / "tiny", log=folder / "tiny" / "log")


def paths_of(state: State) -> set[str]:
    store = open_store(tiny_project(), state)
    store.refresh_registry()
    views = [view.batch_source.path for view in store.list_feature_views()]
    return {*views, *(source.path for source in store.list_data_sources())}


def test_sources_of_a_copy_are_the_copys_own(tmp_path: Path) -> None:
    apply(tiny_project(), state_in(tmp_path / "old"))
    before = (tmp_path / "old/tiny/feast" / REGISTRY).read_bytes()
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    shutil.copytree(tmp_path / "old", tmp_path / ODD)
    for name in ("copy", ODD):
        expected = {
            path.replace(str(tmp_path / "old"), str(tmp_path / name)) for path in paths_of(state_in(tmp_path / "old"))
        }
        assert paths_of(state_in(tmp_path / name)) == expected
        assert len(expected) > 2 and all(path.startswith(str(tmp_path / name)) for path in expected)
    assert (tmp_path / "old/tiny/feast" / REGISTRY).read_bytes() == before
    shutil.move(tmp_path / "copy", tmp_path / "moved")
    assert all(path.startswith(str(tmp_path / "moved")) for path in paths_of(state_in(tmp_path / "moved")))


def test_sources_that_are_not_of_the_state_stay(tmp_path: Path) -> None:
    state = state_in(tmp_path / "old")
    apply(tiny_project(), state)
    own = FileSource(name="own", path="/elsewhere/tables/rows.parquet", timestamp_field="event_timestamp")
    open_store(tiny_project(), state).apply([own])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert "/elsewhere/tables/rows.parquet" in paths_of(state_in(tmp_path / "new"))


def test_a_moved_registry_that_cannot_be_rewritten_says_so(tmp_path: Path) -> None:
    apply(tiny_project(), state_in(tmp_path / "old"))
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    path = tmp_path / "new/tiny/feast" / REGISTRY
    with sqlite3.connect(path) as registry:
        registry.execute("CREATE TRIGGER locked BEFORE UPDATE ON data_sources BEGIN SELECT no_such_function(); END")
    with pytest.raises(StateError, match="was moved from and can't be rewritten .*: make it writable, or delete it"):
        follow(path)


def test_an_empty_registry_is_put_in_place_whole(tmp_path: Path) -> None:
    make(tmp_path / ODD / REGISTRY)
    assert [path.name for path in (tmp_path / ODD).iterdir()] == [REGISTRY]
    with sqlite3.connect(tmp_path / ODD / REGISTRY) as registry:
        tables = {name for (name,) in registry.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"feature_views", "data_sources", "feast_metadata"} <= tables


def _apply(folder: Path, together: Barrier, failed: "multiprocessing.Queue[str]") -> None:
    together.wait()
    try:
        apply(tiny_project(), state_in(folder))
        failed.put("")
    except Exception as error:
        failed.put(f"{type(error).__name__}: {error}")


def test_processes_that_apply_for_the_first_time_at_once_all_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        together, failed = context.Barrier(6), context.Queue()
        folder = tmp_path / str(attempt)
        workers = [context.Process(target=_apply, args=(folder, together, failed)) for _ in range(6)]
        for worker in workers:
            worker.start()
        messages = [failed.get(timeout=120) for _ in workers]
        for worker in workers:
            worker.join()
        assert messages == [""] * 6
        assert len(paths_of(state_in(folder))) > 2


def _hold(path: Path, began: Barrier, go: Barrier) -> None:
    with alone(path, "the other"):
        began.wait()
        go.wait()


def test_who_waits_says_for_what_and_the_dead_hold_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context("fork")
    began, go = context.Barrier(2), context.Barrier(2)
    other = context.Process(target=_hold, args=(tmp_path / "lock", began, go))
    other.start()
    began.wait()

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other.kill()  # its lock goes with it

    logger = logging.getLogger("exfm.writing")
    logger.addHandler(watch := Waits())
    try:
        with alone(tmp_path / "lock", "applying"):
            assert f"applying waits for another process that holds {tmp_path / 'lock'}" in caplog.text
    finally:
        logger.removeHandler(watch)
        other.join()


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [("database or disk is full", "make room"), ("attempt to write a readonly database", "make the folder writable")],
)
def test_what_sqlite_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, remedy: str) -> None:
    state = state_in(tmp_path)

    def refused(*arguments: object, **options: object) -> None:
        raise sqlite3.OperationalError(reason)

    monkeypatch.setattr(FeatureStore, "apply", refused)
    with pytest.raises(StateError) as raised:
        apply(tiny_project(), state)
    assert reason in str(raised.value) and remedy in str(raised.value) and str(state.feast) in str(raised.value)
