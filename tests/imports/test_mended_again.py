"""Rows that were mended by hand stay mended when their file is read anew, whatever it is read anew for."""

import json
import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.log_files import EventTime, From
from exfm_assets import quarantine as command
from pipeline.imports import mending, moving, run
from pipeline.imports.entries import read_entries
from pipeline.imports.importing import Import
from pipeline.imports.run import account_of
from pipeline.workspace import Workspace
from tests.imports.logs import PLAIN, csv, quarantine, read_in, rows, workspace

SOUND, BROKEN = "1,a,d,2026-01-01,1,0", "x,b,d,2026-01-02,1,0"
OF_NAME = replace(PLAIN, columns=(*PLAIN.columns, From(name="device", sql="filename[:1]")))


def mend(work: Workspace, out: Path, user: str = "5") -> list[str]:
    """Mend the users of all refused rows."""
    command.written(work, "impressions", "", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for line in lines:
        line["values"]["user"] = user
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(command.mended(work, out))


@pytest.fixture
def mended(tmp_path: Path) -> Workspace:
    work = workspace(tmp_path, OF_NAME)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    assert mend(work, tmp_path / "rows.jsonl")[0].startswith("1 rows are in the log now")
    return work


def users(work: Workspace) -> list[tuple[int, str]]:
    return sorted(rows(work).select("user_id", "item_id").iter_rows())


def test_when_the_file_grows(mended: Workspace) -> None:
    before = set(rows(mended)["impression_id"])
    (mended.state.data / "log.csv").write_text(csv(SOUND, BROKEN, "7,c,d,2026-01-02,1,0"))
    read_in(mended)
    assert users(mended) == [(1, "a"), (5, "b"), (7, "c")] and quarantine(mended) == []
    assert before < set(rows(mended)["impression_id"])
    account = account_of(mended).tables[0]
    assert (account.read, account.kept, account.quarantined) == (3, 3, 0)
    assert not read_in(mended).read_in


def test_a_row_that_stands_elsewhere_now_is_another_one_and_that_is_said(
    mended: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    (mended.state.data / "log.csv").write_text(csv(SOUND, SOUND, BROKEN))
    with caplog.at_level("WARNING"):
        read_in(mended)
    assert users(mended) == [(1, "a"), (1, "a")] and len(quarantine(mended)) == 1
    assert "impressions: 1 rows that were mended are refused again" in caplog.text
    assert "exfm quarantine impressions --to rows.jsonl" in caplog.text


def test_only_the_row_that_was_mended_however_often_its_file_is_read(tmp_path: Path) -> None:
    work, out = workspace(tmp_path), tmp_path / "rows.jsonl"
    lines = [SOUND, BROKEN, BROKEN]
    (work.state.data / "log.csv").write_text(csv(*lines))
    read_in(work)
    command.written(work, "impressions", "", out)
    first = json.loads(out.read_text().splitlines()[0])
    first["values"]["user"] = "5"
    out.write_text(json.dumps(first) + "\n")
    list(command.mended(work, out))
    (work.state.data / "log.csv").rename(work.state.data / "log_b.csv")
    read_in(work)
    assert users(work) == [(1, "a"), (5, "b")] and len(quarantine(work)) == 1
    for _ in range(2):
        lines.append(SOUND)
        (work.state.data / "log_b.csv").write_text(csv(*lines))
        read_in(work)
        assert users(work)[-2:] == [(1, "a"), (5, "b")] and len(quarantine(work)) == 1
    assert mend(work, out, "6")[0].startswith("1 rows are in the log now")  # of the file's name now
    assert users(work)[-2:] == [(5, "b"), (6, "b")] and quarantine(work) == []


def test_when_it_is_declared_otherwise(mended: Workspace, tmp_path: Path) -> None:
    otherwise = replace(OF_NAME, nulls=("none",))
    again = workspace(tmp_path, otherwise)
    assert [entry.name for entry in read_in(again).read_in] == ["log.csv"]
    assert users(again) == [(1, "a"), (5, "b")] and quarantine(again) == []


def test_when_it_is_moved_and_its_rows_hang_on_its_name(mended: Workspace) -> None:
    before = set(rows(mended)["impression_id"])
    (mended.state.data / "log.csv").rename(mended.state.data / "log_old.csv")
    read_in(mended)
    assert users(mended) == [(1, "a"), (5, "b")] and quarantine(mended) == []
    assert set(rows(mended)["impression_id"]) == before


def test_when_it_is_moved_and_grows_then(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    mend(work, tmp_path / "rows.jsonl")
    (work.state.data / "log.csv").rename(work.state.data / "log1.csv")
    read_in(work)
    (work.state.data / "log1.csv").write_text(csv(SOUND, BROKEN, SOUND))
    read_in(work)
    assert users(work) == [(1, "a"), (1, "a"), (5, "b")] and quarantine(work) == []


def test_when_its_bytes_come_again_under_another_name(mended: Workspace) -> None:
    data = mended.state.data
    (data / "log_copy.csv").write_bytes((data / "log.csv").read_bytes())
    read_in(mended)  # a copy is not read
    (data / "log.csv").write_text(csv(SOUND, BROKEN, SOUND))
    read_in(mended)  # now it is
    assert users(mended) == [(1, "a")] * 3 + [(5, "b")] * 2 and quarantine(mended) == []


def test_when_it_is_rotated_twice(mended: Workspace) -> None:
    data = mended.state.data
    for name in ("log_1.csv", "log_2.csv"):
        (data / "log_1.csv").rename(data / "log_2.csv") if name == "log_2.csv" else None
        (data / "log.csv").rename(data / "log_1.csv")
        (data / "log.csv").write_text(csv(f"7,{name},d,2026-01-02,1,0"))
        read_in(mended)
    assert users(mended) == [(1, "a"), (5, "b"), (7, "log_1.csv"), (7, "log_2.csv")] and quarantine(mended) == []


class Killed(BaseException):
    """As a process that is killed."""


def kill(*_: object) -> None:
    raise Killed


def killed_unlink(path: Path, missing_ok: bool = False) -> None:
    if "_quarantine" in path.parts and path.suffix == ".parquet":
        raise Killed
    path.touch() if missing_ok else None
    os.unlink(path)


@pytest.mark.parametrize("dies_at", ["_convert", "keep", "_write", "write_entry", "write_parquet", "unlink"])
def test_a_killed_mending_is_done_once_when_it_is_done_again(
    tmp_path: Path, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    with monkeypatch.context() as patch:
        if dies_at == "unlink":
            patch.setattr(Path, "unlink", killed_unlink)
        else:
            patch.setattr(mending, dies_at, kill)
        with pytest.raises(Killed):
            mend(work, tmp_path / "rows.jsonl")
    is_in = dies_at == "unlink"
    told = [row.reason for row in mending.refused_rows(work, "impressions")]
    assert told == ([] if is_in else ["user_id is no whole number of 64 bits: x"])
    said = list(command.mended(work, tmp_path / "rows.jsonl"))
    assert said[0].startswith(f"{0 if is_in else 1} rows are in the log now")
    for lines in ((SOUND, BROKEN), (SOUND, BROKEN, SOUND)):
        (work.state.data / "log.csv").write_text(csv(*lines))
        read_in(work)
        assert users(work) == [(1, "a")] * (len(lines) - 1) + [(5, "b")] and quarantine(work) == []
    assert list(command.counted(work)) == ["no row is in quarantine"]


def test_an_import_that_is_killed_before_it_mends_again_does_so_the_next_time(
    mended: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mended.state.data / "log.csv").write_text(csv(SOUND, BROKEN, SOUND))
    with monkeypatch.context() as patch:
        patch.setattr(run, "mend_all_again", kill)
        with pytest.raises(Killed):
            read_in(mended)
    assert users(mended) == [(1, "a")] * 2
    read_in(mended)
    assert users(mended) == [(1, "a")] * 2 + [(5, "b")] and quarantine(mended) == []
    account = account_of(mended).tables[0]
    assert (account.read, account.kept, account.quarantined) == (3, 3, 0)


def test_a_move_that_is_killed_leaves_what_was_mended(mended: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mended.state.data
    (data / "log.csv").rename(data / "log_old.csv")
    with monkeypatch.context() as patch:
        patch.setattr(moving, "inherit", kill)
        with pytest.raises(Killed):
            read_in(mended)
    read_in(mended)
    assert users(mended) == [(1, "a"), (5, "b")] and quarantine(mended) == []
    (data / "log_old.csv").write_text(csv(SOUND, BROKEN, SOUND))
    read_in(mended)
    assert users(mended) == [(1, "a")] * 2 + [(5, "b")] and quarantine(mended) == []


def test_a_file_that_is_forgotten_is_as_if_it_had_never_been_mended(mended: Workspace) -> None:
    log = mended.state.log
    Import(log, mended.project.stream).forget(read_entries(log, "impressions")["log.csv"])
    read_in(mended)
    assert users(mended) == [(1, "a")] and len(quarantine(mended)) == 1


def test_what_can_not_be_read_any_more_is_said_and_refused_as_it_was(
    mended: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = replace(OF_NAME, time=EventTime(of="ts", unit="s"))
    again = workspace(tmp_path, later)
    with caplog.at_level("WARNING"):
        read_in(again)
    assert "impressions: 1 rows that were mended are refused again" in caplog.text
    assert [line["user"] for line in _quarantined(again)] == ["1", "x"]


def test_what_a_declaration_asks_of_mended_rows_in_vain_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = "user,item,device,ts,price,click,ts2"
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND + ",2026-01-01", BROKEN + ",", header=header))
    read_in(work)
    mend(work, tmp_path / "rows.jsonl")
    again = workspace(tmp_path, replace(PLAIN, time=EventTime(of="ts2")))
    for _ in range(2):
        with caplog.at_level("WARNING"):
            read_in(again)
        assert users(again) == [(1, "a")] and len(quarantine(again)) == 1
    assert "impressions: 1 rows that were mended are refused again" in caplog.text


def _quarantined(work: Workspace) -> list[dict[str, str]]:
    return [dict(row.values) for row in mending.refused_rows(work, "impressions") if not isinstance(row.values, str)]


@pytest.mark.parametrize("values", [("a|b", "c", "a", "b|c"), ("a\\", "b", "a", "\\b"), ("a|", "b", "a", "|b")])
def test_ids_of_several_columns_are_apart_whatever_is_in_them(tmp_path: Path, values: tuple[str, ...]) -> None:
    work = workspace(tmp_path, replace(PLAIN, id=("session", "place")))
    lines = [f"{SOUND},{first},{second}" for first, second in (values[:2], values[2:], ("plain", "1"))]
    header = "user,item,device,ts,price,click,session,place"
    (work.state.data / "log.csv").write_text(csv(*lines, header=header))
    read_in(work)
    ids = rows(work)["impression_id"]
    assert ids.n_unique() == 3
    assert pl.Series([_md5("plain|1")], dtype=pl.Int64).is_in(ids.implode()).item()  # as it always was


def _md5(text: str) -> int:
    import duckdb

    from pipeline.imports.values import hashed

    ((found,),) = duckdb.sql(f"SELECT {hashed(repr(text))}").fetchall()
    return int(str(found))
