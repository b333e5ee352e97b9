"""The index that items are retrieved from, against brute force: recall, time of a search, time to build.

    make bench-item-index  or python -m benchmarks.item_index [--width 32] [--k 100] [--rounds 2]

Vectors lie in clusters and differ in length, as those of popular items do; requests lie anywhere.

Belongs here: the vectors and the arms. Not here: the index (serving/item_index.py).
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.harness import Numbers, interleave, publish
from exfm.state import ROOT
from serving.item_index import ItemIndex

SIZES, REQUESTS = (10_000, 100_000, 1_000_000), 100


def vectors_of(size: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, H) of items and (R, H) of requests."""
    draws = np.random.default_rng(size)
    centres = draws.normal(size=(200, width)).astype(np.float32)
    items = centres[draws.integers(0, 200, size)] + 0.5 * draws.standard_normal((size, width), dtype=np.float32)
    items *= draws.lognormal(0, 0.3, (size, 1)).astype(np.float32)
    return items, draws.standard_normal((REQUESTS, width), dtype=np.float32)


def searched(size: int, width: int, k: int, _: int) -> Numbers:
    """Of one size: a search by the index and by a product with all, and how many of the best were found."""
    items, requests = vectors_of(size, width)
    began = time.perf_counter()
    index = ItemIndex(items)
    built, found, mine, brute = time.perf_counter() - began, 0, [], []
    for request in requests:
        began = time.perf_counter()
        places, _products = index.search(request[None], k)
        mine.append(time.perf_counter() - began)
        began = time.perf_counter()
        products = items @ request
        best = np.argpartition(-products, k)[:k]
        brute.append(time.perf_counter() - began)
        found += len({*places.tolist()} & {*best.tolist()})
    return {
        "recall": found / (k * REQUESTS), "search, ms": float(np.median(mine)) * 1e3,
        "numpy, ms": float(np.median(brute)) * 1e3, "build, s": built,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "item_index.json")
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    arms = {f"{size:,} items": partial(searched, size, chosen.width, chosen.k) for size in SIZES}
    measured = interleave(arms, chosen.rounds, console)
    columns = ["recall", "search, ms", "numpy, ms", "build, s"]
    summary = ", ".join(f"{arm}: recall {measured.median(arm, 'recall'):.3f}" for arm in arms)
    publish(
        console, f"an index of vectors of {chosen.width}, the best {chosen.k}", measured, columns, chosen.out, summary
    )


if __name__ == "__main__":
    main()
