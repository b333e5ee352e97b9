"""Random questions to an offline store, with their answers by brute force.

Belongs here: what may be asked, and a loop over all rows. Not here: asking (test_asof_properties.py).
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Int64, String

from tests.feature_repo.worlds import HOUR, START

TTL = 5 * HOUR
KEYS = {"user": ("user_id",), "pair": ("user_id", "surface"), "item": ("item",), "hashed": ("hashed_id",), "all": ()}
VALUES = {
    "user_id": [1, 2, 3, None],
    "surface": ["feed", "search", None],
    "item": ["a", "b", "ü", "", None],
    "hashed_id": [-(2**61), -1, 7, 2**61 + 1, None],
    "viewer_id": [1, 2, 99, None],
}
TYPES = {name: pa.string() if name in ("surface", "item") else pa.int64() for name in VALUES}
MODES = ("memory", "turns", "pieces", "duckdb", "duckdb pieces", "sweep pieces")
LIMITS = (2_000, 10_000, 30_000)  # bytes, of a sweep: histories do not fit, and newest rows of all keys do or do not
FORMS = ("arrow", "pandas", "polars", "sql", "path")
UNITS = {"ms": 1000, "us": 1, "ns": 1}  # microseconds that the clocks of files are a multiple of


@dataclass(frozen=True)
class Case:
    """``clock`` and ``created`` of rows are in microseconds; ``rows`` by view, without the ttl in its name."""

    rows: dict[str, list[dict[str, object]]]
    entities: list[dict[str, object]]
    cutoff: bool
    mode: str
    form: str
    chunk_rows: int
    limit: int


def micros(hour: float) -> int:
    return int((START + hour * HOUR).timestamp()) * 1_000_000


def random_case(rng: Random) -> Case:
    """Clocks on a small grid, so that ties, equal moments and ttl edges are common; nulls and duplicates besides."""
    rows = {shape: _random_rows(rng, keys) for shape, keys in KEYS.items()}
    standing = rng.choice([None, None, micros(rng.randrange(20))])
    entities: list[dict[str, object]] = []
    for index in range(rng.choice([0, 1, 5, 20])):
        clock = standing if standing is not None else micros(rng.randrange(-2, 26)) + rng.choice([0, 0, 0, 1, -1])
        entity = {name: rng.choice(values) for name, values in VALUES.items()}
        entity |= {"clock": None if rng.random() < 0.05 else clock, "label": index}
        entities += [entity] * rng.choice([1, 1, 1, 2])
    mode = rng.choice(MODES)
    if mode == "sweep pieces" and rng.random() < 0.8:  # in order of time, but for a null
        unknown = rng.choice([0, micros(12)])
        entities.sort(key=lambda entity: unknown if entity["clock"] is None else entity["clock"])
        entities = [{**entity, "label": label} for label, entity in enumerate(entities)]
    ways = rng.choice(FORMS), rng.choice([1, 3, 7]), rng.choice(LIMITS)
    return Case(rows, entities, rng.random() < 0.5, mode, *ways)


def _random_rows(rng: Random, keys: tuple[str, ...]) -> list[dict[str, object]]:
    rows = []
    for number in range(rng.choice([1, 4, 40])):
        hour = rng.randrange(16)
        delay = rng.choice([None, -1, 0, 0, 0, 5, 12])
        row: dict[str, object] = {name: rng.choice(VALUES[name]) for name in keys}
        row["clock"] = None if rng.random() < 0.03 else micros(hour) + rng.choice([0, 0, 0, 1000])
        row["created"] = None if delay is None else micros(hour + delay)
        row["value"] = rng.choice([None, number, number])
        rows.append(row)
    return rows


def served(case: Case, view: str, entity: dict[str, object]) -> set[object]:
    """Brute force: the values that may be served; several only if rows tie in both clocks."""
    shape = "pair" if view == "viewed" else view.removesuffix("_ttl")
    keys = {name: "viewer_id" if view == "viewed" and name == "user_id" else name for name in KEYS[shape]}
    now = entity["clock"]
    known = [
        (row["clock"], -(2**62) if row["created"] is None else row["created"], row["value"])
        for row in case.rows[shape]
        if now is not None
        and row["clock"] is not None
        and all(row[name] is not None and row[name] == entity[given] for name, given in keys.items())
        and row["clock"] <= now
        and (not case.cutoff or (row["created"] is not None and row["created"] <= now))
    ]
    if not known:
        return {None}
    newest = max(row[:2] for row in known)
    if view.endswith("_ttl") and now - newest[0] > TTL // timedelta(microseconds=1):
        return {None}
    return {value for *clocks, value in known if tuple(clocks) == newest}


def write_rows(rng: Random, case: Case, folder: Path) -> None:
    """Each view's rows as one file or several, with clocks of one unit a view and integers of either width."""
    for shape, rows in case.rows.items():
        unit, zone, files = rng.choice(list(UNITS)), rng.choice([None, "UTC"]), rng.choice([1, 1, 3])
        as_folder = shape == "pair" and rng.random() < 0.3 and all(row["surface"] for row in rows)
        for index in range(files):
            some = rows[index::files]
            target = folder / shape / f"part={index}" / "rows.parquet"
            width = rng.choice([pa.int32(), pa.int64()])
            if not as_folder:
                _write(rng, some, KEYS[shape], (unit, zone), width, target)
                continue
            for surface in sorted({str(row["surface"]) for row in some}):
                named = [row for row in some if row["surface"] == surface]
                _write(
                    rng, named, ("user_id",), (unit, zone), width, target.parent / f"surface={surface}" / "r.parquet"
                )


def _write(
    rng: Random,
    rows: list[dict[str, object]],
    keys: tuple[str, ...],
    clock: tuple[str, str | None],
    width: pa.DataType,
    path: Path,
) -> None:
    columns = {name: pa.array([row[name] for row in rows], TYPES[name]) for name in keys}
    if "user_id" in columns:
        columns["user_id"] = columns["user_id"].cast(width)
    for name, field in (("event_timestamp", "clock"), ("created_timestamp", "created")):
        columns[name] = moments([row[field] for row in rows], *clock, noise=rng.random() < 0.5)
    columns["val"] = pa.array([row["value"] for row in rows], pa.int64())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=max(1, len(rows) // 2))


def moments(values: list[int | None], unit: str, zone: str | None, *, noise: bool = False) -> pa.Array:
    """Microseconds as timestamps of a unit; with noise, nanoseconds get a part below a microsecond, to be ignored."""
    scaled = [
        None if v is None else v // 1000 if unit == "ms" else v * 1000 + 999 * noise if unit == "ns" else v
        for v in values
    ]
    return pa.array(scaled, pa.int64()).cast(pa.timestamp(unit, zone))


def objects(folder: Path) -> list[object]:
    """Entities, two views a shape (with and without a ttl), and a service that maps one of a view's two keys."""
    kinds = {name: ValueType.STRING if dtype == pa.string() else ValueType.INT64 for name, dtype in TYPES.items()}
    entities = {name: Entity(name=name, value_type=kinds[name]) for name in TYPES if name != "viewer_id"}
    views = {}
    for shape, keys in KEYS.items():
        for name, ttl in ((shape, timedelta(0)), (f"{shape}_ttl", TTL)):
            fields = [Field(name=key, dtype=String if TYPES[key] == pa.string() else Int64) for key in keys]
            source = FileSource(
                name=name,
                path=str(folder / shape),
                file_format=ParquetFormat(),
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
                field_mapping={"val": "value"},
            )
            views[name] = FeatureView(
                name=name,
                entities=[entities[key] for key in keys],
                ttl=ttl,
                schema=[*fields, Field(name="value", dtype=Int64)],
                source=source,
            )
    viewed = views["pair"].with_name("viewed").with_join_key_map({"user_id": "viewer_id"})
    # Feast can't compare services that hold a view with and without an alias.
    requested = [view.with_name("pair") if name == "pair" else view for name, view in views.items()]
    return [*entities.values(), *views.values(), FeatureService(name="every", features=[*requested, viewed])]


def entity_table(case: Case, rng: Random) -> pa.Table:
    """The entity rows, with a clock of any unit and zone."""
    unit, zone = rng.choice(["us", "ns"]), rng.choice([None, "UTC", "America/New_York"])
    columns = {name: pa.array([row[name] for row in case.entities], TYPES[name]) for name in VALUES}
    clock = moments([row["clock"] for row in case.entities], unit, "UTC")
    columns["event_timestamp"] = clock.cast(pa.timestamp(unit, zone))
    columns["label"] = pa.array([row["label"] for row in case.entities], pa.int64())
    return pa.table(columns)
