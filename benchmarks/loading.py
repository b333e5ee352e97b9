"""Loading the online store: this project's engine and store beside Feast's own, on the same rows.

    make bench-loading  or python -m benchmarks.loading [--rows 20_000] [--rounds 5]

A view of counts, rates and a list, as the graph's are. The arms take turns, each into an online store of its own.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32, Int64
from rich.console import Console

from benchmarks.harness import Numbers, interleave, publish
from exfm.state import ROOT

OURS, FEAST = "exfm", "Feast's own"
STORES = {
    OURS: ("feature_repo.embedded.EmbeddedOnlineStore", "feature_repo.loading.LoadingEngine"),
    FEAST: ("sqlite", "local"),
}
START = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS, RATES, LISTED = 8, 6, 20


def write_rows(path: Path, rows: int) -> None:
    """One row an entity: counts, rates of which a tenth is missing, and the last ids."""
    draws = np.random.default_rng(0)
    columns: dict[str, object] = {"user": np.arange(rows), "at": pa.array([START] * rows, pa.timestamp("us", tz="UTC"))}
    columns |= {f"count_{at}": draws.poisson(3.0, rows) for at in range(COUNTS)}
    for at in range(RATES):
        missing = draws.uniform(size=rows) < 0.1
        columns[f"rate_{at}"] = pa.array(draws.uniform(size=rows).astype(np.float32), mask=missing)
    ids = draws.integers(0, 10_000, (rows, LISTED))
    columns["last"] = pa.array(list(ids), pa.list_(pa.int64()))
    pq.write_table(pa.table(columns), path)


def store_of(folder: Path, rows: Path, name: str) -> FeatureStore:
    """A store whose view is over the file."""
    folder.mkdir(parents=True)
    online, engine = STORES[name]
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    names = [*((f"count_{at}", Int64) for at in range(COUNTS)), *((f"rate_{at}", Float32) for at in range(RATES))]
    fields = [Field(name=name, dtype=dtype) for name, dtype in [("user", Int64), *names, ("last", Array(Int64))]]
    source = FileSource(name="rows", path=str(rows), timestamp_field="at")
    store = FeatureStore(
        config=RepoConfig(
            project="p", provider="local", registry=str(folder / "registry.db"), entity_key_serialization_version=3,
            online_store={"type": online, "path": str(folder / "online.db")},
            offline_store={"type": "feast_asof.store.AsofOfflineStore"}, batch_engine={"type": engine},
            materialization={"pull_latest_features": True, "online_write_batch_size": 10_000},
        )
    )  # fmt: skip
    store.apply([user, FeatureView(name="mine", entities=[user], schema=fields, source=source, ttl=timedelta(days=9))])
    return store


def load(folder: Path, rows: Path, count: int, name: str, number: int) -> Numbers:
    """Into an empty store, then again over what is there."""
    store, seconds = store_of(folder / f"{name}-{number}", rows, name), []
    for _ in range(2):
        started = time.perf_counter()
        store.materialize(START - timedelta(days=1), START + timedelta(days=1))
        seconds.append(time.perf_counter() - started)
    cells = count * (COUNTS + RATES + 1)
    return {"first s": seconds[0], "again s": seconds[1], "cells/s": cells / seconds[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "loading.json")
    chosen = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as made:
        rows = Path(made) / "rows.parquet"
        write_rows(rows, chosen.rows)
        arms = {name: partial(load, Path(made), rows, chosen.rows, name) for name in STORES}
        measured = interleave(arms, chosen.rounds, console)
    ratios = [measured.median(FEAST, name) / measured.median(OURS, name) for name in ("first s", "again s")]
    summary = f"Feast's own takes {ratios[0]:.1f} times as long into an empty store, {ratios[1]:.1f} times over values"
    publish(console, "loading", measured, ("first s", "again s", "cells/s"), chosen.out, summary)


if __name__ == "__main__":
    main()
