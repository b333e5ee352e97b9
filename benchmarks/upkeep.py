"""What upkeep costs as slices and students become many: a tick, a new slice, Dagster's database.

    python -m benchmarks.upkeep [--slices 20 --slices 200] [--students 8] [--out FILE]

A live project of five-minute slices whose log is there. It is run from nothing, run again, run with one slice more, and
then left alone with the real daemon until the next slice is released. Takes half an hour, most of it spent waiting for
slices to end.

Belongs here: the steps, the table. Not here: the project (upkeep_project.py).
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Measured, Numbers, publish
from benchmarks.upkeep_project import SLICE, WINDOW, WORLD, project
from exfm.project import Project
from exfm.state import ROOT, State
from exfm.stream import Slice
from pipeline.releases.release import current_release
from pipeline.workspace import Workspace

AHEAD = 60  # slices whose log is there before they end: as if somebody wrote it in time


class Setting:
    """A state of its own, and what processes are told of it."""

    def __init__(self, folder: Path, slices: int, students: int) -> None:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        newest = midnight + (datetime.now(UTC) - midnight) // SLICE * SLICE
        since = newest - slices * SLICE
        self.project: Project = project(since, students)
        self.folder, self.log = folder, folder / "log"
        state = State(folder=folder / self.project.name, log=self.log)
        self.work = Workspace(self.project, state)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXFM_", "DAGSTER_"))}
        self.environment = {
            **kept, "EXFM_PROJECT": "benchmarks.upkeep_project:PROJECT", "EXFM_STATE": str(folder),
            "EXFM_DATA": str(self.log), "BENCH_SINCE": since.replace(tzinfo=None).isoformat(),
            "BENCH_STUDENTS": str(students), "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def write_log(self, slices: int) -> None:
        from pipeline.streams.simulated_log import write_log
        from pipeline.streams.simulator import simulate

        for index in range(slices + AHEAD):
            slice_ = self.project.stream.slice_at(index)
            write_log(self.log, simulate(WORLD, self.project.stream, slice_), slice_)

    def run(self) -> float:
        """Seconds of ``exfm run``."""
        started = time.perf_counter()
        command = [sys.executable, "-m", "exfm_assets.main_job", "--quiet"]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"exfm run failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        return time.perf_counter() - started

    @property
    def home(self) -> str:
        command = [sys.executable, "-m", "exfm_assets.home"]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    @property
    def newest(self) -> Slice:
        """The newest slice whose labels are closed."""
        stream = self.project.stream
        return stream.slice_at(stream.index_at(datetime.now(UTC) - WINDOW) - 1)

    def wait_for_a_slice(self) -> Slice:
        """Sleep until the next slice's labels close; that slice."""
        closes = self.project.stream.slice_at(self.newest.index + 1).end + WINDOW
        time.sleep(max((closes - datetime.now(UTC)) / timedelta(seconds=1), 0) + 1)
        return self.newest

    def released(self, slice_: Slice) -> bool:
        """Do all students serve a checkpoint of a slice, or of a later one?"""
        serving = [current_release(self.work, student) for student in self.project.students]
        return all(served is not None and served.slice >= slice_.key for served in serving)

    def database_mb(self) -> float:
        files = (self.folder / "dagster").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def tick_seconds(setting: Setting) -> list[float]:
    """Of ticks that find nothing to do, in process, on the instance that the runs wrote."""
    import dagster as dg

    from exfm_assets.definitions import build_defs

    defs, cursor, seconds = build_defs(setting.work), None, []
    with dg.DagsterInstance.from_config(setting.home) as instance:
        for _ in range(4):
            started = time.perf_counter()
            result = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor)
            cursor = result.cursor
            seconds.append(time.perf_counter() - started)
    return seconds[1:]


@contextmanager
def daemon(setting: Setting) -> Iterator[None]:
    """``exfm ui`` on a port of its own, ended at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "exfm_assets.command", "ui", "-h", "127.0.0.1", "-p", str(port)]
    with (setting.folder / "ui.log").open("w") as out:
        process = subprocess.Popen(command, env=setting.environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def with_daemon(setting: Setting) -> Numbers:
    """Seconds from a slice's last label to a release, of all students, by the real daemon."""
    import dagster as dg

    stream = setting.project.stream
    with daemon(setting), dg.DagsterInstance.from_config(setting.home) as instance:
        began = time.time()
        before = stream.slice_at(setting.newest.index - 1)
        while not setting.released(before):  # it catches up first
            if time.time() - began > 900:
                raise SystemExit(f"nothing was released in 15 minutes: look at {setting.folder / 'ui.log'}")
            time.sleep(0.5)
        slice_ = setting.wait_for_a_slice()
        closed = (slice_.end + WINDOW).timestamp()
        while not setting.released(stream.slice_at(slice_.index - 1)):  # the gate judges it on the slice
            if time.time() - closed > 600:
                raise SystemExit(f"slice {slice_.key} led to no release: look at {setting.folder / 'ui.log'}")
            time.sleep(0.25)
        released = time.time()
        records = [record for record in instance.get_run_records() if (record.end_time or released) > closed]
        spans = [(max(record.start_time or closed, closed), min(record.end_time or released, released))
                 for record in records if record.start_time]  # fmt: skip
    return {"closed to released": released - closed, "of it in runs": _union(spans), "runs": float(len(records))}


def _union(spans: list[tuple[float, float]]) -> float:
    total, until = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def measured(slices: int, students: int, console: Console) -> Numbers:
    """All numbers of one size."""
    with tempfile.TemporaryDirectory() as folder, console.status(f"{slices} slices, {students} students"):
        setting = Setting(Path(folder), slices, students)
        setting.write_log(slices)
        first = setting.run()
        counted = setting.newest.index + 1
        setting.run()  # what ended meanwhile
        setting.wait_for_a_slice()
        one = setting.run()
        nothing = setting.run()
        ticks, database = tick_seconds(setting), setting.database_mb()
        numbers = {
            "first run": first, "a slice of it": first / counted, "one slice more": one, "nothing new": nothing,
            "tick": statistics.median(ticks), "database MB": database,
        }  # fmt: skip
        return numbers | with_daemon(setting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, action="append")
    parser.add_argument("--students", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "upkeep.json")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 180
    sizes = given.slices or [20, 200]
    rounds = {f"{size} slices": [measured(size, given.students, console)] for size in sizes}
    columns = list(next(iter(rounds.values()))[0])
    last = rounds[f"{sizes[-1]} slices"][0]
    summary = (
        f"upkeep, {given.students} students, {sizes[-1]} slices: {last['closed to released']:.0f} s from the last "
        f"label to all releases ({last['of it in runs']:.0f} s in runs), a tick {last['tick']:.1f} s, database "
        f"{last['database MB']:.0f} MB"
    )
    publish(console, "upkeep (seconds)", Measured(rounds), columns, given.out, summary)


if __name__ == "__main__":
    main()
