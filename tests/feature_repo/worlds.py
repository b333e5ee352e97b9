"""Small Feast stores and random histories for the tests of the offline store."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float32, Int64, String

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
UTC_US = pa.timestamp("us", "UTC")
ASOF = "feast_asof.store.AsofOfflineStore"
HISTORY = pa.schema(
    [
        ("user_id", pa.int64()),
        ("surface", pa.string()),
        ("event_timestamp", UTC_US),
        ("created_timestamp", UTC_US),
        ("clicks", pa.int64()),
        ("rate", pa.float32()),
    ]
)


def at(hours: float) -> datetime:
    return START + hours * HOUR


_NUMBERS = count()


def make_store(folder: Path, views: Sequence[object], offline: str = ASOF, **more: object) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    config = RepoConfig(
        project=f"tests_{next(_NUMBERS)}",  # Feast tells registries in memory apart by address and project alone
        registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
        online_store={"type": "sqlite", "path": f"{folder}/online.db"},
        offline_store={"type": offline},
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
        repo_path=folder,
        **more,
    )
    store = FeatureStore(config=config)
    entities = [
        Entity(name="user_id", value_type=ValueType.INT64),
        Entity(name="surface", value_type=ValueType.STRING),
    ]
    store.apply([*entities, *views])
    return store


def activity_view(path: Path, name: str = "activity", ttl: timedelta = timedelta(0), **source: object) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[
            Entity(name="user_id", value_type=ValueType.INT64),
            Entity(name="surface", value_type=ValueType.STRING),
        ],
        ttl=ttl,
        schema=[
            Field(name="user_id", dtype=Int64),
            Field(name="surface", dtype=String),
            Field(name="clicks", dtype=Int64),
            Field(name="rate", dtype=Float32),
        ],
        source=FileSource(
            name=name,
            path=str(path),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
            **{"file_format": ParquetFormat(), **source},
        ),
    )


def write_history(rows: Sequence[dict[str, object]], folder: Path, schema: pa.Schema = HISTORY) -> None:
    """One file per six hours, so that most questions can skip some."""
    slices: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        slices.setdefault((row["event_timestamp"] - START) // (6 * HOUR), []).append(row)
    for index, members in slices.items():
        path = folder / f"slice={index}" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(members, schema=schema), path)


@dataclass(frozen=True)
class World:
    history: list[dict[str, object]]
    entities: list[dict[str, object]]


def random_world(seed: int) -> World:
    """Hours on a small grid, so that ties, equal moments and ttl edges are common; nulls and duplicates besides."""
    rng = random.Random(seed)
    users, surfaces = [1, 2, None], ["feed", "search", None]
    history = []
    for _ in range(rng.randrange(1, 120)):
        hour = rng.randrange(16)
        created = rng.choice([None, *[at(hour + delay) for delay in (-1, 0, 0, 0, 5, 12)]])
        row = {"user_id": rng.choice(users), "surface": rng.choice(surfaces), "event_timestamp": at(hour)}
        values = {"clicks": rng.choice([None, rng.randrange(1000)]), "rate": rng.choice([None, rng.random()])}
        history.append({**row, "created_timestamp": created, **values})
    clock = rng.choice([None, at(rng.randrange(30))])
    entities: list[dict[str, object]] = []
    for index in range(rng.randrange(1, 40)):
        moment = clock or at(rng.randrange(-2, 30)) + rng.choice([0, 0, 1, -1]) * timedelta(microseconds=1)
        given = {"user_id": rng.choice([*users, 99]), "surface": rng.choice(surfaces), "event_timestamp": moment}
        entities.append({**given, "label": index})
        if rng.random() < 0.2:
            entities.append({**given, "label": -index})
    return World(history, entities)


def known_rows(
    world: World, entity: dict[str, object], ttl: timedelta, *, cutoff: bool
) -> list[tuple[int | None, float | None]]:
    """Brute force: the values that may be served for one entity row; several only if rows tie in both clocks."""
    now = entity["event_timestamp"]
    never = datetime.min.replace(tzinfo=UTC)
    candidates = [
        (row["event_timestamp"], row["created_timestamp"] or never, row)
        for row in world.history
        if None not in (entity["user_id"], entity["surface"])
        and (row["user_id"], row["surface"]) == (entity["user_id"], entity["surface"])
        and row["event_timestamp"] <= now
        and (not cutoff or (row["created_timestamp"] is not None and row["created_timestamp"] <= now))
    ]
    if not candidates or (ttl and now - max(candidates, key=lambda f: f[:2])[0] > ttl):
        return [(None, None)]
    newest = max(f[:2] for f in candidates)
    return [(row["clicks"], _float32(row["rate"])) for t, c, row in candidates if (t, c) == newest]


def _float32(value: object) -> object:
    return None if value is None else pa.scalar(value, pa.float32()).as_py()
