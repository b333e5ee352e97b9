"""A training set larger than memory should hold: impressions x 3 views, from a parquet path to a parquet file.

    make bench-retrieval-large      or python -m benchmarks.retrieval_large [--sizes 1000000,5000000,20000000]

Each size runs in a process of its own under ``--memory-limit``; printed are rows/s and the process's peak memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.retrieval_arms import OURS, store_of
from benchmarks.retrieval_data import SHAPES, files_of
from exfm.state import ROOT

_SHAPE = SHAPES["720 rows a key, ttl"]


def ask(folder: Path, memory_limit: str, engine: str) -> None:
    """Join once, streaming, in this process."""
    store, references = store_of(folder, _SHAPE, {"type": OURS, "memory_limit": memory_limit, "engine": engine})
    job = store.get_historical_features(str(folder / "entities.parquet"), references)
    entities = pq.ParquetFile(folder / "entities.parquet")
    store.get_historical_features(next(entities.iter_batches(10)).to_pandas(), references).to_arrow()  # imports
    out = folder / f"answer-{engine}.parquet"
    started = time.perf_counter()
    rows = job.to_parquet(out)
    seconds = time.perf_counter() - started
    answered = pq.read_metadata(out)
    assert answered.num_rows == rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = out.stat().st_size / 2**20
    out.unlink()
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_mb": peak, "file_mb": size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000000,5000000,20000000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-limit", default="4GB")
    parser.add_argument("--engine", default="auto", choices=["auto", "memory", "duckdb"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "exfm-bench-retrieval")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "retrieval_large.json")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.memory_limit, options.engine)
        return
    console = Console(width=120)
    sizes = [int(rows) for rows in options.sizes.split(",")]
    rounds: dict[int, list[dict[str, float]]] = {rows: [] for rows in sizes}
    for number in range(options.rounds):
        for rows in sizes:
            with console.status(f"{rows:,} rows: round {number + 1} of {options.rounds}"):
                rounds[rows].append(_in_process(files_of(options.folder, _SHAPE, rows, in_order=True), options))
    _publish(console, rounds, options)


def _in_process(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.retrieval_large", "--ask", str(folder)]
    command += ["--memory-limit", options.memory_limit, "--engine", options.engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(done.stderr.strip()[-2000:])
    result: dict[str, float] = json.loads(lines[-1])
    return result


def _publish(console: Console, rounds: dict[int, list[dict[str, float]]], options: argparse.Namespace) -> None:
    table = Table(title=f"to parquet under {options.memory_limit}, engine {options.engine}", title_justify="left")
    for name in ("rows", "seconds", "rows/s", "peak MB", "file MB"):
        table.add_column(name, justify="right")
    rates = {}
    for rows, runs in rounds.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        rates[rows] = rows / seconds
        peak, size = max(run["peak_mb"] for run in runs), runs[0]["file_mb"]
        table.add_row(f"{rows:,}", f"{seconds:.2f}", f"{rates[rows]:,.0f}", f"{peak:,.0f}", f"{size:,.0f}")
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    options.out.write_text(json.dumps({"when": when, "machine": machine(), "rounds": rounds}, indent=1), "utf-8")
    small, large = min(rates), max(rates)
    console.print(f"rows/s at {large:,} rows are {rates[large] / rates[small]:.2f} x those at {small:,}")


if __name__ == "__main__":
    main()
