"""Rows that were mended by hand stay mended when their file is read anew, whatever it is read anew for."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.log_files import EventTime, From
from exfm_assets import quarantine as command
from pipeline.imports import mending
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


def test_when_rows_are_put_in_before_it_and_another_one_is_broken_alike(mended: Workspace, tmp_path: Path) -> None:
    (mended.state.data / "log.csv").write_text(csv(SOUND, SOUND, BROKEN, BROKEN))
    read_in(mended)
    assert users(mended) == [(1, "a"), (1, "a"), (5, "b")] and len(quarantine(mended)) == 1  # it was mended once
    assert mend(mended, tmp_path / "rows.jsonl", "6")[0].startswith("1 rows are in the log now")
    (mended.state.data / "log.csv").write_text(csv(SOUND, SOUND, BROKEN, BROKEN, SOUND))
    read_in(mended)
    assert users(mended)[-2:] == [(5, "b"), (6, "b")]


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


def test_a_killed_mending_is_done_whole_when_it_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(SOUND, BROKEN))
    read_in(work)
    with monkeypatch.context() as patch:
        patch.setattr(mending, "write_entry", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mend(work, tmp_path / "rows.jsonl")
    assert quarantine(work) == ["user_id is no whole number of 64 bits: x"]
    read_in(work)  # takes away what was written and not noted
    assert users(work) == [(1, "a")]
    assert mend(work, tmp_path / "rows.jsonl")[0].startswith("1 rows are in the log now")
    assert users(work) == [(1, "a"), (5, "b")]


def test_what_can_not_be_read_any_more_is_said_and_refused_as_it_was(
    mended: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = replace(OF_NAME, time=EventTime(of="ts", unit="s"))
    again = workspace(tmp_path, later)
    with caplog.at_level("WARNING"):
        read_in(again)
    assert "1 rows that were mended before are refused again (row 2: " in caplog.text
    assert [line["user"] for line in _quarantined(again)] == ["1", "x"]


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
