"""What a checkpoint costs, as whole states and as changes: seconds to write and to read, bytes, over a chain of slices.

    make bench-checkpoints  or python -m benchmarks.checkpoints [--slices 17] [--rows 12_000] [--ids 200_000]

One learner trains on synthetic slices, and each of its states is written both ways, in turn. Needs torch alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import Measured, Numbers, publish
from benchmarks.synthetic import Sizes, synthetic_slice
from exfm.distillation import AuxiliaryHead
from exfm.learning import Training
from exfm.networks import DCNv2
from exfm.state import ROOT
from models.changes import table_of
from models.checkpoint import load_checkpoint, save_checkpoint
from models.learner import Learner
from models.network_spec import NetworkSpec
from models.state import learner_state

WHOLE, CHANGES = "whole states", "changes"
OUT = ROOT / "data" / "benchmarks" / "checkpoints.json"


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def written(folder: Path) -> float:
    """Megabytes of a checkpoint's own files."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def chain(folder: Path, slices: int, sizes: Sizes) -> Measured:
    """Train over slices; write and read each state both ways. What the first slice writes is whole in both."""
    network = DCNv2(embedding=16, cross=1, hidden=(128, 64))
    spec = NetworkSpec(
        ids=sizes.id_columns, numbers=sizes.number_names, tasks=sizes.task_names, network=network, teachers=("large",)
    )
    learner = Learner.create(spec, Training(batch_size=256), AuxiliaryHead(weight=2.0), "cpu")
    rounds: dict[str, list[Numbers]] = {WHOLE: [], CHANGES: []}
    table = None
    for index in range(slices):
        learner.fit(synthetic_slice(sizes, "cpu", seed=index), f"slice {index}")
        parent = f"v{index - 1}" if index else None
        fields: dict[str, Any] = {
            "version": f"v{index}", "model": "student/bench", "slice": str(index), "declaration": "d",
            "parent": parent, "trained_until": "2026-01-02T00:00:00+00:00", "rows": sizes.rows,
            "data_versions": {}, "teacher_checkpoints": [], "metrics": {},
        }  # fmt: skip
        for arm in (WHOLE, CHANGES):
            mine = folder / arm / f"slice={index}"
            after = folder / arm / f"slice={index - 1}" if arm == CHANGES and index else None
            known = table if arm == CHANGES else None
            save = seconds_of(partial(save_checkpoint, mine, learner, after=after, table=known, **fields))
            load = seconds_of(partial(load_checkpoint, mine))
            if index:
                rounds[arm].append({"write s": save, "read s": load, "MB": written(mine)})
        table = {name: value.clone() for name, value in table_of(learner_state(learner)).items()}
    return Measured(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=17)
    parser.add_argument("--rows", type=int, default=12_000, help="rows of a slice")
    parser.add_argument("--ids", type=int, default=200_000, help="ids of all columns, a table row each")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    sizes = Sizes(chosen.rows, chosen.ids)
    with tempfile.TemporaryDirectory() as folder:
        measured = chain(Path(folder), chosen.slices, sizes)
    columns = ("write s", "read s", "MB")
    ratios = {name: measured.median(CHANGES, name) / measured.median(WHOLE, name) for name in columns}
    last = measured.rounds[CHANGES][-1]["read s"] / measured.rounds[WHOLE][-1]["read s"]
    summary = (
        f"changes over whole states: {ratios['write s']:.2f} of the seconds to write, {ratios['MB']:.3f} of the bytes, "
        f"{ratios['read s']:.2f} of the seconds to read ({last:.2f} after {chosen.slices - 1} slices)"
    )
    publish(Console(), "checkpoints", measured, columns, chosen.out, summary)


if __name__ == "__main__":
    main()
