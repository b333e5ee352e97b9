"""One main job in this process, sampled; the seconds of each room as JSON on the last line.

Belongs here: running it. Not here: repeating and printing (main_job.py).
"""

import json
import resource
import sys
import time
from typing import Any

from benchmarks.harness import Numbers
from benchmarks.sampler import Sampler

RETRIEVALS = ("read_inputs", "read_supervision")


def timed(name: str, seconds: Numbers) -> None:
    """Add up the wall time of one of the calls by which assets ask Feast's ``get_historical_features``."""
    from feature_repo import store

    read = getattr(store, name)

    def reading(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return read(*arguments)
        finally:
            seconds[name] += time.perf_counter() - started

    setattr(store, name, reading)  # assets import it when they call it


def main(slices: str) -> None:
    started = time.perf_counter()
    retrieval_seconds = dict.fromkeys(RETRIEVALS, 0.0)
    with Sampler() as sampler:
        for name in retrieval_seconds:
            timed(name, retrieval_seconds)
        from dagster._cli import create_dagster_cli

        from exfm_assets.main_job import EVERYDAY

        arguments = [
            "asset",
            "materialize",
            "-m",
            "exfm_assets.definitions",
            "--select",
            EVERYDAY,
            "--partition-range",
            slices,
        ]
        create_dagster_cli()(arguments, standalone_mode=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**sampler.seconds, **retrieval_seconds, "total": time.perf_counter() - started, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1])
