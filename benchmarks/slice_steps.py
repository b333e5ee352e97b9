"""Every step of one slice, from the log to a released student: rows a second and memory, as the slice grows.

    make bench-ingest       or python -m benchmarks.slice_steps [--rows 1_000_000 4_000_000 16_000_000] [--rounds 3]

Each step, and the same by hand (slice_steps_by_hand.py), is a process of its own, so that its memory is its own; they
take turns, and both must make the same rows. The offline store may take 2 GB. Seconds are what the step itself took: of
a table those in its sidecar, of models those of the run. A slice of a small day before it is there, so that there is a
history to join and a teacher that scores. What this project stores outlasts a power cut (fsync); the time beside the
same by hand is given as it is written there, and with as much done for what it wrote ("durable"). Rows a second of a
processor (both cores, Dagster's own work in it) say what a step costs where the disk is not what it waits for.

Belongs here: the log, running, comparing. Not here: the steps.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.harness import Measured, Numbers, publish
from benchmarks.slice_steps_by_hand import BY_HAND, REFUSED, TOLD
from exfm.distillation import AuxiliaryHead
from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.inputs import Number
from exfm.learning import Student, Teacher, Training
from exfm.log_columns import Column, Task
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import ROOT, State
from exfm.stream import Stream
from pipeline.sidecar import SECONDS
from pipeline.workspace import Workspace

OUT = ROOT / "data" / "benchmarks" / "slice_steps.json"
FIRST, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
SLICE_BEFORE, SLICE, BEFORE = "2026-01-01", "2026-01-02", 50_000
JOIN_MEMORY = "2GB"
TABLES = ("impressions", "outcomes", "labels", "features/user_activity", "features/user_clicks", "logged_inputs")
SCORING, TEACHER, STUDENT = "teacher/large/predictions", "teacher/large/checkpoint", "student/small/*"
RELEASE = "student/small/release"
STEPS = {
    **{name: f'key:"{name}"' for name in TABLES},
    SCORING: f'key:"{SCORING}"',
    TEACHER: f'key:"{TEACHER}"',
    STUDENT: 'key:"student/small/checkpoint" or key:"student/small/control" or key:"student/small/evaluation"',
    RELEASE: f'key:"{RELEASE}"',
}
LOG = """
    SELECT (hash(range + {first}) >> 1)::BIGINT AS impression_id,
           TIMESTAMPTZ '{day}' + to_microseconds(range * {step}) AS event_timestamp,
           (hash(range + {first} + 1) % {users})::BIGINT AS user_id,
           (hash(range + {first} + 7) % 20000)::BIGINT AS item_id,
           CASE range % 3 WHEN 0 THEN 'search' ELSE 'feed' END AS surface, 'd' || range % 7 AS device,
           (hash(range + {first} + 3) % 100000) / 100.0 AS price
    FROM range({rows})
"""
CLICKS = """
    WITH clicked AS (
        SELECT impression_id, 'click' AS task,
               event_timestamp + to_seconds((hash(impression_id) % 3700)::BIGINT - 50) AS outcome_timestamp
        FROM shown WHERE hash(impression_id + 5) % 20 = 0
    ), told_again AS (
        SELECT impression_id, task, outcome_timestamp + INTERVAL 1 MINUTE AS outcome_timestamp
        FROM clicked WHERE hash(impression_id + 6) % 50 = 0
    ), orphans AS (
        SELECT -impression_id AS impression_id, task, outcome_timestamp
        FROM clicked WHERE hash(impression_id + 7) % 50 = 0
    )
    FROM (FROM clicked UNION ALL FROM told_again UNION ALL FROM orphans) ORDER BY outcome_timestamp
"""  # some before their impression, some after the window


def project() -> Project:
    """A log with a view of counts, a teacher and a student of it, and a history that is made beside."""
    stream = Stream(
        first_slice=FIRST, slice_length=DAY, until=FIRST + 2 * DAY, user=Column(name="user_id", rows=2**20),
        item=Column(name="item_id", rows=2**15), surface=Column(name="surface", rows=4, dtype=str),
        surfaces=("feed", "search"), context=(Column(name="device", rows=16, dtype=str),),
        numbers=(Number(name="price"),), tasks=(Task(name="click", window=timedelta(hours=1)),),
    )  # fmt: skip
    view = FeatureView(
        name="user_activity",
        entities=("user_id",),
        counts=("impressions",),
        windows=(DAY,),
        every=timedelta(hours=1),
        pushed=True,
    )
    clicks = HistoryView(
        name="user_clicks", entity="user_id", of="item_id", source="click", window=DAY, every=timedelta(hours=1),
        length=20, online=False,
    )  # fmt: skip
    inputs = ("user_id", "item_id", "device", "price", "user_activity")
    network, training = DCNv2(), Training(batch_size=4_096)
    teacher = Teacher(name="large", tasks=("click",), inputs=inputs, network=network, training=training)
    student = Student(
        name="small", surface="feed", task="click", inputs=inputs, network=network, teacher="large",
        distillation=AuxiliaryHead(), training=training,
    )  # fmt: skip
    return Project(name="bench", stream=stream, feature_views=(view, clicks), teachers=(teacher,), students=(student,))


def write_log(log: Path, rows: int) -> None:
    """Two days: a small one, and one of so many rows."""
    for number, (day, count) in enumerate({SLICE_BEFORE: BEFORE, SLICE: rows}.items()):
        given = {"first": number * 10**9, "day": day, "rows": count, "users": max(rows // 20, 1)}
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE VIEW shown AS {LOG.format(**given, step=86_400 * 10**6 // count)}")
            for table, query in (("impressions", "FROM shown"), ("outcomes", CLICKS)):
                folder = log / table / f"day={day}"
                folder.mkdir(parents=True)
                time_ = "outcome_timestamp" if table == "outcomes" else "event_timestamp"
                inside = f"{time_} >= TIMESTAMPTZ '{day}' AND {time_} < TIMESTAMPTZ '{day}' + INTERVAL 1 DAY"
                query = f"SELECT * FROM ({query}) WHERE {inside}"
                connection.execute(f"COPY ({query}) TO '{folder}/part.parquet' (FORMAT parquet, COMPRESSION zstd)")


def run_step(folder: Path, select: str, slice_: str = SLICE) -> Numbers:
    """One step of exfm in this process."""
    import dagster as dg

    from exfm_assets.definitions import build_defs

    work = Workspace(project(), State(folder=folder / "state", log=folder / "log"))
    defs = build_defs(work)
    work.store.config.offline_store.memory_limit = JOIN_MEMORY  # as feature_store.yaml may say
    _ = work.device  # importing feast and torch takes seconds, once a process
    started, worked = time.perf_counter(), _processor_seconds()
    result = dg.materialize(
        [*(defs.assets or [])],  # type: ignore[list-item]
        selection=dg.AssetSelection.from_string(select).without_checks(),
        resources={"work": work},
        tags={f"dagster/asset_partition_range_{end}": slice_ for end in ("start", "end")},
    )
    assert result.success
    worked = _processor_seconds() - worked
    return {"seconds": time.perf_counter() - started, "processor s": worked, "peak MB": _peak()}


def run_by_hand(folder: Path, step: str) -> Numbers:
    """The same by hand."""
    out = folder / "by_hand"
    out.mkdir(exist_ok=True)
    for file in (REFUSED, TOLD):  # of the step before
        (out / file).unlink(missing_ok=True)
    started, worked = time.perf_counter(), _processor_seconds()
    BY_HAND[step](folder / "log", folder / "state" / "tables", out / "part.parquet")
    written, worked = time.perf_counter() - started, _processor_seconds() - worked
    for path in (*out.glob("*.parquet"), *out.glob("*.json"), out):
        _synced(path)
    durable = time.perf_counter() - started
    return {"seconds": written, "durable seconds": durable, "processor s": worked, "peak MB": _peak()}


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _processor_seconds() -> float:
    """Of this process, in all threads: what does not wait for the disk."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(folder: Path, *arguments: str) -> Numbers:
    """One arm in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.slice_steps", "--arm", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr.partition('nanobind')[0][-2000:]}")
    return dict(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{"))))


def _of_step(folder: Path, step: str) -> Numbers:
    """A step of exfm, made anew: a table's seconds are those that its sidecar tells."""
    table = folder / "state" / "tables" / step / f"slice={SLICE}"
    for file in table.glob("part.*"):
        file.unlink()
    numbers = measured(folder, "exfm", STEPS[step])
    sidecar = table / "part.json"
    if sidecar.is_file():
        numbers["seconds"] = json.loads(sidecar.read_text())["notes"][SECONDS]
    return numbers


def _same(folder: Path, step: str) -> bool:
    """Have both made the same rows in the same order, of the columns that both have, and told the same of them?"""
    by_hand, state = folder / "by_hand", folder / "state"
    table = state / "tables" / step / f"slice={SLICE}" / "part.parquet"
    notes = json.loads(table.with_suffix(".json").read_text())["notes"]
    told, refused = by_hand / TOLD, by_hand / REFUSED
    counted = json.loads(told.read_text()) if told.is_file() else {}
    pairs = [(table, by_hand / "part.parquet")]
    if refused.is_file():
        pairs.append((state / "quarantine" / step / f"slice={SLICE}" / "part.parquet", refused))
    return all(notes[name] == value for name, value in counted.items()) and all(itertools.starmap(_same_rows, pairs))


def _same_rows(mine: Path, hand: Path) -> bool:
    with duckdb.connect() as connection:
        names = [set(pq.read_schema(path).names) for path in (mine, hand)]
        columns = ", ".join(f'"{name}"' for name in sorted(names[0] & names[1]))
        query = "SELECT count(*), sum(hash(file_row_number, {})) FROM read_parquet('{}', file_row_number = true)"
        sums = [connection.execute(query.format(columns, path)).fetchone() for path in (mine, hand)]
    return sums[0] == sums[1]


def steps_of(
    rows: int, rounds: int, console: Console, steps: Sequence[str], *, by_hand: bool = True
) -> dict[str, list[Numbers]]:
    """Steps of a slice of so many rows, and the same by hand."""
    found: dict[str, list[Numbers]] = {}
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        write_log(folder / "log", rows)
        measured(folder, "exfm", 'not group:"studies"', SLICE_BEFORE)
        for step in steps:
            name = f"{rows:,} {step}"
            beside_hand = by_hand and step in BY_HAND
            for number in range(rounds if step in BY_HAND else 1):
                with console.status(f"{name}, round {number + 1}"):
                    arms = {"exfm": _of_step(folder, step)}
                    if beside_hand:
                        arms["by hand"] = measured(folder, "by hand", step)
                        if not _same(folder, step):
                            raise RuntimeError(f"{name}: by hand other rows are made")
                for arm, numbers in arms.items():
                    hand = arms["by hand"] if beside_hand else {}
                    beside, durable = (
                        numbers["seconds"] / hand.get(of, float("nan")) for of in ("seconds", "durable seconds")
                    )
                    speed = {"rows/s": rows / numbers["seconds"], "beside by hand": beside, "beside durable": durable}
                    if worked := numbers.get("processor s"):
                        speed["rows/processor s"] = rows / worked
                    found.setdefault(f"{name}, {arm}", []).append({**numbers, **speed})
    return found


def main() -> None:
    """Print rows a second of each step, beside the same by hand, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 16_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS), help="in their order")
    parser.add_argument("--alone", action="store_true", help="not beside the same by hand")
    parser.add_argument("--arm", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        folder, arm, what, *slices = options.arm
        work = run_step(Path(folder), what, *slices) if arm == "exfm" else run_by_hand(Path(folder), what)
        print(json.dumps(work))
        return
    console, rounds = Console(width=150), dict[str, list[Numbers]]()
    for rows in options.rows:
        rounds |= steps_of(rows, options.rounds, console, options.steps, by_hand=not options.alone)
    every = [(name, number) for name, each in rounds.items() if name.endswith("exfm") for number in each]
    peak = max(number["peak MB"] for _, number in every)
    summary = f"a step takes at most {peak:,.0f} MB"
    if not options.alone:
        summary += f", and {np.nanmax([number['beside by hand'] for _, number in every]):.2f} times the same by hand"
    shown = ("rows/s", "rows/processor s", "beside by hand", "beside durable", "seconds", "peak MB")
    publish(console, "slice steps", Measured(rounds), shown, OUT, summary)


if __name__ == "__main__":
    main()
