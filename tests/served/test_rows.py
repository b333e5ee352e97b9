"""Rows of the request log by impression: against plain Python over what was logged, while servers write and after."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from exfm.served_inputs import ServedInputs
from exfm.state import State
from pipeline.served import files, rows
from pipeline.served.rows import served_rows
from pipeline.workspace import Workspace
from serving import request_log
from serving.request_log import RequestLog, rows_of
from tests.tiny import tiny_project

START = datetime(2026, 1, 2, 23, 50, tzinfo=UTC)
DECLARED = ServedInputs(within=timedelta(minutes=10))
COLUMNS = ["a__x", "a__y", "b__list", "country"]
OWN = {"impression_id": pa.int64(), "event_timestamp": pa.timestamp("us", "UTC"), "served_version": pa.string(),
       "item_id": pa.int64()}  # fmt: skip
# What releases read: each other columns, one of them none of those that are asked for.
READ: dict[str, dict[str, pa.DataType]] = {
    "v1": {"a__x": pa.float64(), "country": pa.string()},
    "v2": {"b__list": pa.list_(pa.int64()), "a__x": pa.float64(), "z__other": pa.float64()},
    "v3": {"z__other": pa.float64()},
}


@dataclass
class Logged:
    """A request log, and all that went into it."""

    work: Workspace
    log: RequestLog
    draws: random.Random = field(default_factory=lambda: random.Random(3))
    plain: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, at: datetime, candidates: int = 4) -> None:
        student, version = self.draws.choice(["s1", "s2"]), self.draws.choice(list(READ))
        schema = pa.schema({**OWN, **READ[version]})
        made = [self._row(at, version) for _ in range(candidates)]
        columns = {name: [row[name] for row in made] for name in schema.names}
        self.log.add(student, version, rows_of(columns, schema, candidates))
        kept = [{name: row[name] for name in schema.names if name != "z__other"} for row in made]
        self.plain += [{**row, "served_student": student} for row in kept]

    def _row(self, at: datetime, version: str) -> dict[str, Any]:
        draws = self.draws
        return {
            "impression_id": draws.getrandbits(62), "event_timestamp": at, "served_version": version,
            "item_id": draws.randrange(9), "a__x": draws.choice([None, draws.random()]),
            "country": draws.choice([None, "DE", "é"]), "z__other": 1.0,
            "b__list": draws.choice([None, [], [draws.randrange(5)] * 3]),
        }  # fmt: skip

    def shown(self, every: int = 3) -> pl.DataFrame:
        """Some of what was ranked, each shown some minutes after or before its request; and others."""
        chosen = self.plain[::every]
        moments = [row["event_timestamp"] + timedelta(minutes=self.draws.randrange(-7, 13)) for row in chosen]
        ids = [row["impression_id"] for row in chosen] + [5, 6]
        items = [row["item_id"] if at % 5 else 99 for at, row in enumerate(chosen)] + [1, 2]
        frame = pl.DataFrame({"impression_id": ids, "event_timestamp": [*moments, START, START], "item_id": items})
        return frame.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))

    def expected(self, shown: pl.DataFrame) -> list[dict[str, Any]]:
        by_id = {row["impression_id"]: row for row in self.plain}
        found = []
        for row in shown.to_dicts():
            served = by_id.get(row["impression_id"])
            if served is None or served["item_id"] != row["item_id"]:
                continue
            if timedelta(minutes=-5) <= row["event_timestamp"] - served["event_timestamp"] <= DECLARED.within:
                found.append(served)
        return sorted(found, key=lambda row: row["impression_id"])

    def found(self, shown: pl.DataFrame) -> list[dict[str, Any]]:
        groups = served_rows(self.work, DECLARED, shown, COLUMNS).groups
        return sorted((row for group in groups for row in group.to_dicts()), key=lambda row: row["impression_id"])


@pytest.fixture
def logged(tmp_path: Path) -> Logged:
    state = State(folder=tmp_path / "[odd]*", log=tmp_path / "log")
    state.requests.mkdir(parents=True)
    return Logged(Workspace(tiny_project(), state), RequestLog(state.requests))


def _flushed(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    logged.log.flush()


def _rotated(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "ROTATE_ROWS", 1)
    logged.log.flush()
    monkeypatch.undo()


@pytest.mark.parametrize("then", [_flushed, _rotated], ids=["spools", "files"])
def test_what_was_shown_is_found_with_what_was_served(
    logged: Logged, then: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):  # over midnight
        logged.answer(START + number * timedelta(seconds=20))
        if number % 7 == 0:
            then(logged, monkeypatch)
    logged.log.flush()
    shown = logged.shown()
    expected = logged.expected(shown)
    assert logged.found(shown) == expected and 20 < len(expected) < shown.height - 20
    logged.log.stop()
    assert not list(logged.work.state.requests.glob("*.arrows"))
    assert logged.found(shown) == expected
    found = served_rows(logged.work, DECLARED, shown, COLUMNS)
    by_id = {row["impression_id"]: row for row in logged.plain}
    others = [row for row in shown.to_dicts() if row["impression_id"] in by_id and row not in expected]
    in_time = [row for row in others if timedelta(minutes=-5) <= row["event_timestamp"]
               - by_id[row["impression_id"]]["event_timestamp"] <= DECLARED.within]  # fmt: skip
    assert found.rows == len(expected) and found.passed_over.total() == 0
    assert found.other_items == len(in_time) - len(expected) > 0 and found.late > 0


def test_a_row_in_a_spool_and_its_file_counts_once(logged: Logged) -> None:
    for number in range(20):
        logged.answer(START + number * timedelta(seconds=60))  # over midnight: two files of each spool
    logged.log.flush()
    kept = {path: path.read_bytes() for path in logged.work.state.requests.glob("*.arrows")}
    logged.log.stop()
    shown = logged.shown(every=1)
    expected = logged.expected(shown)
    for path, content in kept.items():  # as a kill between the files and the spool's end leaves it
        path.write_bytes(content)
    assert kept and logged.found(shown) == expected
    for path in logged.work.state.requests.glob("*/day=2026-01-02/*.parquet"):
        path.unlink()
    assert logged.found(shown) == expected


def test_a_batch_that_is_being_written_is_not_read(logged: Logged) -> None:
    logged.answer(START)
    logged.log.flush()
    (spool,) = logged.work.state.requests.glob("*.arrows")
    whole = spool.read_bytes()
    shown = logged.shown(every=1)
    expected = logged.expected(shown)
    for more in (b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x00\x02\x00\x00" + b"\x00" * 40):
        spool.write_bytes(whole + more)
        assert logged.found(shown) == expected and expected
    spool.write_bytes(whole[:100])
    assert logged.found(shown) == []
    spool.write_bytes(b"")
    assert logged.found(shown) == []


def test_a_spool_that_becomes_a_file_while_it_is_read_is_read_by_that(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        logged.answer(START + number * timedelta(seconds=120))
    logged.log.flush()
    shown = logged.shown(every=1)
    listed = rows.files_between

    def then_rotated(*window: Any) -> list[files.RequestFile]:
        found = listed(*window)
        logged.log.stop()
        return found

    monkeypatch.setattr(rows, "files_between", then_rotated)
    expected = logged.expected(shown)
    assert logged.found(shown) == expected and expected


def test_files_of_other_times_are_not_opened(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        logged.answer(START + number * timedelta(minutes=5))
        _rotated(logged, monkeypatch)
    opened: list[Path] = []
    read = files._of_parquet
    monkeypatch.setattr(files, "_of_parquet", lambda path, columns: opened.append(path) or read(path, columns))
    shown = logged.shown(every=1).filter(pl.col("event_timestamp") < START + timedelta(minutes=20))
    assert logged.found(shown) == logged.expected(shown) and 0 < len(opened) < 12


def test_a_damaged_file_and_one_of_another_declaration_are_counted_and_the_rest_is_read(logged: Logged) -> None:
    for number in range(10):
        logged.answer(START + number * timedelta(seconds=30))
    logged.log.stop()
    shown = logged.shown(every=1)
    expected = logged.expected(shown)
    day = logged.work.state.requests / "s1" / "day=2026-01-02"
    (day / "v-1.1.parquet").write_bytes(os.urandom(100))
    plain = pl.DataFrame({"impression_id": [1], "event_timestamp": [START], "item_id": ["one"]})
    plain.write_parquet(day / "v-1.2.parquet")
    plain.with_columns(impression_id=pl.lit("r-0")).write_parquet(day / "v-1.3.parquet")
    whole = (sorted(day.glob("v?-*.parquet"))[0]).read_bytes()
    middle = len(whole) // 3
    (day / "v-1.4.parquet").write_bytes(whole[:8] + bytes(middle) + whole[8 + middle :])
    assert logged.found(shown) == expected
    assert dict(served_rows(logged.work, DECLARED, shown, COLUMNS).passed_over) == {
        "damaged, or gone since they were listed": 2,
        "of another declaration, whose item_id is of another type": 1,
        "of an earlier exfm, whose impression_id is no int64": 1,
    }


def test_no_log_no_rows(logged: Logged) -> None:
    logged.work.state.requests.rmdir()
    empty = replace(logged.work.state, folder=logged.work.state.folder / "none")
    shown = pl.DataFrame({"impression_id": [1], "event_timestamp": [START], "item_id": [1]})
    for state in (logged.work.state, empty):
        assert served_rows(Workspace(logged.work.project, state), DECLARED, shown, COLUMNS).groups == []
    assert served_rows(logged.work, DECLARED, shown.clear(), COLUMNS).groups == []
