"""Files of every kind and layout become the same log."""

import gzip
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from exfm.inputs import Bag, Vector
from exfm.log_columns import Column, Task
from exfm.log_files import EventTime, Files, From, Log
from pipeline.tables import DataError
from tests.imports.logs import PLAIN, csv, quarantine, read_in, rows, workspace

LINES = (
    "7,shoe,phone,2026-01-01T10:00:00Z,1.5,0",
    "8,hat,,2026-01-02 23:30:00+01:00,,1",
    "9,coat,tv,2026-01-03 00:00:00.000001,2e3,",
)
WANTED = {
    "user_id": [7, 8, 9],
    "item_id": ["shoe", "hat", "coat"],
    "device": ["phone", None, "tv"],
    "event_timestamp": [
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        datetime(2026, 1, 2, 22, 30, tzinfo=UTC),
        datetime(2026, 1, 3, 0, 0, 0, 1, tzinfo=UTC),
    ],
    "price": [1.5, None, 2000.0],
    "click": [0, 1, None],
}


def _objects() -> list[dict[str, object]]:
    names = csv(*LINES).splitlines()[0].split(",")
    return [{name: text or None for name, text in zip(names, line.split(","), strict=True)} for line in LINES]


def _write_csv(folder: Path) -> None:
    (folder / "log.csv").write_text(csv(*LINES))


def _write_gz(folder: Path) -> None:
    (folder / "log.csv.gz").write_bytes(gzip.compress(csv(*LINES).encode()))


def _write_zst(folder: Path) -> None:
    with pa.CompressedOutputStream(str(folder / "log.csv.zst"), "zstd") as file:
        file.write(csv(*LINES).encode())


def _write_tsv(folder: Path) -> None:
    (folder / "log.tsv").write_text(csv(*LINES).replace(",", "\t"))


def _write_json(folder: Path) -> None:
    lines = [json.dumps({**row, "more": {"deep": [1]}}) for row in _objects()]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n\n")


def _write_typed_json(folder: Path) -> None:
    typed = [{**row, "user": int(str(row["user"]))} for row in _objects()]
    (folder / "log.ndjson").write_text("\n".join(json.dumps(row) for row in typed))


def _write_parquet(folder: Path) -> None:
    frame = pl.DataFrame(
        {"user": [7, 8, 9], "item": WANTED["item_id"], "device": WANTED["device"], "ts": WANTED["event_timestamp"],
         "price": WANTED["price"], "click": [False, True, None]}
    )  # fmt: skip
    frame.with_columns(pl.col("user").cast(pl.UInt16)).write_parquet(folder / "log.parquet")


def _write_floats(folder: Path) -> None:
    """As pandas writes ids with nulls: as floats."""
    frame = pl.DataFrame({**{name: [row[name] for row in _objects()] for name in ("item", "device", "ts")}})
    frame = frame.with_columns(user=pl.Series([7.0, 8.0, 9.0]), price=pl.Series(WANTED["price"]))
    frame.with_columns(click=pl.Series([0.0, 1.0, float("nan")])).write_parquet(folder / "log.parquet")


def _write_many(folder: Path) -> None:
    for number, line in enumerate(LINES):
        inside = folder / f"log/dt=2026-1-{number + 1}/hour={number}"
        inside.mkdir(parents=True)
        (inside / "part.csv").write_text(csv(line))
    (folder / "log/_unfinished.csv").write_text("half")
    (folder / "log/.hidden").mkdir()
    (folder / "log/.hidden/part.csv").write_text("half")


def _write_delta(folder: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    names = ("user", "item", "device", "ts", "price", "click")
    table = pl.DataFrame([[row[name] for name in names] for row in _objects()], schema=list(names), orient="row")
    gone = table.with_columns(item=pl.lit("gone"))
    deltalake.write_deltalake(folder / "log", gone.to_arrow())
    deltalake.write_deltalake(folder / "log", table.to_arrow(), mode="overwrite")


@pytest.mark.parametrize(
    "write",
    [_write_csv, _write_gz, _write_zst, _write_tsv, _write_json, _write_typed_json, _write_parquet, _write_floats,
     _write_many, _write_delta],
)  # fmt: skip
def test_every_kind_of_file_becomes_the_same_log(tmp_path: Path, write: object) -> None:
    work = workspace(tmp_path)
    write(work.state.data)  # type: ignore[operator]
    account = read_in(work)
    read = rows(work)
    assert {name: read[name].to_list() for name in WANTED} == WANTED
    assert read["surface"].to_list() == ["all"] * 3
    assert read["impression_id"].n_unique() == 3 and read["impression_id"].min() >= 0  # type: ignore[operator]
    assert not account.needs_attention


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (EventTime(of="ts", unit="s"), "1767225600"),
        (EventTime(of="ts", unit="s"), "1767225600.000"),
        (EventTime(of="ts", unit="ms"), "1767225600000"),
        (EventTime(of="ts", unit="us"), "1767225600000000"),
        (EventTime(of="ts", unit="ns"), "1767225600000000999"),
        (EventTime(of="ts"), "2026-01-01"),
        (EventTime(of="ts"), "2026-01-01T00:00Z"),
        (EventTime(of="ts"), "2026-01-01T01:00:00+0100"),
        (EventTime(of="ts"), "2025-12-31T19:00:00-05:00"),
        (EventTime(of="ts", zone="Asia/Shanghai"), "2026-01-01 08:00:00"),
        (EventTime(of="ts", zone="Asia/Shanghai"), "2026-01-01T00:00:00Z"),
        (EventTime(of="ts", format="%y%m%d%H"), "26010100"),
        (EventTime(of="ts", format="%d/%b/%Y:%H:%M:%S %z"), "01/Jan/2026:02:00:00 +0200"),
        (EventTime(of="ts", format="%d.%m.%Y %H:%M", zone="Europe/Berlin"), "01.01.2026 01:00"),
        (EventTime(sql="device || ' 00:00:00'"), "2026-01-01"),
    ],
)
def test_a_time_of_any_form_is_the_same_moment(tmp_path: Path, time: EventTime, text: str) -> None:
    work = workspace(tmp_path, replace(PLAIN, time=time))
    (work.state.data / "log.csv").write_text(csv(f"1,a,{text},{text},1,0"))
    read_in(work)
    assert rows(work)["event_timestamp"].to_list() == [datetime(2026, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("kind", ["Int32", "Int64", "Float64", "Datetime", "Date"])
def test_times_of_parquet_keep_their_type(tmp_path: Path, kind: str) -> None:
    moment = datetime(2026, 1, 1)
    values: pl.Series = {
        "Int32": pl.Series([1767225600], dtype=pl.Int32), "Int64": pl.Series([1767225600]),
        "Float64": pl.Series([1767225600.0]), "Datetime": pl.Series([moment]), "Date": pl.Series([moment.date()]),
    }[kind]  # fmt: skip
    unit = EventTime(of="ts", unit="s") if kind[0] in "IF" else EventTime(of="ts")
    work = workspace(tmp_path, replace(PLAIN, time=unit))
    frame = pl.DataFrame({"user": [1], "item": ["a"], "device": ["d"], "price": [1.0], "click": [0]})
    frame.with_columns(ts=values).write_parquet(work.state.data / "log.parquet")
    read_in(work)
    assert rows(work)["event_timestamp"].to_list() == [moment.replace(tzinfo=UTC)]


def test_names_that_are_no_identifiers_and_folders_are_columns(tmp_path: Path) -> None:
    files = Files(
        paths=("in",),
        time=EventTime(sql="dt || ' ' || hour || ':00:00'"),
        columns=(
            From(name="user_id", of="user-item id (új)"), From(name="item_id", of="item.ID"),
            From(name="device", of="column_0"), From(name="surface", sql="split_part(filename, '/', 2)"),
            From(name="click", of="Was Clicked?"),
        ),
    )  # fmt: skip
    work = workspace(tmp_path, files, surfaces=("dt=2026-01-02",))
    inside = work.state.data / "in/dt=2026-01-02/hour=7"
    inside.mkdir(parents=True)
    header = ',user-item id (új),item.ID, "Was Clicked?" ,price '
    (inside / "a.csv").write_text(f"{header.replace(chr(34), '')}\nphone,5,é,true,3\n", encoding="utf-8-sig")
    read_in(work)
    assert rows(work).drop("impression_id").rows() == [
        (datetime(2026, 1, 2, 7, tzinfo=UTC), 5, "é", "dt=2026-01-02", "phone", 3.0, 1)
    ]


def test_nested_json_is_reached_by_paths(tmp_path: Path) -> None:
    columns = (
        From(name="surface", sql="'all'"), From(name="user_id", of="$.who.id"), From(name="item_id", of="item"),
        From(name="device", of="$.context.device[0]"),
    )  # fmt: skip
    work = workspace(tmp_path, replace(PLAIN, columns=columns))
    line = {
        "who": {"id": 2**53 + 1},
        "item": 'a,"b"\n',
        "context": {"device": ["x", "y"]},
        "ts": "2026-01-01",
        "click": 1,
    }
    (work.state.data / "log.jsonl").write_text(json.dumps(line) + "\n")
    read_in(work)
    assert rows(work).select("user_id", "item_id", "device", "price").rows() == [(2**53 + 1, 'a,"b"\n', "x", None)]


def test_lists_of_every_form(tmp_path: Path) -> None:
    files = replace(
        PLAIN,
        columns=(
            *PLAIN.columns, From(name="tags", split="^"), From(name="seen"),
            From(name="image", of=("x_*",)), From(name="place", of=("x_0", "x_1")),
        ),
    )  # fmt: skip
    bags = (Bag(name="tags", rows=9, dtype=str), Bag(name="seen", rows=9))
    work = workspace(
        tmp_path, files, bags=bags, vectors=(Vector(name="image", width=11),),
        context=(Column(name="device", rows=4, dtype=str), Column(name="place", rows=4, dtype=str)),
    )  # fmt: skip
    xs = ",".join(f"x_{k}" for k in (10, *range(10)))
    values = ",".join(str(k) for k in (10, *range(10)))
    (work.state.data / "log.csv").write_text(
        csv(
            f'1,a,d,2026-01-01,1,0,a^b,"[1, 2]",{values}', f"1,a,d,2026-01-01,1,0,,[],{values}",
            f"1,a,d,2026-01-01,1,0,x,7,{values}", f"1,a,d,2026-01-01,1,0,x,\"[1,'b']\",{values}",
            f"1,a,d,2026-01-01,1,0,x,[1.5],{values}",
            header=f"user,item,device,ts,price,click,tags,seen,{xs}",
        )
    )  # fmt: skip
    read_in(work)
    assert rows(work)["tags"].to_list() == [["a", "b"], None, ["x"]]
    assert rows(work)["seen"].to_list() == [[1, 2], [], [7]]
    assert rows(work)["image"].to_list() == [[float(k) for k in range(11)]] * 3
    assert rows(work)["place"].to_list() == ["0-1"] * 3
    assert quarantine(work) == ["seen is no list of whole numbers: [1,'b']", "seen is no list of whole numbers: [1.5]"]


def test_lists_of_parquet(tmp_path: Path) -> None:
    work = workspace(tmp_path, bags=(Bag(name="tags", rows=9),), vectors=(Vector(name="image", width=2),))
    frame = pl.DataFrame(
        {"user": [1], "item": ["a"], "device": ["d"], "ts": ["2026-01-01"], "price": [1.0], "click": [0]}
    ).with_columns(tags=pl.Series([["3", "4"]]), image=pl.Series([[1.0, 2.0]], dtype=pl.Array(pl.Float32, 2)))
    frame.write_parquet(work.state.data / "log.parquet")
    read_in(work)
    assert rows(work).select("tags", "image").rows() == [([3, 4], [1.0, 2.0])]


def test_outcomes_and_interactions_have_files_of_their_own(tmp_path: Path) -> None:
    shown = Files(paths=("events.jsonl",), time=EventTime(of="at"), id="request", where="event = 'shown'",
                  columns=(*PLAIN.columns, From(name="device", sql="NULL")))  # fmt: skip
    clicked = Files(paths=("events.jsonl",), time=EventTime(of="at"), id="request", where="event = 'clicked'",
                    columns=(From(name="task", of="event"),))  # fmt: skip
    log = Log(impressions=(shown,), outcomes=(clicked,))
    work = workspace(tmp_path, log=log, tasks=(Task(name="clicked", window=timedelta(hours=1)),))
    events = [
        {"event": "shown", "at": "2026-01-01T00:00:00Z", "request": "a-1", "user": 1, "item": "x", "price": 2},
        {"event": "clicked", "at": "2026-01-01T00:00:05Z", "request": "a-1"},
        {"event": "shown", "at": "2026-01-01T00:00:00Z", "request": "a-2", "user": 1, "item": "y", "price": 2},
        {"event": "other", "at": "?"},
    ]
    (work.state.data / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    account = read_in(work)
    assert [(table.table, table.kept, table.left_out) for table in account.tables] == [
        ("impressions", 2, 2), ("outcomes", 1, 3)
    ]  # fmt: skip
    assert rows(work, "outcomes")["impression_id"].to_list() == rows(work)["impression_id"].to_list()[:1]


def test_whole_ids_are_kept_and_texts_are_hashed_alike_everywhere(tmp_path: Path) -> None:
    work = workspace(tmp_path, replace(PLAIN, id="device"))
    ids = ("12", "9223372036854775807", "18446744073709551615", "7f3a-µ")
    (work.state.data / "log.csv").write_text(csv(*(f"1,a,{text},2026-01-01,1,0" for text in ids)))
    read_in(work)
    by_id = dict(rows(work).select("device", "impression_id").iter_rows())
    assert by_id == {
        ids[0]: 12,
        ids[1]: 2**63 - 1,
        ids[2]: -1,
        ids[3]: int.from_bytes(hashlib.md5(ids[3].encode()).digest()[8:], "little") >> 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": ("lgo.csv",)}, "Files.paths 'lgo.csv' names no file below"),
        ({"time": EventTime(of="time")}, "has no column 'time'"),
        ({"columns": (From(name="user_id", of="users"), From(name="surface", sql="'all'"))},
         "has no column 'users' (did you mean 'user'?): it has user, item"),
        ({"columns": (*PLAIN.columns, From(name="device", sql="devic || 'x'"))}, "is no expression over log.csv"),
        ({"where": "clik = 1"}, "an expression of Files fails over log.csv"),
        ({"id": "imp"}, "has no column 'imp'"),
    ],
)  # fmt: skip
def test_what_files_do_not_have_is_a_sentence(tmp_path: Path, change: dict[str, object], message: str) -> None:
    work = workspace(tmp_path, replace(PLAIN, **change))  # type: ignore[arg-type]
    (work.state.data / "log.csv").write_text(csv(*LINES))
    with pytest.raises(DataError) as raised:
        read_in(work)
    assert message in str(raised.value)
