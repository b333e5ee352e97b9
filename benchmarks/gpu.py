"""Training and scoring on the machine at hand, torch alone: rows a second, share of its limits, cost of more students.

``python -m benchmarks.gpu`` needs torch and numpy only, so that it runs on a bare GPU machine; without a GPU it runs on
the CPU, with fewer rows. The limits are measured in the same run: how fast memory is copied, and how fast matrices of a
layer's shape are multiplied.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.synthetic import Sizes, synthetic_slice
from exfm.distillation import AuxiliaryHead
from exfm.learning import Training
from exfm.networks import DCNv2, Network
from models.batch import SliceTensors
from models.learner import Learner
from models.members import Member, abreast
from models.network_spec import NetworkSpec

SMALL = DCNv2(embedding=16, cross=1, hidden=(128, 64))
LARGE = DCNv2(embedding=16, cross=3, hidden=(512, 256, 128))
TEACHER = DCNv2(embedding=64, cross=3, cross_rank=128, hidden=(1024, 512), experts=4)


@dataclass(frozen=True)
class Measured:
    """One measurement: rows a second, and which share of each limit that is."""

    what: str
    precision: str
    batch: int
    members: int
    rows_per_second: float
    memory_share: float
    matrix_share: float
    peak_gb: float


def flops_per_row(learner: Learner) -> float:
    """Multiply-adds count two, of every matrix product, forward and backward (three times the forward)."""
    weights = [p for name, p in learner.networks.named_parameters() if p.dim() >= 3 and "serving" not in name]
    return 3 * 2 * sum(p.numel() for p in weights)


def bytes_per_row(learner: Learner, touched: float) -> float:
    """What a step must move of the table per row: rows read, their gradients, and both written back.

    Args:
        touched: distinct rows over looked-up rows of a batch.
    """
    looked_up = len(learner.spec.ids) * len(learner.specs) * learner.spec.network.embedding * 4
    return looked_up * (2 + 4 * touched)


def copy_rate(device: str) -> float:
    """Bytes a second that a copy of a large tensor reads and writes."""
    size = 2**28 if device.startswith("cuda") else 2**26
    source = torch.empty(size, device=device).normal_()
    target = torch.empty_like(source)
    seconds = _median(lambda: target.copy_(source), device, 7)
    return 2 * 4 * size / seconds


def matrix_rate(device: str, dtype: torch.dtype, rows: int) -> float:
    """Operations a second of a layer's three products, (rows, 512) by (512, 512)."""
    x, w = (torch.randn(n, 512, device=device).to(dtype) for n in (rows, 512))

    def products() -> None:
        y = x @ w
        _ = x.T @ y, y @ w.T

    return 3 * 2 * rows * 512 * 512 / _median(products, device, 9)


def _median(work: Callable[[], object], device: str, times: int) -> float:
    work()
    each = []
    for _ in range(times):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        each.append(time.perf_counter() - started)
    return statistics.median(each)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Company:
    """Who learns from the same rows: students with auxiliary heads, and one that learns from labels alone."""

    students: int = 0
    control: bool = True

    def learners(self, network: Network, sizes: Sizes, tasks: int, training: Training, device: str) -> list[Learner]:
        """One for each pass over the rows, as the graph's students are put together."""
        ids, names = sizes.id_columns, sizes.task_names[:tasks]
        spec = NetworkSpec(ids=ids, numbers=sizes.number_names, tasks=names, network=network)
        student = Member(replace(spec, teachers=("large",)), AuxiliaryHead(weight=4.0))
        members = [*[Member(spec)] * self.control, *[student] * self.students]
        return [Learner(part, training, device) for part in abreast(members, spec, training.batch_size, device)]


ALONE = Company()


def seconds_of(learners: list[Learner], slice_: SliceTensors, order_seed: str) -> float:
    """Of all passes over the rows."""
    return sum(learner.fit(slice_, order_seed).seconds for learner in learners)


def measure(
    what: str, network: Network, slice_: SliceTensors, sizes: Sizes, company: Company, tasks: int, training: Training,
    device: str, limits: dict[str, float],
) -> Measured:  # fmt: skip
    """Rows a second of a pass after one that warms up, against the limits of the machine."""
    learners = company.learners(network, sizes, tasks, training, device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    seconds_of(learners, slice_.take(torch.arange(min(len(slice_), 4 * training.batch_size), device=device)), "warm")
    rate = len(slice_) / statistics.median(seconds_of(learners, slice_, str(n)) for n in range(3))
    learner, members = learners[0], sum(len(learner.specs) for learner in learners)
    batch = learner.table.rows_of(slice_.ids[: training.batch_size])
    touched = len(torch.unique(batch)) / batch.numel()
    precision = "bf16" if learner.bf16 else "fp32"
    return Measured(
        what, precision, training.batch_size, members, rate,
        rate * sum(bytes_per_row(learner, touched) for learner in learners) / limits["copy"],
        rate * sum(map(flops_per_row, learners)) / limits[precision],
        torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else float("nan"),
    )  # fmt: skip


def score(what: str, network: Network, slice_: SliceTensors, sizes: Sizes, precision: str, device: str) -> Measured:
    """Rows a second that a teacher of all tasks scores."""
    training = Training(precision=precision)
    (learner,) = ALONE.learners(network, sizes, len(sizes.task_names), training, device)
    seconds = _median(lambda: learner.predict(slice_), device, 3)
    nan = float("nan")
    return Measured(f"{what}, scoring", precision, 0, 1, len(slice_) / seconds, nan, nan, nan)


def everything(
    sizes: Sizes, device: str, batches: list[int], members: list[int], fixed: Training
) -> Iterator[Measured]:
    """All measurements, one by one."""
    slice_ = synthetic_slice(sizes, device)
    limits = {"copy": copy_rate(device)}
    limits |= {"fp32": matrix_rate(device, torch.float32, batches[-1])}
    limits |= {"bf16": matrix_rate(device, torch.bfloat16, batches[-1])}
    print(f"copy {limits['copy'] / 1e9:,.0f} GB/s, products fp32 {limits['fp32'] / 1e12:,.2f} "
          f"and bf16 {limits['bf16'] / 1e12:,.2f} Tflop/s")  # fmt: skip
    tasks = len(sizes.task_names)
    for precision in ("fp32", "bf16"):
        for batch in batches:
            training = replace(fixed, batch_size=batch, precision=precision)
            common = (training, device, limits)
            yield measure("student 1 x cross, 128-64", SMALL, slice_, sizes, ALONE, 1, *common)
            yield measure("large 3 x cross, 512-256-128", LARGE, slice_, sizes, ALONE, 1, *common)
            yield measure("teacher 4 experts, 1024-512", TEACHER, slice_, sizes, ALONE, tasks, *common)
        yield score("teacher 4 experts, 1024-512", TEACHER, slice_, sizes, precision, device)
        for count in members:
            training = replace(fixed, batch_size=batches[-1], precision=precision)
            company = Company(students=max(count - 1, 1), control=count > 1)
            yield measure(f"{count} at once", SMALL, slice_, sizes, company, 1, training, device, limits)


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8_000_000 if cuda else 200_000)
    parser.add_argument("--ids", type=int, default=20_000_000 if cuda else 1_300_000, help="table rows in all")
    parser.add_argument("--batches", type=int, nargs="+", default=[8_192, 32_768, 131_072] if cuda else [4_096])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16] if cuda else [1, 2, 4, 8])
    parser.add_argument("--compile", action="store_true", help="compile the dense part")
    parser.add_argument("--cuda-graphs", action="store_true", help="and replay it as CUDA graphs")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args()
    device = "cuda" if cuda else "cpu"
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {options.rows:,} rows x 20 ids, table of {options.ids:,} rows")
    print(f"{'':32} {'':5} {'batch':>8} {'members':>8} {'rows/s':>14} {'memory':>7} {'matrix':>7} {'peak GB':>8}")
    done = []
    fixed = Training(compile=options.compile or options.cuda_graphs, cuda_graphs=options.cuda_graphs)
    for row in everything(Sizes(rows=options.rows, ids=options.ids), device, options.batches, options.members, fixed):
        print(f"{row.what:32} {row.precision:5} {row.batch:8,} {row.members:8} {row.rows_per_second:14,.0f} "
              f"{row.memory_share:7.1%} {row.matrix_share:7.1%} {row.peak_gb:8.1f}", flush=True)  # fmt: skip
        done.append(row)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in done], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
