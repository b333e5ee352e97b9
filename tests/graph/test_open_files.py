"""Dagster's files that stay open: others see each event at once, and a process that is killed loses none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.utils import make_new_run_id

from exfm_assets import storage
from exfm_assets.storage import LockedSqliteStorage

WRITER = """
import sys
from pathlib import Path
from tests.graph.test_open_files import entry
from exfm_assets.storage import LockedSqliteStorage

log = LockedSqliteStorage.from_local(sys.argv[1]).event_log_storage
for number in range(1_000_000):
    log.store_event(entry(sys.argv[2], number))
    print(number, flush=True)
"""


def entry(run_id: str, number: int) -> EventLogEntry:
    return EventLogEntry(
        error_info=None, level=20, user_message=f"event {number}", run_id=run_id, timestamp=time.time()
    )  # fmt: skip


@contextmanager
def opened(folder: Path) -> Iterator[LockedSqliteStorage]:
    kept = LockedSqliteStorage.from_local(str(folder))
    try:
        yield kept
    finally:
        kept.dispose()


def messages(kept: LockedSqliteStorage, run_id: str) -> list[str]:
    return [record.user_message for record in kept.event_log_storage.get_logs_for_run(run_id)]


def test_an_event_is_seen_at_once_by_who_reads_and_by_who_watches(tmp_path: Path) -> None:
    run_id, seen, all_seen = make_new_run_id(), [], Event()

    def on_event(event: EventLogEntry, _: str) -> None:
        seen.append(event.user_message)
        if len(seen) == 4:
            all_seen.set()

    with opened(tmp_path) as writer, opened(tmp_path) as reader:
        writer.event_log_storage.store_event(entry(run_id, 0))
        reader.event_log_storage.watch(run_id, None, on_event)
        for number in range(1, 4):
            writer.event_log_storage.store_event(entry(run_id, number))
            assert messages(reader, run_id) == [f"event {at}" for at in range(number + 1)]
            time.sleep(0.05)  # an event of its own for the watcher
        assert all_seen.wait(30), seen
        reader.event_log_storage.end_watch(run_id, on_event)
    assert seen == [f"event {number}" for number in range(4)]


def test_a_killed_process_loses_no_event(tmp_path: Path) -> None:
    run_id = make_new_run_id()
    command = [sys.executable, "-c", WRITER, str(tmp_path), run_id]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as process:
        assert process.stdout is not None
        told = -1
        while told < 200:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
    with opened(tmp_path) as kept:
        found = messages(kept, run_id)
    assert found[: told + 1] == [f"event {number}" for number in range(told + 1)]
    assert len(found) <= told + 2  # one may have been written and not told


def test_few_files_of_runs_are_open_and_a_removed_run_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "RUNS_OPEN", 3)
    runs = [make_new_run_id() for _ in range(7)]

    def open_now() -> int:
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        targets = [os.readlink(link) for link in links if link.is_symlink()]
        return len({target for target in targets if target.startswith(str(tmp_path)) and target.endswith(".db")})

    with opened(tmp_path) as kept:
        for at, run_id in enumerate(runs):
            kept.event_log_storage.store_event(entry(run_id, at))
        if sys.platform == "linux":
            assert open_now() <= 3 + 3  # and the three that all runs share
        assert [messages(kept, run_id) for run_id in runs] == [[f"event {at}"] for at in range(7)]
        kept.event_log_storage.delete_events(runs[0])
        assert messages(kept, runs[0]) == []
        for file in (tmp_path / "history" / "runs").glob(f"{runs[1]}.db*"):
            file.unlink()
        kept.event_log_storage._initialized_dbs.discard(runs[1])  # type: ignore[attr-defined]
        assert messages(kept, runs[1]) == []
