"""What a table in bfloat16 or int8 costs in NE, and what it gives: bytes of a release, time of an answer.

    make bench-serving-tables  or python -m benchmarks.serving_tables [--rounds 3] [--calls 200]

Of the project that was run last (``make run``): each checkpoint of each student that has its weights still scores the
labelled rows of the slices after it that it has not learnt from, with its table as it is and as releases keep it. The
same rows, the same network: differences are the table's alone.

Belongs here: the pairs, and what is printed. Not here: rounding (models/tables.py), scores (pipeline/gate/).
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Measured, Numbers, interleave, publish
from benchmarks.serving import BATCHES, rows_of_log
from exfm.learning import Student
from exfm.load import load_project, load_state
from exfm.serving import FLOAT32, TABLES
from exfm.state import ROOT
from exfm.stream import Slice
from models.checkpoint import save_serving
from models.metrics import probabilities
from models.tables import as_served
from pipeline.gate.candidate import newest_labelled
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.scoring import score_slices
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace


def pairs_of(work: Workspace, student: Student, slices: int) -> Iterator[tuple[Slice, Slice]]:
    """Checkpoints that have their weights, each with the first labelled slices after it, one by one."""
    store = CheckpointStore.of(work, student)
    labelled = sorted((slice_ for slice_, _ in newest_labelled(work, student)), key=lambda each: each.index)
    for made in work.project.stream.slices(work.project.stream.first_slice, work.now()):
        if store.has_weights(made):
            yield from ((made, later) for later in [each for each in labelled if each.index > made.index][:slices])


def ne_of(work: Workspace, student: Student, made: Slice, judged: Slice) -> dict[str, float]:
    """NE of each kind of table on the same rows, and how far its scores are from those of float32."""
    store = CheckpointStore.of(work, student)
    models = {kind: as_served(store.load(made, "cpu")[0], kind) for kind in TABLES}
    scored = score_slices(JudgedRows(work, "cpu"), student, [judged], models)
    scores = {kind: probabilities(scored.logits[kind]) for kind in TABLES}
    apart = {kind: float(np.abs(of - scores[FLOAT32]).max()) for kind, of in scores.items()}
    found = {f"{kind} NE": scored.ne(kind) for kind in TABLES}
    return found | {f"{kind} apart": value for kind, value in apart.items()} | {"rows": float(len(scored.labels))}


def cost(work: Workspace, slices: int, console: Console, out: Path) -> Table:
    """By student: NE in float32, then by kind the relative difference, mean and two standard errors of pairs."""
    table = Table(title="cost in NE: the same rows, mean +- 2 standard errors over pairs of checkpoint and slice")
    for name in ("student", "pairs", "rows", "NE, float32"):
        table.add_column(name)
    for kind in TABLES[1:]:
        table.add_column(f"{kind}, % of NE")
        table.add_column("worst pair")
        table.add_column("a score, at most")
    every: dict[str, list[float]] = {kind: [] for kind in TABLES}
    pairs_found = {}
    for student in work.project.students:
        pairs = list(pairs_of(work, student, slices))
        with console.status(f"{student.name}: {len(pairs)} pairs"):
            found = [ne_of(work, student, *pair) for pair in pairs]
        pairs_found[student.name] = found
        if found:
            table.add_row(*_row(student.name, found, every))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(pairs_found, indent=1), encoding="utf-8")
    table.add_row("all", str(len(every[TABLES[1]])), "", "", *_costs(every, {}))
    return table


def _row(name: str, found: list[dict[str, float]], every: dict[str, list[float]]) -> list[str]:
    mine = {kind: [100 * (each[f"{kind} NE"] / each[f"{FLOAT32} NE"] - 1) for each in found] for kind in TABLES}
    for kind, values in mine.items():
        every[kind] += values
    apart = {kind: max(each[f"{kind} apart"] for each in found) for kind in TABLES}
    ne = statistics.mean(each[f"{FLOAT32} NE"] for each in found)
    return [name, str(len(found)), f"{sum(each['rows'] for each in found):,.0f}", f"{ne:.5f}", *_costs(mine, apart)]


def _costs(mine: dict[str, list[float]], apart: dict[str, float]) -> Iterator[str]:
    for kind in TABLES[1:]:
        values = mine[kind]
        error = 2 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
        yield f"{statistics.mean(values):+.5f} +- {error:.5f}"
        yield f"{max(values):+.5f}"
        yield f"{apart[kind]:.5f}" if kind in apart else ""


def latency_arms(work: Workspace, student: Student, folder: Path, calls: int) -> dict[str, Callable[[int], Numbers]]:
    """An answer's scores from raw features, with each kind of table; bytes of the file."""
    from serving.features import Asked, FeatureReader, ItemCache
    from serving.model import ServedModel

    store = CheckpointStore.of(work, student)
    *_, made = (made for made, _ in pairs_of(work, student, 1))
    learner, manifest = store.load(made, "cpu")
    models = {}
    for kind in TABLES:
        save_serving(folder / kind, learner, manifest, kind)
        models[kind] = ServedModel(folder / kind)
    given: dict[int, Any] = {}
    for batch in BATCHES:
        shown = rows_of_log(work, batch)
        at = shown["event_timestamp"].max()
        reader = FeatureReader(work.project, work.store, models[FLOAT32].signature, ItemCache(0))
        each = shown.drop("event_timestamp", "impression_id").to_dicts()
        asked = Asked({work.project.stream.surface.name: student.surface}, each, at)
        given[batch] = reader.gather(asked).columns, batch, at.timestamp()

    def timed(kind: str, _: int) -> Numbers:
        numbers: Numbers = {"file, bytes": float((folder / kind / "serving.safetensors").stat().st_size)}
        for batch, asked in given.items():
            models[kind].score(*asked)
            taken = []
            for _ in range(calls):
                started = time.perf_counter()
                models[kind].score(*asked)
                taken.append(time.perf_counter() - started)
            numbers[f"{batch} rows, us"] = float(np.median(taken)) * 1e6
        return numbers

    return {kind: partial(timed, kind) for kind in TABLES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=3, help="judged after each checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=200, help="of the network, each round")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "serving_tables.json")
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200
    project = load_project()
    work = Workspace(project, load_state(project))
    if work.table("impressions").newest(project.stream) is None:
        raise SystemExit(f"project {project.name} has no log yet: run `make run` first")
    console.print(cost(work, chosen.slices, console, chosen.out.with_suffix(".ne.json")))
    with tempfile.TemporaryDirectory() as folder:
        arms = latency_arms(work, project.students[0], Path(folder), chosen.calls)
        measured: Measured = interleave(arms, chosen.rounds, console)
    sizes = [measured.median(kind, "file, bytes") / measured.median(FLOAT32, "file, bytes") for kind in TABLES]
    summary = f"a release's file: {', '.join(f'{kind} {size:.2f}' for kind, size in zip(TABLES, sizes, strict=True))}"
    columns = ["file, bytes", *(f"{batch} rows, us" for batch in BATCHES)]
    publish(console, f"tables of {project.students[0].name}", measured, columns, chosen.out, summary)


if __name__ == "__main__":
    main()
