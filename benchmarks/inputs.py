"""Inputs: what each kind gives on a log in which it carries signal, and what it costs where it carries none.

    python -m benchmarks.inputs [--seeds 5] [--slices 20] [--rows 20000]

One network is trained on a synthetic stream with ids alone, with one input more, and with that input's values dealt to
other rows, which leaves it without a signal; of what stands beside a list only that is dealt. Same seeds, same rows,
same batches: differences are paired. Judged on the two newest slices, which none has learnt from.

Belongs here: the stream, the arms, the table. Not here: inputs (exfm/inputs.py), reading them (pipeline/transforms/).
"""

import argparse
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from exfm.columns import Columns
from exfm.encoding import AGE_ROWS, Encoding, id_encoding
from exfm.history_views import HistoryView
from exfm.inputs import Bag, Bucket, Cross, LogInput, Number, Vector
from exfm.learning import Training
from exfm.networks import DCNv2
from models.batch import SliceTensors
from models.learner import Learner
from models.metrics import calibration, normalised_entropy
from models.network_spec import BagSpec, NetworkSpec, SideSpec
from pipeline.transforms.inputs import slice_tensors

USERS, ITEMS, TAGS, WIDTH = 3_000, 300, 200, 16
NETWORK, TRAINING = DCNv2(embedding=8, cross=2, hidden=(64, 32)), Training(batch_size=512)
DTYPES: dict[str, type] = {"user_id": int, "item_id": int, "device": int, "hour": int}
IDS = (("user_id", 10_000), ("item_id", 1_000), ("device", 16), ("hour", 64))
PRICE = Number(name="price", treatment="log1p")
PAST = HistoryView(
    name="past", entity="user_id", of="item_id", source="interactions", window=timedelta(days=1),
    every=timedelta(hours=1), since=True,
)  # fmt: skip
NOW, HOUR = datetime(2026, 1, 1, tzinfo=UTC), 3600


@dataclass(frozen=True)
class Kind:
    """An input, and the columns whose values are dealt anew to take its signal away; ``past``: whether it is PAST."""

    read: tuple[LogInput, ...]
    dealt: tuple[str, ...]
    past: bool = False


KINDS = {
    "Number": Kind((PRICE,), ("price",)),
    "Bucket": Kind(
        (Number(name="age"), Bucket(name="age_range", of="age", edges=(18.0, 25.0, 35.0, 50.0, 65.0))), ("age",)
    ),
    "Bucket, quantiles": Kind((Number(name="age"), Bucket(name="age_rank", of="age", quantiles=20)), ("age",)),
    "Vector": Kind((Vector(name="image", width=WIDTH),), ("image",)),
    "Bag, mean": Kind((Bag(name="tags", rows=1_000),), ("tags",)),
    "Bag, attention": Kind((Bag(name="seen", of="item_id", pooling="attention"),), ("seen",)),
    "Bag, a bag beside it": Kind(
        (Bag(name="met", of="item_id", pooling="attention", beside=("acts",)), Bag(name="acts", rows=64)), ("acts",)
    ),
    "History with times": Kind((), ("past__at",), past=True),
    "Cross": Kind((Cross(name="device_hour", of=("device", "hour"), rows=2_000),), ()),
}


class World:
    """Users, items and devices stay; what is shown differs from row to row, so ids don't tell of it."""

    def __init__(self, seed: int) -> None:
        self.seed, random = seed, np.random.default_rng([seed, 0])
        self.users, self.items = 0.5 * random.standard_normal(USERS), 0.5 * random.standard_normal(ITEMS)
        self.direction = random.standard_normal(WIDTH) / np.sqrt(WIDTH)
        self.tags = random.standard_normal(TAGS)
        self.pairs = 0.7 * random.standard_normal((8, 24))

    def slice(self, index: int, rows: int) -> pl.DataFrame:
        """One slice's impressions with every kind of input, and ``label``."""
        random = np.random.default_rng([self.seed, 1, index])
        users, items = random.integers(0, USERS, rows), random.integers(0, ITEMS, rows)
        device, hour = random.integers(0, 8, rows), random.integers(0, 24, rows)
        price, age = random.standard_normal(rows), random.uniform(15, 80, rows)
        image = random.standard_normal((rows, WIDTH))
        tags, seen = random.integers(0, TAGS, (rows, 4)), random.integers(0, ITEMS, (rows, 5))
        again = random.uniform(size=rows) < 0.3
        seen[again, 0] = items[again]
        met, acts, past, ages = (random.integers(0, high, (rows, 5)) for high in (ITEMS, 3, ITEMS, 24 * HOUR))
        once, before = random.uniform(size=(2, rows)) < 0.3
        met[once, 0], past[before, 0] = items[once], items[before]
        liked, lately = once * np.array([-1.5, 0.0, 1.5])[acts[:, 0]], before * np.where(ages[:, 0] < 3 * HOUR, -2, 1)
        effects = (
            self.users[users], self.items[items], 0.6 * price, 0.6 * np.sin(age / 8), 0.8 * image @ self.direction,
            0.4 * self.tags[tags].sum(axis=1), 2.0 * again, self.pairs[device, hour],
            liked, lately,
        )  # fmt: skip
        chance = 1 / (1 + np.exp(2.0 - sum(effects)))
        return pl.DataFrame(
            {
                "impression_id": np.arange(rows), "user_id": users, "item_id": items, "device": device,
                "hour": hour, "price": np.exp(1.5 * price), "age": age, "image": image.astype(np.float32).tolist(),
                "tags": tags.tolist(), "seen": seen.tolist(),
                "met": met.tolist(), "acts": acts.tolist(), "past__last": past.tolist(),
                "past__at": (int(NOW.timestamp()) - ages).tolist(), "event_timestamp": [NOW] * rows,
                "label": (random.uniform(size=rows) < chance).astype(np.int8),
            }
        )  # fmt: skip


def sides_of(kind: Kind) -> tuple[SideSpec, ...]:
    """What stands beside the lists that a kind reads."""
    bags = {bag.name: bag for bag in kind.read if isinstance(bag, Bag)}
    beside = [(side, name, bags[side].rows or 0) for name, bag in bags.items() for side in bag.beside]
    beside += [("past__at", "past__last", AGE_ROWS)] if kind.past else []
    return tuple(SideSpec(name=side, list=of, of=None, rows=rows) for side, of, rows in beside)


def columns_of(kind: Kind) -> Columns:
    """The ids, and what a kind reads."""
    read, sides = kind.read, tuple(side.name for side in sides_of(kind))
    return Columns(
        ids=tuple(name for name, _ in IDS),
        features=(),
        numbers=tuple(each.name for each in read if isinstance(each, Number)),
        vectors=tuple(each.name for each in read if isinstance(each, Vector)),
        histories=("past__last",) if kind.past else (),
        sides=sides,
        bags=tuple(each.name for each in read if isinstance(each, Bag) and each.name not in sides),
        derived=tuple(each.name for each in read if isinstance(each, Cross | Bucket)),
    )


def learner_of(kind: Kind, seed: int, negatives: float = 1.0) -> Learner:
    """An untrained network that reads them."""
    read, sides = kind.read, sides_of(kind)
    made = tuple((each.name, each.rows) for each in read if isinstance(each, Cross | Bucket))
    spec = NetworkSpec(
        ids=(*IDS, *made),
        numbers=tuple(each.name for each in read if isinstance(each, Number)),
        tasks=("label",),
        network=NETWORK,
        bags=tuple(
            BagSpec(name=bag.name, of=bag.of, rows=bag.rows or 0, pooling=bag.pooling, target="item_id")
            for bag in read
            if isinstance(bag, Bag) and bag.name not in {side.name for side in sides}
        ),
        histories=(("past__last", "item_id"),) if kind.past else (),
        sides=sides,
        quantiles=tuple(
            (each.name, each.quantiles) for each in read if isinstance(each, Bucket) and each.quantiles is not None
        ),
        vectors=tuple((each.name, each.width) for each in read if isinstance(each, Vector)),
    )
    return Learner.create(spec, replace(TRAINING, seed=seed, negatives=negatives), None, "cpu")


def tensors_of(frame: pl.DataFrame, kind: Kind) -> SliceTensors:
    """A slice as a network reads it."""
    encoder: dict[str, Encoding] = {name: id_encoding(name, dtype) for name, dtype in DTYPES.items()}
    encoder |= {each.name: each.encoding_among(DTYPES) for each in kind.read}
    encoder |= {f"past__{feature}": PAST.encoding(feature, DTYPES) for feature in PAST.features}
    labels = frame.select("impression_id", "label")
    return slice_tensors(frame, labels, columns_of(kind), ("label",), encoder)


def ne_of(seed: int, kind: Kind, slices: int, rows: int, *, dealt: bool) -> float:
    """NE on the two newest slices of a network that was trained on those before."""
    world, model = World(seed), learner_of(kind, seed)
    logits, labels = [], []
    for index in range(slices):
        frame, random = world.slice(index, rows), np.random.default_rng([seed, 2, index])
        if dealt:
            order = random.permutation(rows)
            frame = frame.with_columns(frame[name][order] for name in kind.dealt)
        tensors = tensors_of(frame, kind)
        if index < slices - 2:
            model.fit(tensors, f"{index}")
        else:
            logits.append(model.predict(tensors)[:, 0].numpy())
            labels.append(tensors.labels[:, 0].numpy())
    return normalised_entropy(np.concatenate(logits), np.concatenate(labels))


def learnt_from(share: float, seed: int, slices: int, rows: int) -> tuple[float, float, float, float]:
    """Of a network with ids, a price and tags that learns from a share of the negatives.

    Returns:
        NE and calibration on the two newest slices, rows learnt from, seconds.
    """
    kind = Kind((PRICE, Bag(name="tags", rows=1_000)), ())
    world, model = World(seed), learner_of(kind, seed, negatives=share)
    logits, labels, learnt, seconds = [], [], 0, 0.0
    for index in range(slices):
        tensors = tensors_of(world.slice(index, rows), kind)
        if index < slices - 2:
            report = model.fit(tensors, f"{index}")
            learnt, seconds = learnt + report.rows, seconds + report.seconds
        else:
            logits.append(model.predict(tensors)[:, 0].numpy())
            labels.append(tensors.labels[:, 0].numpy())
    scored = (np.concatenate(logits), np.concatenate(labels))
    return normalised_entropy(*scored), calibration(*scored), learnt, seconds


def negatives_table(seeds: int, size: tuple[int, int], console: Console) -> Table:
    """What learning from fewer negatives costs and saves."""
    table = Table(
        "negatives", "NE against all", "calibration", "rows learnt from", "seconds", title="Training.negatives"
    )
    whole = np.array([learnt_from(1.0, seed, *size) for seed in range(seeds)])
    for share in (1.0, 0.5, 0.25, 0.1):
        with console.status(f"negatives={share}"):
            mine = whole if share == 1.0 else np.array([learnt_from(share, seed, *size) for seed in range(seeds)])
        worse = 100 * (mine[:, 0] / whole[:, 0] - 1)
        spread = 2 * worse.std(ddof=1) / np.sqrt(seeds)
        cost = "–" if share == 1.0 else f"{worse.mean():+.2f} ± {spread:.2f} %"
        others = (mine[:, column] for column in (1, 2, 3))
        calibrated, rows, seconds = (float(np.mean(each)) for each in others)
        table.add_row(f"{share:g}", cost, f"{calibrated:.3f}", f"{rows:,.0f}", f"{seconds:.1f}")
    return table


def main() -> None:
    """Print NE without, the gain with, and the gain of values that say nothing; ± two standard errors over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--rows", type=int, default=20_000)
    given, console = parser.parse_args(), Console()
    table = Table(
        "input", "NE without", "gain with it", "gain of dealt values", title=f"{given.seeds} seeds, {machine()}"
    )
    size = (given.slices, given.rows)
    without = np.array([ne_of(seed, Kind((), ()), *size, dealt=False) for seed in range(given.seeds)])
    for name, kind in KINDS.items():
        cells = []
        for dealt in (False, True) if kind.dealt else (False,):
            with console.status(f"{name}{', dealt' if dealt else ''}"):
                mine = np.array([ne_of(seed, kind, *size, dealt=dealt) for seed in range(given.seeds)])
            gains = 100 * (without - mine) / without
            cells.append(f"{gains.mean():+.2f} ± {2 * gains.std(ddof=1) / np.sqrt(len(gains)):.2f} %")
        table.add_row(name, f"{without.mean():.4f}", *cells, *(["–"] if len(cells) < 2 else []))
    console.print(table)
    console.print(negatives_table(given.seeds, size, console))


if __name__ == "__main__":
    main()
