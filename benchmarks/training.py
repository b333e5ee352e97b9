"""Training speed: against FuxiCTR and the machine's matrix products; how time grows; teacher scoring; memory.

    make bench-training  or python -m benchmarks.training [--rounds 5] [--growth-rounds 3] [--only students]

Every arm runs in a process of its own; the arms of a table take turns, so that a slow minute of the machine hits all of
them. Ratios are of the same round, then the median over rounds. FuxiCTR trains from batches that lie ready in memory:
its own loader's time is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Measured, Numbers, interleave, machine
from benchmarks.training_arms import Arm
from exfm.state import ROOT

PEER, OURS, BF16 = "FuxiCTR fp32", "exfm fp32", "exfm bf16"
SIZES = {"ids": (1_000_000, 10_000_000, 50_000_000), "rows": (125_000, 500_000, 2_000_000)}
# What libgomp and torch do where nothing is set.
AS_IT_COMES = {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
BUSY = {
    "128-64, batches of 4,096": Arm(rows=150_000),
    "32 and its control, batches of 128": Arm(network="small", batch=128, rows=30_000, students=1),
}
# The first is a student alone: what a control and more students beside it cost.
STUDENTS = {"1": (1, False), "1, control": (1, True), "3, control": (3, True), "7, control": (7, True)}


def against(network: str, rows: int, test_rows: int) -> dict[str, Arm]:
    """The same network, batch and ids, by FuxiCTR and by us in both precisions."""
    common = {"network": network, "rows": rows, "test_rows": test_rows}
    return {
        PEER: Arm("fuxictr", **common),  # type: ignore[arg-type]
        OURS: Arm("exfm", **common),  # type: ignore[arg-type]
        BF16: Arm("exfm", precision="bf16", **common),  # type: ignore[arg-type]
    }


def growth() -> dict[str, dict[str, Arm]]:
    """Tables of arms that differ in one thing; the first arm of each is what the others are compared with."""
    return {
        "rows of a slice": {f"{n:,}": Arm(rows=n) for n in SIZES["rows"]},
        "ids in use, a table row each": {f"{n:,}": Arm(ids=n) for n in SIZES["ids"]},
        "rows of the table, 1,000,000 ids in use": {f"{n:,}": Arm(ids=1_000_000, table=n) for n in SIZES["ids"]},
        **{
            f"students, {layers}, batches of {batch:,}": {
                name: Arm(network=network, batch=batch, rows=rows, students=students, control=control)
                for name, (students, control) in STUDENTS.items()
            }
            for network, layers, batch, rows in (
                ("student", "128-64", 4_096, 250_000),
                ("student", "128-64", 1_024, 200_000),
                ("small", "32", 128, 100_000),
            )
        },
        "a teacher of 4 experts, 512-256, two tasks": {
            "trains, fp32": Arm(network="teacher", rows=100_000),
            "trains, bf16": Arm(network="teacher", rows=100_000, precision="bf16"),
            "scores, fp32": Arm("exfm scores", network="teacher", rows=250_000),
            "scores, bf16": Arm("exfm scores", network="teacher", rows=250_000, precision="bf16"),
        },
    }


def run(arm: Arm, seed: int, environment: Mapping[str, str] | None = None) -> Numbers:
    """One arm in a fresh process; a peer runs with OpenMP as it comes."""
    arguments = json.dumps({**asdict(arm), "seed": seed})
    command = [sys.executable, "-m", "benchmarks.training_arms", arguments]
    placed = environment or (AS_IT_COMES if arm.who == "fuxictr" else {})
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **placed})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{arguments}: {done.stderr.strip()[-2000:]}")
    result: dict[str, object] = json.loads(lines[-1])
    return {name: float(value) for name, value in result.items() if isinstance(value, int | float)}


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """While inside, so many processes beside that do nothing but use a core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def show_busy(console: Console, title: str, arm: Arm, rounds: int) -> dict[str, list[Numbers]]:
    """One arm on quiet cores and beside one and three busy loops a core, with OpenMP as we set it and as it comes."""
    settings = {"as the project sets it": {}, "as OpenMP comes": AS_IT_COMES}
    kept, quiet = {}, 0.0
    console.print(f"\nbeside others, {title}: {'':8} {'rows/s':>10} {'of quiet':>8} {'fair share':>10}")
    for loops in (0, *(times * (os.cpu_count() or 1) for times in (1, 3))):
        arms = {name: partial(run, arm, environment=values) for name, values in settings.items()}
        with busy(loops):
            measured = interleave(arms, rounds, console)
        for name, numbers in measured.rounds.items():
            rate = measured.median(name, "rows_per_second")
            quiet = quiet or rate
            # of a thread among as many others as there are loops
            fair = 1 / (loops + 1)
            console.print(f"  {loops:2} loops, {name:24} {rate:10,.0f} {rate / quiet:8.1%} {fair:10.1%}")
            kept[f"{loops} loops, {name}"] = numbers
    return kept


def taken_in_turn(arms: Mapping[str, Arm], rounds: int, console: Console) -> Measured:
    return interleave({name: partial(run, arm) for name, arm in arms.items()}, rounds, console)


def ratio(measured: Measured, arm: str, base: str) -> float:
    """Median over rounds of how many times faster ``arm`` was than ``base`` in the same round."""
    pairs = zip(measured.rounds[arm], measured.rounds[base], strict=True)
    return statistics.median(numbers["rows_per_second"] / reference["rows_per_second"] for numbers, reference in pairs)


def show_against(console: Console, network: str, measured: Measured) -> None:
    console.print(f"\n{network}: {'':18} {'rows/s':>10} {'ratio':>6} {'of products':>11} {'AUC':>7} "
                  f"{'AUC - peer':>16} {'peak MB':>8}")  # fmt: skip
    for arm, rounds in measured.rounds.items():
        apart = [numbers["auc"] - peer["auc"] for numbers, peer in zip(rounds, measured.rounds[PEER], strict=True)]
        spread = statistics.stdev(apart) if len(apart) > 1 else float("nan")
        console.print(
            f"  {arm:24} {measured.median(arm, 'rows_per_second'):10,.0f} {ratio(measured, arm, PEER):6.2f} "
            f"{measured.median(arm, 'share'):11.0%} {measured.median(arm, 'auc'):7.4f} "
            f"{statistics.mean(apart):+8.4f} +-{spread:6.4f} {measured.median(arm, 'peak_mb'):8,.0f}"
        )


def show_growth(console: Console, title: str, measured: Measured) -> None:
    console.print(f"\n{title}: {'':10} {'rows/s':>10} {'x first':>8} {'time x':>7} {'peak MB':>8}")
    first = next(iter(measured.rounds))
    for arm, rounds in measured.rounds.items():
        rate = ratio(measured, arm, first)
        rows = rounds[0]["rows"] / measured.rounds[first][0]["rows"]
        console.print(f"  {arm:24} {measured.median(arm, 'rows_per_second'):10,.0f} {rate:8.2f} {rows / rate:7.2f} "
                      f"{measured.median(arm, 'peak_mb'):8,.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth-rounds", type=int, default=3, help="0 leaves the growth tables out")
    parser.add_argument("--only", default="", help="tables whose title contains this: student, large, rows, ids, ...")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "training.json")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{machine()['cpu']}, {os.cpu_count()} cores; 20 columns of ids, batches of 4,096 where not said")
    kept: dict[str, dict[str, list[Numbers]]] = {}
    for network in (name for name in ("student", "large") if options.only in name):
        measured = taken_in_turn(against(network, options.rows, options.rows // 5), options.rounds, console)
        kept[network] = measured.rounds
        show_against(console, network, measured)
    for title, arms in growth().items() if options.growth_rounds else ():
        if options.only not in title:
            continue
        measured = taken_in_turn(arms, options.growth_rounds, console)
        kept[title] = measured.rounds
        show_growth(console, title, measured)
    for title, arm in BUSY.items() if options.growth_rounds else ():
        if options.only in f"beside others, {title}":
            kept[f"beside others, {title}"] = show_busy(console, title, arm, options.growth_rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine(), "tables": kept}, indent=1), encoding="utf-8")
    console.print(f"\nall rounds: {options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out}")


if __name__ == "__main__":
    main()
