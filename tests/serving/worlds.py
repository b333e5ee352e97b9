"""A network over every kind of input, its raw rows, and its release; what the tests of this room share."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from exfm.encoding import (
    COUNT,
    NUMBER,
    Encoding,
    ages_encoding,
    bucket_encoding,
    cross_encoding,
    id_encoding,
    list_encoding,
    number_encoding,
    quantile_encoding,
    vector_encoding,
)
from exfm.learning import Training
from exfm.networks import DCNv2
from models.checkpoint import manifest_of, save_serving
from models.learner import Learner
from models.manifest import Manifest
from models.network_spec import BagSpec, NetworkSpec, SideSpec
from pipeline.transforms.inputs import tensors_for

START = datetime(2026, 1, 1, tzinfo=UTC)
ENCODER: dict[str, Encoding] = {
    "user_id": id_encoding("user_id", int),
    "item_id": id_encoding("item_id", str),
    "both": cross_encoding("both", ("user_id", "item_id", "country")),
    "country": id_encoding("country", str),
    "range": bucket_encoding("range", "price", (1.0, 10.0, 100.0)),
    "ranked": quantile_encoding("price"),
    "clicks": COUNT,
    "rate": NUMBER,
    "price": number_encoding("signed_log1p", "zero"),
    "image": vector_encoding(3),
    "seen": list_encoding("item_id", str, 4),
    "when": ages_encoding("when"),
    "tags": list_encoding("tags", int),
}
SPEC = NetworkSpec(
    ids=(("user_id", 97), ("item_id", 89), ("both", 211), ("range", 40), ("ranked", 6)),
    numbers=("clicks", "rate", "price"),
    tasks=("click",),
    network=DCNv2(embedding=4, hidden=(16,)),
    histories=(("seen", "item_id"),),
    bags=(BagSpec(name="tags", of=None, rows=53, pooling="mean"),),
    vectors=(("image", 3),),
    quantiles=(("ranked", 5),),
    sides=(SideSpec(name="when", list="seen", of=None, rows=64),),
    unbounded=("price",),
)


def rows_of(count: int, seed: int = 0) -> pl.DataFrame:
    """Raw rows with nulls, NaN, infinity, empty and long lists, huge ids and any text."""
    draws = np.random.default_rng(seed)

    def some(values: Any, share: float = 0.15) -> list[Any]:
        return [None if draws.uniform() < share else value for value in values]

    lengths = draws.integers(0, 7, count)
    seen = [[f"é{n}" for n in draws.integers(0, 50, length)] for length in lengths]
    moments = [[int(START.timestamp()) - int(n) for n in draws.integers(-5, 10**6, length)] for length in lengths]
    missing = draws.uniform(size=count) < 0.1
    prices = draws.normal(size=count) * 50
    prices[: min(3, count)] = [np.inf, np.nan, -np.inf][:count]
    return pl.DataFrame(
        {
            "event_timestamp": [START + timedelta(microseconds=int(n)) for n in draws.integers(0, 10**9, count)],
            "user_id": some([int(n) for n in draws.choice([5, -3, 2**62, 0, *range(20)], count)]),
            "item_id": some([f"item/{n}😀" for n in draws.integers(0, 60, count)]),
            "country": some(draws.choice(["DE", "", "日本"], count).tolist()),
            "clicks": pl.Series(some(draws.integers(0, 1000, count).tolist()), dtype=pl.Int64),
            "rate": pl.Series(some(draws.uniform(size=count).tolist()), dtype=pl.Float32),
            "price": pl.Series(some(prices.tolist()), dtype=pl.Float32),
            "image": pl.Series(some(draws.normal(size=(count, 3)).tolist()), dtype=pl.List(pl.Float32)),
            "seen": pl.Series([None if gone else one for gone, one in zip(missing, seen, strict=True)]),
            "when": pl.Series(
                [None if gone else one[:4] for gone, one in zip(missing, moments, strict=True)], dtype=pl.List(pl.Int64)
            ),
            "tags": pl.Series(some([draws.integers(0, 9, n).tolist() for n in draws.integers(0, 5, count)])),
        }
    )


def released(folder: Path, slices: int = 3, table: str = "float32") -> tuple[Learner, Manifest]:
    """A network that has learnt from some slices, released into a folder."""
    learner = Learner.create(SPEC, Training(batch_size=64, seed=3), None, "cpu")
    manifest = manifest_of(
        learner, 0, "", version="v1", model="student/s", slice="2026-01-01", declaration="d", parent=None,
        trained_until=None, rows=0, encoder=ENCODER,
    )  # fmt: skip
    import torch

    for seed in range(slices):
        frame = rows_of(300, seed + 100)
        tensors = tensors_for(manifest, frame)
        follows = torch.from_numpy(frame["clicks"].fill_null(0).to_numpy() > 500).float() * 0.6 + 0.2
        labels = (torch.rand(300, generator=torch.Generator().manual_seed(seed)) < follows).float().unsqueeze(1)
        object.__setattr__(tensors, "labels", labels)
        learner.fit(tensors, f"slice {seed}")
    return learner, save_serving(folder, learner, manifest, table)


def columns_of(frame: pl.DataFrame) -> dict[str, list[Any]]:
    return {name: frame[name].to_list() for name in frame.columns if name != "event_timestamp"}
