"""One arm of the training benchmark in a process of its own: ``python -m benchmarks.training_arms '<json>'``.

Belongs here: what an arm trains, and what is measured of it. Not here: which arms, rounds, tables (training.py).
"""

import json
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.gpu import LARGE, SMALL, Company, flops_per_row, matrix_rate, seconds_of
from benchmarks.synthetic import Sizes, synthetic_slice
from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.metrics import evaluate

# The tables learn at the same rate in every arm of ours; chosen on seed 100, which no round uses.
TABLE_LEARNING_RATE = 0.1
NETWORKS = {
    "student": SMALL,
    "large": LARGE,
    "small": DCNv2(embedding=8, cross=1, hidden=(32,)),
    "teacher": DCNv2(embedding=16, cross=3, hidden=(512, 256), experts=4),
}


@dataclass(frozen=True)
class Arm:
    """What to train on what.

    Args:
        who: ``exfm``, ``exfm scores`` or ``fuxictr``.
        network: a name of ``NETWORKS``.
        table: rows of the embedding table, if more than ids.
        students: with auxiliary heads; control: whether one that learns from labels alone is there.
        test_rows: rows that are scored afterwards for the AUC; 0 for none.
    """

    who: str = "exfm"
    network: str = "student"
    precision: str = "fp32"
    batch: int = 4_096
    rows: int = 500_000
    ids: int = 1_300_000
    table: int | None = None
    students: int = 0
    control: bool = True
    seed: int = 0
    test_rows: int = 0


def measure(arm: Arm) -> dict[str, float]:
    """Rows a second over one pass, the AUC after it, the limit of matrix products around it, the highest memory."""
    sizes = Sizes(rows=arm.rows + arm.test_rows, ids=arm.ids, numbers=0, table=arm.table)
    everything = synthetic_slice(sizes, "cpu", arm.seed)
    train, test = (everything.take(rows) for rows in torch.arange(len(everything)).split([arm.rows, arm.test_rows]))
    del everything
    dtype = torch.bfloat16 if arm.precision == "bf16" else torch.float32
    before = matrix_rate("cpu", dtype, arm.batch)
    result = (_of_fuxictr if arm.who == "fuxictr" else _of_exfm)(arm, sizes, train, test)
    limit = statistics.mean([before, matrix_rate("cpu", dtype, arm.batch)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    share = result["rows_per_second"] * result.pop("flops", float("nan")) / limit
    return {**result, "share": share, "limit_gflops": limit / 1e9, "peak_mb": peak}


def _of_exfm(arm: Arm, sizes: Sizes, train: SliceTensors, test: SliceTensors) -> dict[str, float]:
    training = Training(
        batch_size=arm.batch, learning_rate=1e-3, table_learning_rate=TABLE_LEARNING_RATE,
        precision=arm.precision, seed=arm.seed,
    )  # fmt: skip
    tasks = len(sizes.task_names) if arm.network == "teacher" else 1
    network, company = NETWORKS[arm.network], Company(arm.students, arm.control)
    learners = company.learners(network, sizes, tasks, training, "cpu")
    if arm.who == "exfm scores":
        (learner,) = learners
        learner.predict(train.take(torch.arange(4 * arm.batch)))
        started = time.perf_counter()
        learner.predict(train)
        return {"rows_per_second": len(train) / (time.perf_counter() - started), "flops": flops_per_row(learner) / 3}
    untouched = company.learners(network, Sizes(arm.rows, 1_000, 0), tasks, training, "cpu")
    seconds_of(untouched, train.take(torch.arange(min(4 * arm.batch, len(train)))), "warm")
    rate = len(train) / seconds_of(learners, train, "pass")
    auc = _auc(learners[0].predict(test)[:, 0].numpy(), test) if len(test) else float("nan")
    return {"rows_per_second": rate, "auc": auc, "flops": sum(map(flops_per_row, learners))}


def _of_fuxictr(arm: Arm, sizes: Sizes, train: SliceTensors, test: SliceTensors) -> dict[str, float]:
    from benchmarks.fuxi import Resident, peer, scores
    from benchmarks.fuxi import train as train_peer

    network = NETWORKS[arm.network]
    warm = train.take(torch.arange(min(4 * arm.batch, len(train))))
    train_peer(peer(Sizes(arm.rows, sizes.ids, 0), network, arm.seed), Resident(warm, arm.batch, arm.seed))
    model, batches = peer(sizes, network, arm.seed), Resident(train, arm.batch, arm.seed)
    started = time.perf_counter()
    train_peer(model, batches)
    rate = len(train) / (time.perf_counter() - started)
    probability = scores(model, Resident(test, arm.batch, None)) if len(test) else np.zeros(0)
    auc = _auc(np.log(probability / (1 - probability)), test) if len(test) else float("nan")
    dense = [w for name, w in model.named_parameters() if w.dim() == 2 and "embedding" not in name]
    return {"rows_per_second": rate, "auc": auc, "flops": 6 * float(sum(w.numel() for w in dense))}


def _auc(logits: np.ndarray, test: SliceTensors) -> float:
    return evaluate(logits, test.labels[:, 0].numpy())["auc"]


if __name__ == "__main__":
    arm = Arm(**json.loads(sys.argv[1]))
    print(json.dumps({**asdict(arm), **measure(arm)}))
