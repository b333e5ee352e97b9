"""Point-in-time joins: this store, Feast's duckdb store, and DuckDB and polars by hand, on the same files.

    make bench-retrieval            or python -m benchmarks.retrieval [--rounds 3] [--sizes 10000,100000,1000000]

Each arm runs in a process of its own; the arms of a question take turns, so that a slow minute of the machine hits all
of them. Seconds are the median of the rounds, of each the median of its repeats after the first; all answers are
compared. The stock store is given ``--limit`` seconds a question.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.retrieval_arms import ARMS
from benchmarks.retrieval_data import SHAPES, files_of
from exfm.state import ROOT

_REPEATS = 4
_SLOW = 3.0  # a repeat that takes longer than so many seconds is not repeated within a process
NAMES = {"asof": "this store", "stock": "Feast's duckdb", "polars": "polars by hand", "duckdb": "DuckDB by hand"}


@dataclass
class Runs:
    """All rounds of one arm on one question; ``over`` if it ran into the limit."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    check: dict[str, float] | None = None
    over: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("nan")


def run(folder: Path, shape: str, arm: str, runs: Runs, limit: float) -> None:
    """One round of one arm."""
    repeats = 1 if runs.seconds and runs.median > _SLOW else _REPEATS
    command = [sys.executable, "-m", "benchmarks.retrieval_arms", str(folder), shape, arm, str(repeats)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        runs.over = True
        return
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{arm} on {shape}: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    later = result["seconds"][1:] or result["seconds"]
    runs.seconds.append(statistics.median(later))
    runs.peak_mb.append(result["peak_mb"])
    runs.check = result["check"]


def same(checks: list[dict[str, float] | None]) -> bool:
    """Are the checksums those of the same answer, but for the order in which floats were added?"""
    held = [check for check in checks if check is not None]
    return all(
        check.keys() == held[0].keys()
        and all(abs(check[k] - held[0][k]) <= 1e-9 * abs(held[0][k]) + 1e-3 for k in check)
        for check in held
    )


def question(folder: Path, shape: str, rows: int, options: argparse.Namespace, console: Console) -> dict[str, Runs]:
    data_folder = files_of(folder, SHAPES[shape], rows)
    measured = {arm: Runs() for arm in ARMS}
    for number in range(options.rounds):
        for arm, runs in measured.items():
            if not runs.over:
                with console.status(f"{rows:,} rows, {shape}: round {number + 1} of {options.rounds}, {NAMES[arm]}"):
                    run(data_folder, shape, arm, runs, options.limit)
    if not same([runs.check for runs in measured.values()]):
        raise RuntimeError(f"{rows:,} rows, {shape}: the answers differ: { {a: r.check for a, r in measured.items()} }")
    return measured


def print_table(console: Console, results: dict[tuple[int, str], dict[str, Runs]], limit: float) -> None:
    table = Table(title="Entity rows x 3 views: seconds / peak MB", title_justify="left")
    for name in ("rows", "shape", *NAMES.values(), "of the faster by hand", "stock is"):
        table.add_column(name, justify="left" if name == "shape" else "right")
    for (rows, shape), arms in results.items():
        ours = arms["asof"].median
        by_hand = min(arms["polars"].median, arms["duckdb"].median)
        stock = f"> {limit / ours:.0f} x" if arms["stock"].over else f"{arms['stock'].median / ours:.1f} x"
        cells = [
            f"> {limit:.0f}" if arm.over else f"{arm.median:.2f} / {statistics.median(arm.peak_mb):,.0f}"
            for arm in arms.values()
        ]
        table.add_row(f"{rows:,}", shape, *cells, f"{ours / by_hand:.2f} x", stock)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one process of an arm")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "exfm-bench-retrieval")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "retrieval.json")
    options = parser.parse_args()
    console = Console(width=150)
    shapes = [name for name in SHAPES if name in options.shapes]
    results = {
        (int(rows), shape): question(options.folder, shape, int(rows), options, console)
        for rows in options.sizes.split(",")
        for shape in shapes
    }
    print_table(console, results, options.limit)
    rows = {
        f"{rows} {shape}": {arm: vars(runs) for arm, runs in arms.items()} for (rows, shape), arms in results.items()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    options.out.write_text(json.dumps({"when": when, "machine": machine(), "questions": rows}, indent=1), "utf-8")
    large = [arms for (rows, _), arms in results.items() if rows >= 100_000] or list(results.values())
    worst = max(arms["asof"].median / min(arms["polars"].median, arms["duckdb"].median) for arms in large)
    least = min(arms["stock"].median / arms["asof"].median for arms in results.values() if not arms["stock"].over)
    console.print(
        f"same answers everywhere; from 100,000 rows at most {worst:.2f} x the faster one by hand; "
        f"the stock store takes at least {least:.1f} x as long as this one"
    )


if __name__ == "__main__":
    main()
