"""The request log: what is on the disk when, what a kill -9 leaves, and that nothing is written twice or half."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from serving import request_log
from serving.errors import ReleaseError
from serving.log_retention import forget_days
from serving.model import signature_of
from serving.request_log import RequestLog, Same, recover, rows_of, schema_of
from tests.serving.asking import until
from tests.serving.worlds import released

AT = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
SCHEMA = pa.schema({"request_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"), "score": pa.float32()})
WRITER = """
import sys, time
from pathlib import Path
from serving.request_log import RequestLog
from tests.serving.test_request_log import put

log = RequestLog(Path(sys.argv[1]))
log.start()
for number in range(10**6):
    put(log, number)
    if number % 10 == 9:
        log.flush()
        print(number, flush=True)
"""


def put(log: RequestLog, number: int, version: str = "v1", at: datetime = AT) -> None:
    columns: dict[str, list[Any]] = {
        "request_id": [f"r{number}"] * 3, "event_timestamp": [at] * 3, "score": [0.1, 0.2, 0.3]
    }  # fmt: skip
    log.add("s", version, rows_of(columns, SCHEMA, 3))


def rows(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "s" / "*" / "*.parquet", hive_partitioning=False)


def test_rows_of_two_days_are_in_the_folders_of_their_days(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.start()
    for number in range(4):
        put(log, number, at=AT + number * timedelta(seconds=1))
    put(log, 4, "v2")
    log.stop()
    assert rows(tmp_path).height == 15
    days = {path.parent.name: pl.read_parquet(path, hive_partitioning=False).height
            for path in (tmp_path / "s").glob("*/v1-*.parquet")}  # fmt: skip
    assert days == {"day=2026-01-01": 3, "day=2026-01-02": 9}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_killed_server_loses_what_came_since_the_last_flush_at_most(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as process:
        assert process.stdout is not None
        told = -1
        while told < 299:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split())])
    assert not list(tmp_path.glob("s/*/*.parquet")) and len(list(tmp_path.glob("*.arrows"))) == 1
    log = RequestLog(tmp_path)
    log.start()  # a server that starts finds it
    log.stop()
    found = rows(tmp_path)["request_id"].unique().to_list()
    assert {f"r{number}" for number in range(told + 1)} <= set(found)
    assert rows(tmp_path).height == 3 * len(found) and len(found) <= told + 11
    assert not list(tmp_path.glob("*.arrows"))


def test_a_batch_that_was_cut_off_is_left_out_and_the_rest_kept(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    for number in range(3):
        put(log, number)
        log.flush()
    (spool,) = tmp_path.glob("*.arrows")
    whole, ended = spool.read_bytes(), subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = spool.name.split(".")
    for cut in (len(whole) - 1, len(whole) - 150, 10, 0):
        left = spool.with_name(".".join([*name[:2], str(ended.pid), str(cut), name[-1]]))
        left.write_bytes(whole[:cut])
    log.stop()
    assert recover(tmp_path) == 4
    counts = sorted(pl.read_parquet(path, hive_partitioning=False).height for path in tmp_path.glob("s/*/*.parquet"))
    assert counts == [6, 6, 9]  # both that lost their last batch, and the one that was closed


def test_a_spool_becomes_a_file_when_it_is_old_or_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path)
    monkeypatch.setattr(request_log, "ROTATE_ROWS", 6)
    for number in range(3):
        put(log, number)
        log.flush()
    assert rows(tmp_path).height == 6
    monkeypatch.setattr(request_log, "ROTATE_SECONDS", 0)
    log.flush()
    assert rows(tmp_path).height == 9


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "rb")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def test_a_spool_that_a_server_has_open_is_left_alone(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    put(log, 0)
    log.flush()
    assert recover(tmp_path) == 0  # this very process
    (spool,) = tmp_path.glob("*.arrows")
    other = spool.with_name(spool.name.replace("s.v1.", "s.v1.9"))
    other.write_bytes(spool.read_bytes())
    log.stop()
    command = [sys.executable, "-c", HOLDER, str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert recover(tmp_path) == 0 and other.exists()
        holder.communicate("\n")
    assert recover(tmp_path) == 1 and rows(tmp_path).height == 6


def test_a_spool_that_was_taken_before_it_was_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts finds a spool of another one's that has no lock yet."""
    lock, taken = fcntl.flock, list[int]()

    def late(file: Any, how: int) -> None:
        if how == fcntl.LOCK_EX and not taken:
            taken.append(recover(tmp_path))
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    log = RequestLog(tmp_path)
    put(log, 0)
    log.flush()
    assert recover(tmp_path) == 0
    log.stop()
    assert taken == [1] and rows(tmp_path).height == 3


def test_servers_that_start_together_share_what_is_left(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    put(log, 0)
    log.flush()
    (spool,) = tmp_path.glob("*.arrows")
    for number in range(20):
        spool.with_name(spool.name.replace("s.v1.", f"s.v1.{number}")).write_bytes(spool.read_bytes())
    log.stop()
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(recover, [tmp_path] * 4))
    assert sum(counts) >= 20 and rows(tmp_path).height == 63 and not list(tmp_path.glob("*.arrows"))


def test_days_that_are_not_kept_go_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = ["s/day=2026-01-0x/a.parquet", "s/kept.parquet", "s/week=2026-01-01/a.parquet", "day=2025-01-01/a.parquet"]
    days = [f"s{number}/day=2026-01-0{day}/a.parquet" for number in (1, 2) for day in range(1, 8)]
    for name in (*days, *other):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    gone = forget_days(tmp_path, 3, date(2026, 1, 7))
    assert gone == [f"s{number}/day=2026-01-0{day}" for number in (1, 2) for day in range(1, 5)]
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet")}
    assert left == {*other, *(name for name in days if name[15:17] in ("05", "06", "07"))}
    monkeypatch.setattr(request_log, "FLUSH_SECONDS", 0.01)
    for keep, there in ((0, True), (1, False)):
        log = RequestLog(tmp_path, keep)
        log.start()
        time.sleep(0.2)
        until(lambda there=there: (tmp_path / days[-1]).exists() is there)
        log.stop()
        assert (tmp_path / other[0]).exists()
    (said,) = (each for each in caplog.records if each.name == "serving.log_retention")
    assert said.levelname == "WARNING"  # what is less is not shown by a server
    assert "1 days are kept, so s1/day=2026-01-05" in said.getMessage()


def test_an_answer_whose_write_failed_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, sync = RequestLog(tmp_path), os.fsync
    put(log, 0)
    log.flush()
    put(log, 1)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    log.flush()
    assert log.fault is not None and "No space left" in log.fault
    monkeypatch.setattr(os, "fsync", sync)
    log.stop()
    assert log.fault is None
    assert sorted(rows(tmp_path)["request_id"].to_list()) == ["r0"] * 3 + ["r1"] * 3
    assert not list(tmp_path.glob("*.arrows"))


def test_a_fault_of_ours_loses_nothing_and_the_next_flush_is_made(tmp_path: Path) -> None:
    log, publish = RequestLog(tmp_path), request_log._publish
    put(log, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(request_log, "ROTATE_ROWS", 1)
        patched.setattr(request_log, "_publish", lambda _: 1 / 0)
        log.flush()
        assert log.fault is not None and "ZeroDivisionError" in log.fault
    assert request_log._publish is publish
    log.stop()
    assert rows(tmp_path).height == 3


def test_a_log_whose_column_is_called_as_one_of_ours_is_refused(tmp_path: Path) -> None:
    released(tmp_path / "v1", slices=1)
    signature = signature_of(tmp_path / "v1")
    dtypes = {"user_id": int, "item_id": str}
    assert "price" in schema_of(signature, dtypes, ("user_id", "item_id")).names
    taken = replace(signature, numbers={**signature.numbers, "served_score": signature.numbers["rate"]})
    with pytest.raises(ReleaseError, match="column 'served_score' of the log is called as one of the request log's"):
        schema_of(taken, dtypes, ("user_id", "item_id"))


def test_values_are_columns_of_their_types_whatever_python_makes_of_them() -> None:
    schema = pa.schema({"a": pa.float64(), "b": pa.list_(pa.float32()), "c": pa.string(), "d": pa.list_(pa.int64())})
    columns = {"a": [2**60 + 1, None, 0.5], "b": Same([2**30 + 1, 0.5]), "c": Same(None), "d": [[1], None, []]}
    batch = rows_of(columns, schema, 3)
    assert batch.to_pydict() == {
        "a": [float(2**60 + 1), None, 0.5], "b": [[float(2**30), 0.5]] * 3, "c": [None] * 3, "d": [[1], None, []]
    }  # fmt: skip
