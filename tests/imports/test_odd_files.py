"""Names, forms and fates of files that were read wrongly once."""

import gzip
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exfm.inputs import Number
from exfm.log_files import EventTime, Files, From
from pipeline.imports.entries import entry_path
from pipeline.imports.run import due, import_log
from pipeline.tables import DataError
from tests.imports.logs import PLAIN, csv, quarantine, read_in, rows, workspace

ROW = "1,a,d,2026-01-01,1,0"
JSON = {"user": 1, "item": "a", "device": "d", "ts": "2026-01-01", "price": 1, "click": 0}


def items(work: object) -> list[str]:
    return sorted(rows(work)["item_id"].to_list()) if not rows(work).is_empty() else []  # type: ignore[arg-type]


def test_a_column_may_be_called_day(tmp_path: Path) -> None:
    work = workspace(tmp_path, numbers=(Number(name="price"), Number(name="day")))
    (work.state.data / "log.csv").write_text(csv(ROW + ",7", header="user,item,device,ts,price,click,day"))
    read_in(work)
    assert rows(work)["day"].to_list() == [7.0]


@pytest.mark.parametrize(
    ("odd", "other"),
    [
        ("log*.csv", "log1.csv"),
        ("log[a].csv", "loga.csv"),
        ("log?.jsonl", "logx.jsonl"),
        ("log[a]/p.csv", "loga/p.csv"),
    ],
)
def test_letters_of_patterns_in_a_name_are_letters(tmp_path: Path, odd: str, other: str) -> None:
    work = workspace(tmp_path, replace(PLAIN, kind=None if "." in odd else "csv"))
    for name, item in ((odd, "odd"), (other, "other")):
        path = work.state.data / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**JSON, "item": item}) if name.endswith("l") else csv(ROW.replace("a", item)))
    read_in(work)
    assert items(work) == ["odd", "other"]


def test_a_folders_value_never_replaces_a_column_of_the_file(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    path = work.state.data / "log/user=5/x=%FF/p.csv"
    path.parent.mkdir(parents=True)
    path.write_text(csv(ROW))
    read_in(work)
    assert rows(work)["user_id"].to_list() == [1]


def test_equal_bytes_are_no_copy_where_the_folder_says_more(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, time=EventTime(of="dt")))
    for day in (1, 2):
        path = work.state.data / f"log/dt=2026-01-0{day}/p.csv"
        path.parent.mkdir(parents=True)
        path.write_text(csv(ROW))
    read_in(work)
    assert rows(work)["event_timestamp"].dt.day().to_list() == [1, 2] and not due(work)


def test_a_copy_is_read_when_the_other_is_something_else(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    first, second = work.state.data / "log-a.csv", work.state.data / "log-b.csv"
    for path in (first, second):
        path.write_text(csv(ROW))
    read_in(work)
    assert items(work) == ["a"]
    first.write_text(csv(ROW.replace(",a,", ",new,")))
    read_in(work)
    assert items(work) == ["a", "new"] and not due(work)


@pytest.mark.parametrize("old", ["log.1.csv", "log1.csv"])
def test_a_log_that_is_rotated_keeps_its_rows_and_ids(tmp_path: Path, old: str) -> None:
    work = workspace(tmp_path)
    log = work.state.data / "log.csv"
    log.write_text(csv(ROW))
    read_in(work)
    (before,) = rows(work)["impression_id"].to_list()
    for turn in ("second", "third"):
        target = work.state.data / (old if turn == "second" else old.replace("1", "2"))
        log.rename(target)
        log.write_text(csv(ROW.replace(",a,", f",{turn},")))
        read_in(work)
    by_item = dict(rows(work).select("item_id", "impression_id").iter_rows())
    assert set(by_item) == {"a", "second", "third"} and by_item["a"] == before and len(set(by_item.values())) == 3
    assert not due(work)


def test_a_file_that_is_moved_and_means_something_else_is_read_anew_with_its_ids(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, columns=(*PLAIN.columns, From(name="device", of="filename"))))
    path = work.state.data / "log-a.csv"
    path.write_text(csv(ROW))
    read_in(work)
    before = rows(work)["impression_id"].to_list()
    path.rename(work.state.data / "log-b.csv")
    read_in(work)
    assert rows(work).select("impression_id", "device").rows() == [(before[0], "log-b.csv")] and not due(work)


def test_json_knows_its_folder_and_its_name(tmp_path: Path) -> None:
    columns = (*PLAIN.columns, From(name="device", of="filename"))
    work = workspace(tmp_path, replace(PLAIN, time=EventTime(of="dt"), columns=columns))
    path = work.state.data / "log/dt=2026-01-02/l.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(JSON))
    read_in(work)
    assert rows(work).select("event_timestamp", "device").rows() == [
        (datetime(2026, 1, 2, tzinfo=UTC), "log/dt=2026-01-02/l.jsonl")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"columns": (*PLAIN.columns[:1], From(name="user_id", of="usr"), *PLAIN.columns[2:])}, {"id": "rid"}]
)
def test_json_that_lacks_a_declared_column_stops(tmp_path: Path, change: dict[str, object]) -> None:
    work = workspace(tmp_path, replace(PLAIN, **change))  # type: ignore[arg-type]
    (work.state.data / "log.jsonl").write_text(json.dumps(JSON))
    with pytest.raises(DataError, match=r"log.jsonl has no column '(usr|rid)'"):
        import_log(work)


def test_json_columns_that_come_late_are_read(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    early = {name: JSON[name] for name in ("user", "item", "ts")}
    lines = [json.dumps(early)] * 1_200 + [json.dumps({**JSON, "price": 9})]
    (work.state.data / "log.jsonl").write_text("\n".join(lines))
    read_in(work)
    assert rows(work)["price"].sum() == 9 and rows(work)["click"].drop_nulls().to_list() == [0]


def test_json_keys_that_differ_in_capitals_or_are_odd(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.jsonl").write_text(json.dumps({"User": 7, "$browser": "x", "": 1, **JSON}))
    read_in(work)
    assert rows(work)["user_id"].to_list() == [1]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    work = workspace(tmp_path, replace(PLAIN, encoding=encoding))  # type: ignore[arg-type]
    text = (
        csv(ROW.replace(",a,", ",é,"))
        if name.endswith("csv")
        else json.dumps({**JSON, "item": "é"}, ensure_ascii=False) + "\n"
    )
    (work.state.data / name).write_bytes(text.encode(encoding))
    read_in(work)
    assert items(work) == ["é"]


@pytest.mark.parametrize(
    "text",
    ["2026-01-05 03:04 PM", "2026-01-05 10:00:00 EST", "2026-01-05 10:00:00 America/New_York",
     "2026-01-05 10:00 banana", "2026-01-05T12:00:00+05:30:15", "2026-01-05T10:00:00+99:00"],
)  # fmt: skip
def test_a_time_with_more_behind_it_is_refused(tmp_path: Path, text: str) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text(csv(ROW, f"1,a,d,{text},1,0"))
    read_in(work)
    assert quarantine(work) == [f"event_timestamp is no time: {text}"]


def test_decimals_and_nanoseconds_are_exact(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, id="rid"))
    large = 2**53 + 1
    table = pa.table({
        "rid": pa.array([Decimal(large), Decimal(2**64 - 1)], pa.decimal128(38, 0)),
        "user": pa.array([Decimal("1.0000000000000000001"), Decimal("2.0")], pa.decimal128(30, 19)),
        "item": ["a", "b"], "device": ["d", "d"], "price": pa.array([1e300, 1.0]), "click": [0, 1],
        "ts": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("ns", "UTC")),
    })  # fmt: skip
    pq.write_table(table, work.state.data / "log.parquet")
    read_in(work)
    assert rows(work).select("impression_id", "user_id").rows() == [(-1, 2)]
    assert quarantine(work)[0].startswith("user_id is no whole number of 64 bits: 1.0000000000000000001")


def test_blank_lines_before_a_header_are_passed_over(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log.csv").write_text("\n\n" + csv(ROW))
    assert read_in(work).tables[0].kept == 1


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst", "jsonl.zst"])
def test_a_damaged_archive_is_refused(tmp_path: Path, ending: str) -> None:
    work = workspace(tmp_path)
    text = csv(*[f"{number},a,d,2026-01-01,1,0" for number in range(5_000)]).encode()
    if ending.startswith("jsonl"):
        text = "\n".join(json.dumps({**JSON, "user": number}) for number in range(5_000)).encode()
    if ending.endswith("gz"):
        whole = bytearray(gzip.compress(text))
        whole[len(whole) // 2] ^= 4
    else:
        with pa.CompressedOutputStream(str(tmp_path / "whole"), "zstd") as file:
            file.write(text)
        whole = bytearray((tmp_path / "whole").read_bytes()[:-50])
    (work.state.data / f"log.{ending}").write_bytes(bytes(whole))
    with pytest.raises(DataError, match=rf"log.{ending} is not a whole (csv|json) file"):
        import_log(work)
    assert rows(work).is_empty()


@pytest.mark.parametrize("sql", ["unnest(['p', 'q'])", "unnest([]::VARCHAR[])"])
def test_an_expression_gives_one_value_a_row(tmp_path: Path, sql: str) -> None:
    work = workspace(tmp_path, replace(PLAIN, columns=(*PLAIN.columns, From(name="device", sql=sql))))
    (work.state.data / "log.csv").write_text(csv(ROW))
    with pytest.raises(DataError, match="gives not one value for each row"):
        import_log(work)


def test_what_a_killed_import_left_is_swept(tmp_path: Path) -> None:
    """Its parts are in the log, its note is not: the file changes, or is moved, before the next import."""
    work = workspace(tmp_path)
    path = work.state.data / "log.csv"
    path.write_text(csv(ROW, "1,y,d,2026-01-02,1,0"))
    read_in(work)
    entry_path(work.state.log, "impressions", "log.csv").unlink()
    path.write_text(csv(ROW.replace(",a,", ",only,")))
    read_in(work)
    assert items(work) == ["only"]
    entry_path(work.state.log, "impressions", "log.csv").unlink()
    path.rename(work.state.data / "log-2.csv")
    read_in(work)
    assert items(work) == ["only"]


def test_delta_tables_below_a_folder_are_their_newest_versions(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    work = workspace(tmp_path, replace(PLAIN, paths=("lake",)))
    table = work.state.data / "lake/t 1"
    for item in ("old", "new"):
        frame = pl.DataFrame([{**JSON, "item": item, "p": "a b/é"}]).to_arrow()
        deltalake.write_deltalake(table, frame, mode="overwrite", partition_by=["p"])
    read_in(work)
    assert items(work) == ["new"]
    table.rename(work.state.data / "aside")
    (work.state.data / "lake/other.csv").write_text(csv(ROW))
    read_in(work)
    assert items(work) == ["a", "new"]  # a folder that is not mounted takes nothing with it


def test_what_is_no_file_is_named_and_hangs_nothing(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, paths=("in",)))
    (work.state.data / "in").mkdir()
    (work.state.data / "in/log.csv").write_text(csv(ROW))
    (work.state.data / "in/gone.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(work.state.data / "in/pipe.csv")
    said = read_in(work).sentences()
    assert items(work) == ["a"] and "in/gone.csv" in said[1] and "in/pipe.csv" in said[1]


def test_one_file_that_cant_be_read_stops_no_other(tmp_path: Path) -> None:
    work = workspace(tmp_path)
    (work.state.data / "log-1.csv.gz").write_bytes(gzip.compress(csv(ROW).encode())[:12] + b"\xff" * 30)
    (work.state.data / "log-2.csv").write_text("x" * 200_000 + "\n1\n")
    (work.state.data / "log-3.csv").write_text(csv(ROW))
    with pytest.raises(DataError) as raised:
        import_log(work)
    assert items(work) == ["a"] and "log-1.csv.gz" in str(raised.value) and "log-2.csv" in str(raised.value)


def test_two_shapes_of_one_table_share_no_copies(tmp_path: Path) -> None:
    def of(name: str) -> Files:
        columns = tuple(column for column in PLAIN.columns if column.name != "surface")
        return replace(PLAIN, paths=(f"{name}.csv",), columns=(From(name="surface", sql=f"'{name}'"), *columns))

    work = workspace(tmp_path, of("men"), of("women"), surfaces=("men", "women"))
    for name in ("men", "women"):
        (work.state.data / f"{name}.csv").write_text(csv(ROW))
    read_in(work)
    assert sorted(rows(work)["surface"].to_list()) == ["men", "women"]
