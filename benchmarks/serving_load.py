"""A server under load for long: releases are swapped, workers are killed, and every answer is looked at afterwards.

    make bench-serving-load  or python -m benchmarks.serving_load [--student NAME] [--minutes 30] [--workers 2]

Asks a student of the project that was run last (``make run``), on a copy of its state. First the server is asked all
the time, for its saturation; then at 80 % of that, while another release is named every minute and a worker is killed
(-9) every five. Afterwards each score in the request log is computed again from the features that were logged with it,
and each answer that came back is looked for in the log. Load comes from ``wrk`` (Debian: apt install wrk).

Belongs here: the load, and what is made of its log. Not here: latencies of single requests (serving.py).
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.dataset as ds
from rich.console import Console

from benchmarks.harness import machine
from benchmarks.serving import answers, bodies_of, free_port, load, process, rows_of_log
from exfm.learning import Student
from exfm.load import load_project, load_state
from exfm.state import ROOT, State
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.choosing import promote
from pipeline.releases.history import changing, history_of, numbered
from pipeline.releases.publishing import publish
from pipeline.workspace import Workspace
from serving.model import ServedModel
from serving.request_log import FLUSH_SECONDS

CANDIDATES, CONNECTIONS, SHARE = 100, 16, 0.8
TOLERANCE = 1e-6  # of a score: the same graph on the same features gives the same bits, but for how rows are batched
CLOCK = 1.5  # seconds by which wrk's clock, of whole seconds, may be wrong
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
function init() got = io.open("%(got)s", "a") end
function delay() return %(delay)d end
function request()
  at = at %% #bodies + 1
  return wrk.format("POST", "%(path)s", {["Content-Type"] = "application/json"}, bodies[at])
end
function response(status, headers, body)
  got:write(os.time(), " ", status, " ", body:match('"request_id":"(%%x+)"') or "-", "\\n")
end
"""


@dataclass
class Happened:
    """What was done to a server, and how much memory its workers had."""

    kills: list[float] = field(default_factory=list)
    releases: int = 0
    megabytes: list[tuple[float, float]] = field(default_factory=list)


def two_releases(work: Workspace, student: Student) -> list[int]:
    """Numbers of two releases of a student; of its newest checkpoints where it has only one."""
    store = CheckpointStore.of(work, student)
    for slice_ in reversed(list(work.project.stream.slices(work.project.stream.first_slice, work.now()))):
        if len(numbered(history_of(work, student))) >= 2:
            break
        if store.has_weights(slice_) and (version := store.version_at(slice_)) is not None:
            with changing(work, student):
                publish(work, student, slice_, version, "cpu")
    numbers = sorted(numbered(history_of(work, student)))[-2:]
    if len(numbers) < 2:
        raise SystemExit(f"student {student.name} has {len(numbers)} checkpoints to release: run `make run` first")
    return numbers


@contextmanager
def copied(work: Workspace) -> Iterator[Workspace]:
    """The project on a copy of its state, without what only training reads; ends where there is none yet."""
    rows_of_log(work, 1)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / work.state.folder.name
        shutil.copytree(work.state.folder, copy, ignore=shutil.ignore_patterns("log", "requests", "quarantine"))
        yield Workspace(work.project, State(folder=copy, log=work.state.log))


def workers_of(pid: int) -> list[psutil.Process]:
    """Processes that answer: not one that was just killed, nor the one that only counts what they share."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # also of one that is dead and not yet forgotten
            if "resource_tracker" not in str(child.cmdline()):
                found.append(child)
    return found


def megabytes_of(workers: Sequence[psutil.Process]) -> float:
    """Memory of all that live."""
    total = 0
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            total += worker.memory_info().rss
    return total / 1e6


def disturb(work: Workspace, student: Student, pid: int, numbers: Sequence[int], minutes: float) -> Happened:
    """Name the other release every minute, kill a worker every five, note memory every five seconds."""
    happened, began, next_release, next_kill = Happened(), time.monotonic(), 60.0, 150.0
    while (now := time.monotonic() - began) < 60 * minutes:
        workers = workers_of(pid)
        happened.megabytes.append((now, megabytes_of(workers)))
        if now >= next_release:
            happened.releases += 1
            promote(work, student, str(numbers[happened.releases % 2]), why="the load test swaps releases")
            next_release += 60
        if now >= next_kill and workers:
            happened.kills.append(time.time())
            workers[len(happened.kills) % len(workers)].send_signal(signal.SIGKILL)
            next_kill += 300
        time.sleep(5)
    return happened


def recomputed(work: Workspace, student: Student) -> tuple[int, int, float, set[str]]:
    """Rows of the log, those whose score or release is wrong, the largest difference, and the ids of all requests."""
    folder = work.state.requests / student.name
    log = ds.dataset(folder, format="parquet", exclude_invalid_files=True, partitioning=None)
    rows = wrong = 0
    largest, ids, release_of = 0.0, set[str](), dict[str, str]()
    models: dict[str, ServedModel] = {}
    for fragment in log.get_fragments():
        for batch in fragment.to_batches(batch_size=20_000):
            versions = batch.column("served_version").to_pylist()
            for version in set(versions):
                part = batch.filter(np.array(versions) == version)
                model = models.setdefault(version, ServedModel(work.state.release(student.name) / version))
                columns = {name: part.column(name).to_pylist() for name in model.signature.columns}
                again = model.score(columns, part.num_rows, 0.0)
                off = np.abs(again - part.column("served_score").to_numpy())
                rows, wrong, largest = rows + len(off), wrong + int((off > TOLERANCE).sum()), max(largest, off.max())
                for request in set(part.column("served_request").to_pylist()):
                    wrong += release_of.setdefault(request, version) != version
                    ids.add(request)
    return rows, wrong, float(largest), ids


def received(path: Path) -> tuple[Counter[str], dict[str, int]]:
    """How often each status came back, and when each answer did."""
    statuses: Counter[str] = Counter()
    at: dict[str, int] = {}
    for line in path.read_text().splitlines():
        seconds, status, request = line.split()
        statuses[status] += 1
        if request != "-":
            at[request] = int(seconds)
    return statuses, at


def per_second(said: str) -> float:
    """Requests a second, as wrk says it."""
    return float(next(line.split()[1] for line in said.splitlines() if line.startswith("Requests/sec:")))


def delay_for(rate: float, asks: Sequence[str], script: Path, names: Mapping[str, object]) -> int:
    """Milliseconds that a connection waits before it asks again, so that all of them ask so often a second.

    Looked for by asking (bisection): how long an answer takes depends on the load.
    """
    low, high = 0, math.ceil(1000 * CONNECTIONS / rate)
    rates: dict[int, float] = {}
    while low <= high:
        delay = (low + high) // 2
        script.write_text(SCRIPT % {**names, "delay": delay})
        done = subprocess.run([*asks, "-d10s"], capture_output=True, text=True, check=True)
        rates[delay] = per_second(done.stdout)
        low, high = (delay + 1, high) if rates[delay] > rate else (low, delay - 1)
    return min(rates, key=lambda delay: abs(rates[delay] - rate))


def under_load(work: Workspace, student: Student, minutes: float, workers: int, console: Console) -> dict[str, Any]:
    """Load a server, disturb it, and look at what it answered."""
    port, numbers, bodies = free_port(), two_releases(work, student), bodies_of(work, CANDIDATES)
    path = f"/rank/{student.name}"
    command = [sys.executable, "-m", "exfm_assets.command", "serve", "--port", str(port), "--workers", str(workers)]
    surroundings = {"EXFM_PROJECT": os.environ.get("EXFM_PROJECT", ""), "EXFM_STATE": str(work.state.folder.parent)}
    with process(command, lambda: answers(f"http://127.0.0.1:{port}/ready"), **surroundings) as pid:
        load(port, path, bodies, 16, 10)  # until connections are spread over the workers
        with tempfile.TemporaryDirectory() as folder:
            listed, got, script = (Path(folder) / name for name in ("bodies", "got", "ask.lua"))
            listed.write_text("\n".join(bodies))
            asks = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-s", str(script), f"http://127.0.0.1:{port}"]
            names = {"bodies": listed, "path": path, "got": Path(folder) / "before"}
            script.write_text(SCRIPT % {**names, "delay": 0})
            most = per_second(subprocess.run([*asks, "-d20s"], capture_output=True, text=True, check=True).stdout)
            console.print(f"saturated at {most:.0f} requests/s of {CANDIDATES} candidates; now {SHARE:.0%} of it")
            delay = delay_for(SHARE * most, asks, script, names)
            script.write_text(SCRIPT % {**names, "got": got, "delay": delay})
            with subprocess.Popen([*asks, f"-d{round(60 * minutes)}s"], stdout=subprocess.PIPE, text=True) as wrk:
                happened = disturb(work, student, pid, numbers, minutes)
                said, _ = wrk.communicate(timeout=120)
            statuses, at = received(got)
    console.print(said.strip())
    rows, wrong, largest, logged = recomputed(work, student)
    lost = [moment for request, moment in at.items() if request not in logged]
    excused = sum(any(-CLOCK <= kill - moment <= FLUSH_SECONDS + CLOCK for kill in happened.kills) for moment in lost)
    memory = np.array(happened.megabytes)
    settled = memory[memory[:, 0] > 60] if len(memory) > 24 else memory
    return {
        "machine": machine(), "minutes": minutes, "workers": workers, "saturated": most, "asked": per_second(said),
        "answered": statuses.get("200", 0), "other statuses": {k: v for k, v in statuses.items() if k != "200"},
        "releases": happened.releases, "kills": len(happened.kills), "rows": rows, "wrong": wrong, "largest": largest,
        "lost": len(lost) - excused, "lost within half a second before a kill": excused,
        "megabytes": [float(np.median(part[:, 1])) for part in np.array_split(settled, 4)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="default: the project's first one")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "serving_load.json")
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt install wrk")
    project = load_project()
    with copied(Workspace(project, load_state(project))) as work:
        student = project.student(chosen.student) if chosen.student else project.students[0]
        told = under_load(work, student, chosen.minutes, chosen.workers, console)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(told, indent=1), encoding="utf-8")
    console.print(
        f"{told['answered']:,} answers ({told['other statuses'] or 'none refused'}; {told['asked']:.0f}/s, "
        f"{told['asked'] / told['saturated']:.0%} of saturation), {told['releases']} releases, "
        f"{told['kills']} workers killed: of {told['rows']:,} scores {told['wrong']} are wrong (largest difference "
        f"{told['largest']:.1g}); {told['lost']} answers are not in the log, beside "
        f"{told['lost within half a second before a kill']} within half a second before a kill; memory of all workers "
        f"by quarter: {', '.join(f'{value:.0f}' for value in told['megabytes'])} MB"
    )
    if told["wrong"] or told["lost"]:
        raise SystemExit("a score is wrong, or an answer is lost")


if __name__ == "__main__":
    main()
