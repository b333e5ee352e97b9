"""Where the main job's wall time goes: Dagster, Feast, training, transforms, I/O. ``make bench`` runs it.

    python -m benchmarks.main_job [--rounds N] [--slices FIRST...LAST] [--out FILE]

Belongs here: the arms. Two are interleaved: a run on an empty state, and the same run again on what it left.
Not here: sampling (sampler.py), repeating and printing (harness.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Measured, Numbers, interleave, publish
from benchmarks.sampled_job import RETRIEVALS
from benchmarks.sampler import rooms
from exfm.load import load_project, load_state
from exfm.state import ROOT
from exfm_assets.ranges import range_to_run
from pipeline.workspace import Workspace


def run_once(state: Path, slices: str) -> Numbers:
    """A main job in a process of its own, with its state in a folder of its own.

    Raises:
        SystemExit: if it fails, with the end of what it printed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    environment["EXFM_STATE"] = str(state)
    home = subprocess.run(
        [sys.executable, "-m", "exfm_assets.home"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    environment["DAGSTER_HOME"] = home.stdout.strip()
    command = [sys.executable, "-m", "benchmarks.sampled_job", slices]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the main job failed:\n{done.stderr[-3000:]}")
    numbers: Numbers = json.loads(done.stdout.strip().splitlines()[-1])
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", default="", help="first...last, default all")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "main_job.json")
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 150  # a log or a pipe has no width of its own
    project = load_project()
    listed = range_to_run(Workspace(project, load_state(project)), chosen.slices or None)
    slices = f"{listed[0].key}...{listed[-1].key}"
    with tempfile.TemporaryDirectory() as folder:

        def first(number: int) -> Numbers:
            return run_once(Path(folder) / str(number), slices)

        measured = interleave({"first run": first, "run again": first}, chosen.rounds, console)
    columns = ["total", *rooms(), "peak_mb"]
    total = measured.median("first run", "total")
    share = sum(measured.median("first run", room) for room in ("dagster", "feast")) / total
    summary = (
        f"main job ({project.name}, {slices}): {total:.0f} s, Dagster and Feast {share:.0%} of it "
        f"(importing all libraries {measured.median('first run', 'imports') / total:.0%} more), "
        f"training {measured.median('first run', 'training') / total:.0%}, "
        f"peak {measured.median('first run', 'peak_mb') / 1024:.1f} GB; {retrieval(measured, total)}"
    )
    publish(console, "main job", measured, columns, chosen.out, summary)


def retrieval(measured: Measured, total: float) -> str:
    """What share of the run the two historical retrievals take, through Feast's public API."""
    inputs, supervision = (measured.median("first run", name) for name in RETRIEVALS)
    seconds = inputs + supervision
    return f"logged inputs {inputs / total:.1%} and supervision {supervision / total:.1%} of it ({seconds:.1f} s)"


if __name__ == "__main__":
    main()
