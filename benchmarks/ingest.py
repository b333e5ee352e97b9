"""Reading a log in, beside the query that somebody would write by hand in DuckDB: rows a second, and memory.

    make bench-ingest       or python -m benchmarks.ingest [--rows 1_000_000 4_000_000 16_000_000] [--rounds 3]

One file of each kind and size; each arm is a process of its own, so that its memory is its own, in turn. The query by
hand knows each column's type, checks nothing and quarantines nothing. Both write the rows by day, and must agree.

Belongs here: the files, the arms. Not here: reading logs in (pipeline/imports/), the steps after it (slice_steps.py).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.harness import Measured, Numbers, publish
from exfm.distillation import AuxiliaryHead
from exfm.inputs import Number
from exfm.learning import Student, Teacher
from exfm.log_columns import Column, Task
from exfm.log_files import EventTime, Files, From, Log
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import ROOT, State
from exfm.stream import Stream
from pipeline.imports.run import import_log
from pipeline.workspace import Workspace

OUT = ROOT / "data" / "benchmarks" / "ingest.json"
FIRST, DAY, DAYS = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1), 3
EXFM, BY_HAND = "exfm", "by hand"
KINDS = {"csv": "header", "csv.gz": "header, compression gzip", "parquet": "format parquet, compression zstd"}
ROWS = """
    SELECT 'r' || range AS request, (hash(range) % 1000000)::BIGINT AS "userId", 'i' || hash(range + 7) % 20000 AS item,
           'd' || range % 7 AS device, strftime(TIMESTAMP '2026-01-01' + to_microseconds(range * {step}),
           '%Y-%m-%dT%H:%M:%S.%fZ') AS ts, round((hash(range + 3) % 100000) / 100, 2) AS price,
           (hash(range + 5) % 20 = 0)::INTEGER AS click
    FROM range({rows})
"""
HAND = """
    SELECT (md5_number_lower(request) >> 1)::BIGINT AS impression_id, ts::TIMESTAMPTZ AS event_timestamp,
           "userId"::BIGINT AS user_id, item AS item_id, 'all' AS surface, device, price::DOUBLE AS price,
           click::TINYINT AS click, strftime(ts::TIMESTAMPTZ::DATE, '%Y-%m-%d') AS day FROM {source}
"""


def project() -> Project:
    """A log under names of its own, one teacher, one student."""
    stream = Stream(
        first_slice=FIRST, slice_length=DAY, until=FIRST + DAYS * DAY, user=Column(name="user_id", rows=2**20),
        item=Column(name="item_id", rows=2**15, dtype=str), surface=Column(name="surface", rows=4, dtype=str),
        surfaces=("all",), context=(Column(name="device", rows=16, dtype=str),), numbers=(Number(name="price"),),
        tasks=(Task(name="clicked", window=timedelta(hours=1), label="click"),),
    )  # fmt: skip
    columns = (From(name="user_id", of="userId"), From(name="item_id", of="item"), From(name="surface", sql="'all'"))
    files = Files(paths=("log.*",), time=EventTime(of="ts"), id="request", columns=columns)
    inputs, network = ("user_id", "item_id", "device", "price"), DCNv2()
    teacher = Teacher(name="large", tasks=("clicked",), inputs=inputs, network=network)
    student = Student(
        name="small", surface="all", task="clicked", inputs=inputs, network=network, teacher="large",
        distillation=AuxiliaryHead(),
    )  # fmt: skip
    log = Log(impressions=(files,))
    return Project(name="bench", stream=stream, log=log, feature_views=(), teachers=(teacher,), students=(student,))


def write_file(folder: Path, kind: str, rows: int) -> Path:
    """A log of three days in one file."""
    path = folder / f"log.{kind}"
    step = int(DAYS * DAY / timedelta(microseconds=1)) // rows
    duckdb.sql(f"COPY ({ROWS.format(rows=rows, step=step)}) TO '{path}' ({KINDS[kind]})")
    return path


def read_in(files: Path, state: Path) -> Numbers:
    """One file, by exfm."""
    work = Workspace(project(), State(folder=state, log=state / "log", files=files))
    started = time.perf_counter()
    account = import_log(work)
    return {"rows": float(account.tables[0].kept), "import": time.perf_counter() - started, "peak MB": _peak()}


def read_in_by_hand(files: Path, state: Path) -> Numbers:
    """The same by a query in DuckDB."""
    (path,) = files.iterdir()
    state.mkdir(parents=True)
    types = {"request": "VARCHAR", "userId": "BIGINT", "item": "VARCHAR", "device": "VARCHAR", "ts": "VARCHAR"}
    types |= {"price": "DOUBLE", "click": "TINYINT"}
    source = f"read_csv('{path}', header=true, columns={types})"
    source = f"read_parquet('{path}')" if path.suffix == ".parquet" else source
    started = time.perf_counter()
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(state / "spilt")}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        to = "(FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day))"
        connection.execute(f"COPY ({HAND.format(source=source)}) TO '{state / 'log'}' {to}")
    seconds, peak = time.perf_counter() - started, _peak()
    rows = sum(pq.read_metadata(path).num_rows for path in (state / "log").glob("*/*.parquet"))
    return {"rows": float(rows), "import": seconds, "peak MB": peak}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(arm: str, files: Path) -> Numbers:
    """One arm in a process of its own."""
    with tempfile.TemporaryDirectory(dir=files.parent) as state:
        command = [sys.executable, "-m", "benchmarks.ingest", "--arm", arm, str(files), f"{state}/state"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print rows a second of both arms, their ratio and their memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 16_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--arm", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arm:
        arm, files, state = given.arm
        work = read_in if arm == EXFM else read_in_by_hand
        print(json.dumps(work(Path(files), Path(state))))
        return
    console, rounds = Console(width=150), dict[str, list[Numbers]]()
    for rows in given.rows:
        for kind in given.kinds:
            with tempfile.TemporaryDirectory() as folder, console.status(f"{rows:,} rows of {kind}"):
                (Path(folder) / "files").mkdir()
                write_file(Path(folder) / "files", kind, rows)
                rounds |= _rounds(Path(folder) / "files", f"{rows:,} {kind}", given.rounds)
    columns = ("rows/s", "beside by hand", "peak MB")
    worst = max(number["beside by hand"] for name, each in rounds.items() if EXFM in name for number in each)
    summary = f"reading in takes at most {worst:.2f} times the query by hand"
    publish(console, "ingest", Measured(rounds), columns, OUT, summary)


def _rounds(files: Path, name: str, count: int) -> dict[str, list[Numbers]]:
    """Both arms in turn."""
    found: dict[str, list[Numbers]] = {f"{name}, {EXFM}": [], f"{name}, {BY_HAND}": []}
    for _ in range(count):
        mine, hand = measured(EXFM, files), measured(BY_HAND, files)
        assert mine["rows"] == hand["rows"], (mine, hand)
        for arm, numbers in ((EXFM, mine), (BY_HAND, hand)):
            found[f"{name}, {arm}"].append({
                **numbers,
                "rows/s": numbers["rows"] / numbers["import"],
                "beside by hand": numbers["import"] / hand["import"],
            })  # fmt: skip
    return found


if __name__ == "__main__":
    main()
