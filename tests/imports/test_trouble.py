"""Logs as they come: broken rows, damaged files, files that change, move, double or go; processes that are killed."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from exfm.errors import DeclarationError
from exfm.log_files import EventTime, From
from exfm_assets.imports import forget
from pipeline.imports.run import due, import_log
from pipeline.tables import DataError
from tests.imports.logs import PLAIN, csv, quarantine, read_in, rows, workspace

ROW = "1,a,d,2026-01-01,1,0"


def ids(work: object) -> list[int]:
    return rows(work)["impression_id"].to_list()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,a,d,2026-01-01,1,0", "user_id is no whole number of 64 bits: x"),
        ("1.5,a,d,2026-01-01,1,0", "user_id is no whole number of 64 bits: 1.5"),
        ("18446744073709551616,a,d,2026-01-01,1,0", "user_id is no whole number of 64 bits: 18446744073709551616"),
        ("1,a,d,yesterday,1,0", "event_timestamp is no time: yesterday"),
        ("1,a,d,2026-02-30,1,0", "event_timestamp is no time: 2026-02-30"),
        ("1,a,d,,1,0", "null event_timestamp"),
        ("1,a,d,1969-12-31,1,0", "event_timestamp is not between 1970 and 2200: 1969-12-31"),
        ("1,a,d,2026-01-01,cheap,0", "price is no number: cheap"),
        ("1,a,d,2026-01-01,1,maybe", "click is no label: maybe"),
        ("1,a,d", "no row of a CSV: missing columns"),
        ("1,a,d,2026-01-01,1,0,9", "no row of a CSV: too many columns"),
        ('1,"a,d,2026-01-01,1,0', "no row of a CSV: unquoted value"),
    ],
)
def test_a_row_that_cant_be_read_is_kept_aside_with_the_reason(tmp_path: Path, line: str, reason: str) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(ROW, ROW, line))
    account = read_in(work)
    assert account.tables[0].quarantined == 1 and len(ids(work)) == 2
    assert quarantine(work) == [reason]
    (kept,) = (work.state.log / "_quarantine/impressions").glob("*.parquet")
    ((file, raw),) = pl.read_parquet(kept).select("file", "raw").rows()
    assert file == "log.csv" and line.split(",")[0].strip('"') in raw
    assert reason.partition(":")[0] in account.sentences()[0]


def test_lines_that_are_no_json_object(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    sound = {"user": 1, "item": "a", "ts": "2026-01-01", "price": 1, "click": 0}
    (work.state.data / "log.jsonl").write_text(f'{json.dumps(sound)}\n[1]\n{{"user": \n"text"\n{json.dumps(sound)}\n')
    read_in(work)
    assert quarantine(work) == ["no JSON object"] * 3 and len(ids(work)) == 2


@pytest.mark.parametrize("name", ["log-a.csv.gz", "log-a.parquet"])
def test_a_file_that_is_cut_short_is_refused_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    work = workspace(tmp_path)
    whole = gzip.compress(csv(*[ROW] * 500).encode()) if name.endswith("gz") else b""
    if not whole:
        frame = pl.DataFrame({"user": [1], "item": ["a"], "device": ["d"], "ts": ["2026-01-01"], "price": [1.0]})
        frame.with_columns(click=0).write_parquet(tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
    (work.state.data / name).write_bytes(whole[:-20])
    (work.state.data / "log-b.csv").write_text(csv(ROW))
    with pytest.raises(DataError, match=rf"{name} is not a whole \w+ file \(.*\): write it again, or begin its name"):
        import_log(work)
    assert len(ids(work)) == 1
    (work.state.data / name).write_bytes(whole)
    read_in(work)
    assert len(ids(work)) == (501 if name.endswith("gz") else 2)


@pytest.mark.parametrize("content", ["", csv()])
def test_an_empty_file_is_none(tmp_path: Path, content: str) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(content)
    account = read_in(work)
    assert rows(work).is_empty() and account.needs_attention and not due(work)


def test_what_is_read_in_is_read_once(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log.csv"
    path.write_text(csv(ROW))
    assert [each.why for each in due(work)] == ["new"]
    assert len(read_in(work).read_in) == 1
    path.touch()
    assert due(work) == [] and read_in(work).read_in == ()


def test_a_file_that_changed_replaces_its_rows_alone(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log-a.csv"
    path.write_text(csv(ROW, "1,b,d,2026-01-03,1,0", "x,b,d,2026-01-03,1,0"))
    (work.state.data / "log-b.csv").write_text(csv("2,c,d,2026-01-03,1,0"))
    read_in(work)
    before = dict(rows(work).select("item_id", "impression_id").iter_rows())
    path.write_text(csv(ROW, "1,e,d,2026-01-02,1,0", "7,f,d,2026-01-02,1,0"))
    assert [each.why for each in due(work)] == ["changed"]
    read_in(work)
    after = dict(rows(work).select("item_id", "impression_id").iter_rows())
    assert set(after) == {"a", "e", "f", "c"} and quarantine(work) == []
    assert after["a"] == before["a"] and after["c"] == before["c"] and after["e"] == before["b"]


def test_a_file_that_grows_keeps_the_ids_of_its_rows(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log.csv"
    path.write_text(csv(ROW))
    read_in(work)
    before = ids(work)
    with path.open("a") as file:
        file.write("2,b,d,2026-01-02,1,0\n")
    read_in(work)
    assert ids(work)[:1] == before and len(ids(work)) == 2


def test_a_file_that_is_moved_keeps_its_ids_and_a_copy_counts_once(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log.csv"
    path.write_text(csv(ROW, ROW))
    read_in(work)
    before = ids(work)
    path.rename(work.state.data / "log-2.csv")
    account = read_in(work)
    assert ids(work) == before and account.tables[0].gone == 0
    shutil.copy(work.state.data / "log-2.csv", work.state.data / "log-3.csv")
    account = read_in(work)
    assert ids(work) == before and due(work) == []
    assert "copies of others byte for byte: log-3.csv (of log-2.csv)" in account.sentences()[0]
    (work.state.data / "log-3.csv").write_text(csv(ROW, ROW, ROW))
    read_in(work)
    assert len(ids(work)) == 5


def test_what_was_read_of_a_file_that_is_gone_stays_until_it_is_forgotten(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    for name in ("log-a.csv", "log-b.csv"):
        (work.state.data / name).write_text(csv(ROW.replace("a", name[4])))
    read_in(work)
    with pytest.raises(DeclarationError, match="is still in"):
        forget(work, "log-a.csv")
    (work.state.data / "log-a.csv").unlink()
    account = read_in(work)
    assert len(ids(work)) == 2 and "1 files are gone from EXFM_DATA" in account.sentences()[0]
    assert "1 rows are no longer in the log" in forget(work, "log-a.csv")
    assert rows(work)["item_id"].to_list() == ["b"]
    with pytest.raises(DeclarationError, match=r"'log-c.csv' is not a declared file that was read in"):
        forget(work, "log-c.csv")


def test_another_declaration_reads_all_files_again(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(ROW))
    read_in(work)
    other = workspace(tmp_path, replace(PLAIN, columns=(*PLAIN.columns, From(name="device", sql="'tv'"))))
    assert [each.why for each in due(other)] == ["declared otherwise"]
    read_in(other)
    assert rows(other)["device"].to_list() == ["tv"]


def test_columns_come_go_and_change_their_type_between_files(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log-1.csv").write_text(csv("1,a,2026-01-01,0", header="user,item,ts,click"))
    (work.state.data / "log-2.csv").write_text(
        csv("1,b,2026-01-01,1,1,d,new", header="user,item,ts,click,price,device,x")
    )
    later = pl.DataFrame({"user": ["1"], "item": [5], "ts": [1767225600.0], "click": [True], "price": ["2"]})
    later.with_columns(ts=pl.lit("2026-01-01")).write_parquet(work.state.data / "log-3.parquet")
    account = read_in(work)
    assert rows(work).sort("item_id").select("item_id", "price", "device").rows() == [
        ("5", 2.0, None), ("a", None, None), ("b", 1.0, "d")
    ]  # fmt: skip
    assert "null, for files have no such column: device (of 2 files), price (of 1 files)" in account.sentences()[0]


def test_odd_texts_and_large_ids_are_kept_as_they_are(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    texts = ["日本語", "🙂", "a\u200b", "NULL", " spaced ", 'quo"te', "new\nline", "\u0660"]
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    large = 2**53 + 1
    (work.state.data / "log.csv").write_text(csv(*(f"{large},{text},d,2026-01-01,1,0" for text in quoted)))
    read_in(work)
    assert rows(work)["item_id"].to_list() == texts and set(rows(work)["user_id"]) == {large}


def test_too_many_refused_rows_stop_it(tmp_path: Path) -> None:
    work = workspace(tmp_path, quarantine_limit=0.2)
    (work.state.data / "log.csv").write_text(csv(*[ROW] * 79, *["x,a,d,2026-01-01,1,0"] * 21))
    with pytest.raises(DataError, match=r"21 quarantined .* more than Stream.quarantine_limit \(20%\) allows"):
        import_log(work)
    assert quarantine(work)


def test_files_of_no_kind_are_named_and_two_declarations_of_one_file_refused(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, paths=("in",)))
    (work.state.data / "in").mkdir()
    (work.state.data / "in/log.csv").write_text(csv(ROW))
    (work.state.data / "in/README.md").write_text("about")
    assert "not read, for their endings say of no kind (Files.kind does): in/README.md" in read_in(work).sentences()[1]
    twice = workspace(tmp_path, replace(PLAIN, paths=("in",)), replace(PLAIN, paths=("in/log.csv",)))
    with pytest.raises(DataError, match="in/log.csv is named by two Files, so its rows would count twice"):
        import_log(twice)


def test_clocks_that_are_wrong_stay_where_they_say(tmp_path: Path) -> None:
    """Rows out of order, and of a day far ahead, lie in the days of their own time."""
    work = workspace(tmp_path, replace(PLAIN, time=EventTime(of="ts", unit="s")))
    times = (1767312000, 1767225600, 4102444800, 1767225599)
    (work.state.data / "log.csv").write_text(csv(*(f"1,a,d,{at},1,0" for at in times)))
    read_in(work)
    days = sorted(path.name for path in (work.state.log / "impressions").iterdir())
    assert days == ["day=2025-12-31", "day=2026-01-01", "day=2026-01-02", "day=2100-01-01"]


LARGE = """
import sys
from pathlib import Path
from tests.imports.logs import workspace
from pipeline.imports.run import import_log
import_log(workspace(Path(sys.argv[1])))
"""


def _started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", LARGE, str(folder)], stderr=subprocess.DEVNULL)


def _many_files(folder: Path) -> None:
    (folder / "files").mkdir()
    for number in range(12):
        lines = (f"{row},a{row % 7},d,2026-01-0{1 + row % 3}T00:00:{row % 60:02},1,0" for row in range(20_000))
        (folder / f"files/log-{number:02}.csv").write_text(csv(*lines, f"x{number},a,d,2026-01-01,1,0"))


@pytest.mark.slow
def test_a_killed_import_leaves_nothing_half_and_goes_on(tmp_path: Path) -> None:
    _many_files(tmp_path)
    work = workspace(tmp_path)
    killed = 0
    for wait in (0.2, 0.5, 0.9, 1.3):
        process = _started(tmp_path)
        deadline = time.monotonic() + 30
        while (
            not list((work.state.log / "_reading").glob("*")) and time.monotonic() < deadline and process.poll() is None
        ):
            time.sleep(0.01)
        time.sleep(wait)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = sum(json.loads(path.read_text())["rows"] for path in (work.state.log / "_imported").rglob("*.json"))
        for path in (work.state.log / "impressions").rglob("*.parquet"):
            pl.read_parquet(path)  # each is whole
        assert known % 20_001 == 0
    assert killed
    account = read_in(work)
    assert (account.tables[0].read, account.tables[0].kept) == (12 * 20_001, 12 * 20_000)
    assert rows(work)["impression_id"].n_unique() == 12 * 20_000
    assert not list((work.state.log / "_reading").glob("*"))


def test_two_imports_at_once_read_each_file_once(tmp_path: Path) -> None:
    _many_files(tmp_path)
    both = [_started(tmp_path) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    account = read_in(workspace(tmp_path))
    assert account.read_in == () and account.tables[0].kept == 12 * 20_000
