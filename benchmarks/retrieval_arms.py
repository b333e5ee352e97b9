"""One way of joining the benchmark's views to its impressions, run in a process of its own.

    python -m benchmarks.retrieval_arms FOLDER SHAPE ARM REPEATS

Prints one line of JSON: seconds of each repeat, peak memory, and a checksum of the answer. Every arm reads the views'
files anew each time; the stores get the impressions as a frame (Feast's way), the others read their file.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.retrieval_data import SHAPES, Shape

ARMS = ("asof", "stock", "polars", "duckdb")
OURS = "feast_asof.store.AsofOfflineStore"


def by_polars(folder: Path, shape: Shape) -> pa.Table:
    """polars by hand: sorted by both clocks, of equal stamps the last is taken."""
    import polars as pl

    answer = pl.read_parquet(folder / "entities.parquet").with_row_index("row").lazy().sort("event_timestamp")
    for view in shape.views:
        history = (
            pl.scan_parquet(folder / view.name / "**/*.parquet", hive_partitioning=False)
            .select(view.key, "event_timestamp", "created_timestamp", *view.features)
            .sort("event_timestamp", "created_timestamp")
            .drop("created_timestamp")
        )
        tolerance = f"{view.ttl}s" if view.ttl else None
        answer = answer.join_asof(
            history, on="event_timestamp", by=view.key, tolerance=tolerance, check_sortedness=False
        )
    return answer.sort("row").drop("row").collect().to_arrow()


def by_duckdb(folder: Path, shape: Shape) -> pa.Table:
    """DuckDB by hand: ASOF joins over the newest row of each key and stamp; predictions, one a key, by a hash join."""
    import duckdb

    values, joins = ["e.*"], []
    for number, view in enumerate(shape.views):
        f, key, stamp = f"f{number}", f"k{number}", f"t{number}"
        fresh = f" AND epoch_us(e.event_timestamp) - epoch_us({f}.{stamp}) <= {view.ttl * 10**6}" if view.ttl else ""
        values += [f"CASE WHEN {f}.{stamp} IS NOT NULL{fresh} THEN {f}.{name} END AS {name}" for name in view.features]
        one_a_key = view.name == "teacher"
        unique = key if one_a_key else f"{key}, {stamp}"
        newest = f"{stamp} DESC, created_timestamp DESC" if one_a_key else "created_timestamp DESC"
        history = (
            f"SELECT {view.key} AS {key}, event_timestamp AS {stamp}, {', '.join(view.features)} "
            f"FROM read_parquet('{folder}/{view.name}/**/*.parquet', hive_partitioning = false) "
            f"QUALIFY row_number() OVER (PARTITION BY {unique} ORDER BY {newest}) = 1"
        )
        on = f"e.{view.key} = {f}.{key} AND e.event_timestamp >= {f}.{stamp}"
        joins.append(f"{'' if one_a_key else 'ASOF '}LEFT JOIN ({history}) {f} ON {on}")
    with duckdb.connect(config={"temp_directory": f"{tempfile.gettempdir()}/exfm-bench"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = f"(SELECT *, row_number() OVER () AS row FROM read_parquet('{folder}/entities.parquet'))"
        query = f"SELECT {', '.join(values)} FROM {rows} e {' '.join(joins)} ORDER BY e.row"
        return connection.sql(query).to_arrow_table().drop_columns("row")


def store_of(folder: Path, shape: Shape, offline: dict[str, Any]) -> tuple[Any, list[str]]:
    """A Feast store with the views, and the references of all features."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Float32, Int64

    repo_folder = Path(tempfile.mkdtemp(prefix="exfm-bench-"))
    config = RepoConfig(
        project="bench",
        registry={"registry_type": "sql", "path": f"sqlite:///{repo_folder}/registry.db"},
        online_store={"type": "sqlite", "path": f"{repo_folder}/online.db"},
        offline_store=offline,
        entity_key_serialization_version=3,
        repo_path=repo_folder,
    )
    objects: list[Any] = []
    for view in shape.views:
        entity = Entity(name=view.key, value_type=ValueType.INT64)
        source = FileSource(
            name=view.name,
            path=f"{folder}/{view.name}/*/*.parquet",
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        fields = [Field(name=view.key, dtype=Int64), *(Field(name=name, dtype=Float32) for name in view.features)]
        ttl = timedelta(seconds=view.ttl)
        objects += [entity, FeatureView(name=view.name, entities=[entity], ttl=ttl, schema=fields, source=source)]
    store = FeatureStore(config=config)
    store.apply(objects)
    return store, [f"{view.name}:{name}" for view in shape.views for name in view.features]


def by_feast(folder: Path, shape: Shape, offline: str) -> Callable[[], pa.Table]:
    store, references = store_of(folder, shape, {"type": offline})
    table = pq.read_table(folder / "entities.parquet")
    entities = table if offline == OURS else table.to_pandas()  # each as it likes it best

    def ask() -> pa.Table:
        answer: pa.Table = store.get_historical_features(entities, references).to_arrow()
        return answer

    store.get_historical_features(entities[:10], references).to_arrow()  # imports and registry
    return ask


def checksum(answer: pa.Table, shape: Shape) -> dict[str, float]:
    """Per feature: how many values there are, and a sum that tells which impression has which."""
    order = pc.sort_indices(answer["impression_id"])
    weights = pc.add(pc.bit_wise_and(answer["impression_id"].take(order), 1023), 1)
    sums: dict[str, float] = {}
    for name in (name for view in shape.views for name in view.features):
        values = answer[name].take(order).cast(pa.float64())
        sums[f"{name} values"] = answer.num_rows - values.null_count
        sums[f"{name} sum"] = round(pc.sum(pc.multiply(values, weights)).as_py() or 0.0, 3)
    return sums


def main(folder: Path, shape: Shape, arm: str, repeats: int) -> None:
    asks: dict[str, Callable[[], Callable[[], pa.Table]]] = {
        "polars": lambda: lambda: by_polars(folder, shape),
        "duckdb": lambda: lambda: by_duckdb(folder, shape),
        "asof": lambda: by_feast(folder, shape, OURS),
        "stock": lambda: by_feast(folder, shape, "duckdb"),
    }
    ask = asks[arm]()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "check": checksum(answer, shape)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), SHAPES[sys.argv[2]], sys.argv[3], int(sys.argv[4]))
