"""What an answer costs: the network alone, then whole requests over HTTP, on the embedded store and on Redis.

    make bench-serving  or python -m benchmarks.serving [--student NAME] [--seconds 5] [--rounds 3]

Asks a student of the project that was run last (``make run``). Load comes from ``wrk``, Redis from ``redis-server``,
both of the system's packages; where one is missing, what needs it is left out, and said.

Belongs here: the arms, and the tables. Not here: the server that is measured (serving_server.py).
"""

import argparse
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import Numbers, interleave, publish
from exfm.load import load_project, load_state
from exfm.state import ROOT
from pipeline.workspace import Workspace

BATCHES, CANDIDATES, BODIES = (1, 100, 1_000), (1, 100, 500), 500
SCRIPT = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[at])
end
"""


def rows_of_log(work: Workspace, rows: int) -> Any:
    """Impressions of the newest slice, as a request brings them."""
    newest = work.table("impressions").newest(work.project.stream)
    if newest is None:
        raise SystemExit(f"project {work.project.name} has no log yet: run `make run` first")
    shown = work.table("impressions").read([newest])
    return shown.sample(rows, with_replacement=True, seed=1)


def network_arms(work: Workspace, name: str, calls: int) -> dict[str, Callable[[int], Numbers]]:
    """The graph by bare onnxruntime, the server's model from raw features, torch's eager mode: the same rows."""
    import torch

    from models.checkpoint import load_checkpoint
    from pipeline.releases.release import current_release
    from pipeline.transforms.inputs import tensors_for
    from serving.features import Asked, FeatureReader, ItemCache
    from serving.model import ServedModel

    student = work.project.student(name)
    release = current_release(work, student)
    if release is None:
        raise SystemExit(f"student {name} has no release: run `make run` first, or name another one with --student")
    folder = work.state.release(name) / release.version
    model, (learner, manifest) = ServedModel(folder), load_checkpoint(folder)
    torch.set_num_threads(1)
    reader = FeatureReader(work.project, work.store, model.signature, ItemCache(0))
    given: dict[int, tuple[Any, Any, Any]] = {}
    for batch in BATCHES:
        shown = rows_of_log(work, batch)
        at = shown["event_timestamp"].max()
        each = shown.drop("event_timestamp", "impression_id").to_dicts()
        columns = reader.gather(Asked({work.project.stream.surface.name: student.surface}, each, at)).columns
        arrays = model.encoder.inputs(columns, batch, at.timestamp())
        import polars as pl

        frame = pl.DataFrame({k: list(v) * (batch if len(v) == 1 else 1) for k, v in columns.items()}, strict=False)
        given[batch] = (columns, arrays, tensors_for(manifest, frame.with_columns(event_timestamp=pl.lit(at))))

    def timed(call: Callable[[int], Any], _: int) -> Numbers:
        seconds = {}
        for batch in BATCHES:
            call(batch)
            taken = []
            for _ in range(calls):
                started = time.perf_counter()
                call(batch)
                taken.append(time.perf_counter() - started)
            seconds[f"{batch} rows, us"] = float(np.median(taken)) * 1e6
        return seconds

    reads = {each.name for each in model.graph.session.get_inputs()}
    arrays_of = {batch: {k: v for k, v in given[batch][1].items() if k in reads} for batch in BATCHES}
    return {
        "bare onnxruntime": partial(timed, lambda batch: model.graph.session.run(["probabilities"], arrays_of[batch])),
        "the server's graph": partial(timed, lambda batch: model.run(given[batch][1])),
        "with encoding": partial(timed, lambda batch: model.score(given[batch][0], batch, 0.0)),
        "torch, eager": partial(timed, lambda batch: learner.predict(given[batch][2])),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], ready: Callable[[], bool], **environment: str) -> Iterator[int]:
    """A server, ended by its own process id, which is given."""
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, cwd=ROOT, stdout=said, stderr=said
        )
        try:
            until = time.monotonic() + 120
            while not ready():
                if running.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise SystemExit(f"{' '.join(command)} did not start:\n{said.read()[-3000:]}")
                time.sleep(0.1)
            yield running.pid
        finally:
            running.terminate()
            running.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def load(port: int, path: str, bodies: list[str], connections: int, seconds: int) -> Numbers:
    """wrk against a server: latencies in ms, requests a second, those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder) / "bodies", Path(folder) / "ask.lua"
        listed.write_text("\n".join(bodies))
        script.write_text(SCRIPT % (listed, path))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True).stdout
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def quantile(of: str) -> float:
        found = re.search(rf"{of}%\s+([\d.]+)(us|ms|s)", done)
        return float(found[1]) * scale[found[2]] if found else float("nan")

    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    return {
        "p50 ms": quantile("50"), "p99 ms": quantile("99"), "requests/s": float(rate[1]) if rate else 0.0,
        "failed": float(failed[1]) if failed else 0.0,
    }  # fmt: skip


def bodies_of(work: Workspace, candidates: int) -> list[str]:
    """Requests of users and items that were shown lately."""
    stream, draws = work.project.stream, random.Random(candidates)
    shown = rows_of_log(work, 5_000)
    users, items = shown[stream.user.name].to_list(), shown[stream.item.name].unique().to_list()
    return [
        json.dumps({"user": draws.choice(users), "candidates": draws.choices(items, k=candidates)})
        for _ in range(BODIES)
    ]


def whole(work: Workspace, student: str, store: str, workers: int, seconds: int, _: int) -> Numbers:
    """A server's latencies when it is asked one by one, and what it answers when it is asked all the time."""
    port, numbers = free_port(), dict[str, float]()
    command = [sys.executable, "-m", "benchmarks.serving_server", str(port), str(workers)]
    with process(command, lambda: answers(f"http://127.0.0.1:{port}/ready"), BENCH_REDIS=store):
        for candidates in CANDIDATES:
            bodies = bodies_of(work, candidates)
            load(port, f"/rank/{student}", bodies, 4, 2)  # items into the cache, pages into memory
            alone = load(port, f"/rank/{student}", bodies, 1, seconds)
            busy = load(port, f"/rank/{student}", bodies, 16, seconds)
            numbers |= {f"{candidates}: {name}": alone[name] for name in ("p50 ms", "p99 ms")}
            numbers[f"{candidates}: req/s"] = busy["requests/s"]
            numbers["failed"] = numbers.get("failed", 0.0) + alone["failed"] + busy["failed"]
    return numbers


def feasts_server(work: Workspace, student: str, seconds: int, _: int) -> Numbers:
    """Feast's own server asked for the features of the same candidates, nothing scored."""
    from exfm.names import inputs_service

    stream, port, numbers = work.project.stream, free_port(), dict[str, float]()
    command = [sys.executable, "-m", "exfm_assets.command", "feast", "serve", "-h", "127.0.0.1", "-p", str(port)]
    with process(command, lambda: answers(f"http://127.0.0.1:{port}/health")):
        for candidates in CANDIDATES:
            plain = map(json.loads, bodies_of(work, candidates))
            of_student = work.project.student(student).surface
            bodies = [
                json.dumps({
                    "feature_service": inputs_service(student), "full_feature_names": True,
                    "entities": {stream.user.name: [each["user"]] * candidates, stream.item.name: each["candidates"],
                                 stream.surface.name: [of_student] * candidates},
                })
                for each in plain
            ]  # fmt: skip
            alone = load(port, "/get-online-features", bodies, 1, seconds)
            busy = load(port, "/get-online-features", bodies, 16, seconds)
            numbers |= {f"{candidates}: {name}": alone[name] for name in ("p50 ms", "p99 ms")}
            numbers[f"{candidates}: req/s"] = busy["requests/s"]
            numbers["failed"] = numbers.get("failed", 0.0) + alone["failed"] + busy["failed"]
    return numbers


@contextmanager
def redis(work: Workspace) -> Iterator[str]:
    """A Redis on loopback with the values of every view that is served; its address."""
    from benchmarks.serving_server import loaded_redis

    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with process(command, is_up):
        loaded_redis(work, f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="default: the project's first one")
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=200, help="of the network alone, each round")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "serving.json")
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    project = load_project()
    work = Workspace(project, load_state(project))
    student = chosen.student or project.students[0].name
    alone = interleave(network_arms(work, student, chosen.calls), chosen.rounds, console)
    ratios = [alone.median("the server's graph", f"{n} rows, us") / alone.median("bare onnxruntime", f"{n} rows, us")
              for n in BATCHES]  # fmt: skip
    columns = [f"{batch} rows, us" for batch in BATCHES]
    summary = f"the server's graph takes {', '.join(f'{ratio:.2f}' for ratio in ratios)} times bare onnxruntime"
    publish(
        console, f"serving, the network of {student}", alone, columns, chosen.out.with_suffix(".network.json"), summary
    )
    if shutil.which("wrk") is None:
        console.print("whole requests are left out: wrk is not installed (Debian: apt install wrk)")
        return
    with ExitStack() as stack:
        arms: dict[str, Callable[[int], Numbers]] = {
            f"embedded store, {workers} worker{'s' * (workers > 1)}":
                partial(whole, work, student, "", workers, chosen.seconds) for workers in (1, 2)
        }  # fmt: skip
        if shutil.which("redis-server") is None:
            console.print("Redis is left out: redis-server is not installed (Debian: apt install redis-server)")
        else:
            address = stack.enter_context(redis(work))
            arms["Redis, 1 worker"] = partial(whole, work, student, address, 1, chosen.seconds)
        arms["Feast's server, features alone"] = partial(feasts_server, work, student, chosen.seconds)
        measured = interleave(arms, chosen.rounds, console)
    names = [f"{n}: {name}" for n in CANDIDATES for name in ("p50 ms", "p99 ms", "req/s")]
    p99 = measured.median("embedded store, 1 worker", "100: p99 ms")
    summary = f"100 candidates: p99 {p99:.1f} ms on the embedded store with one worker"
    publish(console, f"serving, whole requests to {student}", measured, [*names, "failed"], chosen.out, summary)


if __name__ == "__main__":
    main()
