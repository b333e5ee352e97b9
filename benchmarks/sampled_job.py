"""One main job in this process, sampled; the seconds of each room as JSON on the last line.

Belongs here: running it. Not here: repeating and printing (main_job.py).
"""

import json
import resource
import sys
import time

from benchmarks.sampler import Sampler


def main(slices: str) -> None:
    started = time.perf_counter()
    with Sampler() as sampler:
        from dagster._cli import create_dagster_cli

        arguments = [
            "asset",
            "materialize",
            "-m",
            "exfm_assets.definitions",
            "--select",
            "*",
            "--partition-range",
            slices,
        ]
        create_dagster_cli()(arguments, standalone_mode=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**sampler.seconds, "total": time.perf_counter() - started, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1])
