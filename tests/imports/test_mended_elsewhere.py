"""Rows that were mended, of files of the same bytes, of files that are gone, and where they can no longer be read."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from exfm.log_files import From
from exfm.writing import StateError
from exfm_assets import quarantine as command
from pipeline.imports import mending
from pipeline.imports.entries import read_entries
from pipeline.imports.importing import kept_path
from pipeline.imports.mended import keep, read_kept
from pipeline.tables import DataError
from tests.imports.logs import PLAIN, csv, quarantine, read_in, workspace
from tests.imports.test_mended_again import BROKEN, OF_NAME, SOUND, mend, users


def test_files_of_the_same_bytes_that_mean_something_else_are_mended_apart(tmp_path: Path) -> None:
    work, out = workspace(tmp_path, OF_NAME), tmp_path / "rows.jsonl"  # rows hang on the file's name
    for name in ("log_1.csv", "log_2.csv"):
        (work.state.data / name).write_text(csv(BROKEN))
    read_in(work)
    command.written(work, "impressions", "", out)
    both = [json.loads(line) for line in out.read_text().splitlines()]
    for number, row in enumerate(both):
        row["values"]["user"] = f"{5 + number}"
    out.write_text(json.dumps(both[0]) + "\n")
    list(command.mended(work, out))
    read_in(work)
    assert users(work) == [(5, "b")] and len(quarantine(work)) == 1
    out.write_text(json.dumps(both[1]) + "\n")
    list(command.mended(work, out))
    (work.state.data / "log_1.csv").unlink()  # as logs are rotated: its rows stay
    read_in(work)
    (work.state.data / "log_2.csv").write_text(csv(BROKEN, SOUND))
    read_in(work)
    assert users(work) == [(1, "a"), (5, "b"), (6, "b")] and quarantine(work) == []


def test_rows_of_a_file_that_is_gone_stop_no_import(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work, out = workspace(tmp_path, OF_NAME), tmp_path / "rows.jsonl"
    short = "x,b,d"
    (work.state.data / "log_1.csv").write_text(csv(short))
    read_in(work)
    command.written(work, "impressions", "", out)
    row = json.loads(out.read_text())
    out.write_text(json.dumps(row | {"values": "5,b,d,2026-01-02,1,0"}) + "\n")
    list(command.mended(work, out))
    (work.state.data / "log_2.csv").write_text(csv(short))
    read_in(work)
    entry = read_entries(work.state.log, "impressions")["log_1.csv"]
    keep(work.state.log, "impressions", "log_2.csv", read_kept(kept_path(work.state.log, "impressions", "log_1.csv")))
    (work.state.data / "log_2.csv").unlink()
    with caplog.at_level("WARNING"):
        for _ in range(3):
            read_in(work)
    assert caplog.text.count("log_2.csv: rows that were mended before can't be read again") == 1
    assert read_entries(work.state.log, "impressions")["log_1.csv"] == entry and users(work) == [(5, "b")]


def test_an_expression_that_fails_on_mended_rows_is_a_sentence(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    mend(work, tmp_path / "rows.jsonl", "5")
    failing = "CASE \"user\" WHEN '5' THEN error('no five') ELSE device END"
    again = workspace(tmp_path, replace(PLAIN, columns=(*PLAIN.columns, From(name="device", sql=failing))))
    for _ in range(2):
        read_in(again)
        assert users(again) == [(1, "a")] and len(quarantine(again)) == 1
    with pytest.raises(DataError, match=r"log.csv can't be read as impressions: .*no five"):
        mend(again, tmp_path / "rows.jsonl", "5")


def test_rows_of_a_delta_table_that_is_written_anew_are_said_to_be_refused_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from deltalake import DeltaTable, write_deltalake

    columns = {"user": ["1", "x"], "item": ["a", "b"], "device": ["d", "d"], "ts": ["2026-01-01"] * 2,
               "price": [1.0, 1.0], "click": [0, 0]}  # fmt: skip
    work = workspace(tmp_path, replace(PLAIN, kind="delta"))
    table = work.state.data / "log"
    for row in range(2):
        write_deltalake(
            table, pa.table({name: values[row : row + 1] for name, values in columns.items()}), mode="append"
        )
    read_in(work)
    mend(work, tmp_path / "rows.jsonl")
    version = DeltaTable(table).version()
    DeltaTable(table).optimize.compact()
    with caplog.at_level("WARNING"):
        read_in(work)
    assert users(work) == [(1, "a")] and len(quarantine(work)) == 1
    assert "impressions: 1 rows that were mended are refused again" in caplog.text
    DeltaTable(table).restore(version)
    read_in(work)
    assert users(work) == [(1, "a"), (5, "b")] and quarantine(work) == []


def test_no_room_while_rows_are_mended_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    with monkeypatch.context() as patch:
        patch.setattr(mending, "_convert", full)
        with pytest.raises(StateError, match="No space left on device"):
            mend(work, tmp_path / "rows.jsonl", "5")
    assert mend(work, tmp_path / "rows.jsonl", "5")[0].startswith("1 rows are in the log now")
