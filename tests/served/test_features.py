"""Served features in the place of joined ones: against a loop over rows of every type, with nulls, NaN, empty lists."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.encoding import Encoding, ages_encoding, list_encoding
from exfm.served_inputs import ServedInputs
from exfm.state import State
from pipeline.served import inputs
from pipeline.served.inputs import COLUMNS, ROWS, WITHOUT, WORST, ServedFeatures
from pipeline.served.rows import Served
from pipeline.workspace import Workspace
from tests.tiny import tiny_project

AT = datetime(2026, 1, 1, tzinfo=UTC)
FLOATS, VECTOR, IDS = pl.List(pl.Float32()), pl.List(pl.Float32()), pl.List(pl.String())
# Column -> the types in which it is joined, and in which the request log has it.
TYPES: dict[str, tuple[Any, Any]] = {
    "user_id": (pl.Int64(), pl.Int64()), "country": (pl.String(), pl.String()), "price": (pl.Float64(), pl.Float64()),
    "tags": (IDS, IDS), "a__count": (pl.Int64(), pl.Float64()), "a__rate": (pl.Float32(), pl.Float64()),
    "a__image": (VECTOR, VECTOR), "h__last": (pl.List(pl.Int64()), pl.List(pl.Int64())),
    "h__at": (pl.List(pl.Int64()), pl.List(pl.Int64())), "h__text": (pl.String(), pl.String()),
}  # fmt: skip
ENCODER: dict[str, Encoding] = {
    "tags": list_encoding("tags", str, 2),
    "h__last": list_encoding("item_id", int),
    "h__at": Encoding(**{**vars(ages_encoding("h__at")), "of": ("h__last",)}),
}


def value(name: str, draws: random.Random) -> Any:
    some: dict[str, Callable[[], Any]] = {
        "user_id": lambda: draws.randrange(3), "country": lambda: draws.choice(["DE", ""]),
        "price": lambda: draws.choice([0.0, 1.5, 1.5 + 1e-9, math.nan, math.inf, -math.inf]),
        "tags": lambda: [draws.choice("ab") for _ in range(draws.randrange(4))],
        "a__count": lambda: draws.randrange(4), "a__rate": lambda: draws.choice([0.1, 0.25, 1 / 3, 0.3333]),
        "a__image": lambda: [draws.choice([0.5, 1 / 3]), 1.0], "h__last": lambda: [1] * draws.randrange(3),
        "h__at": lambda: [draws.randrange(2)] * draws.randrange(3), "h__text": lambda: draws.choice(["x", "y"]),
    }  # fmt: skip
    return None if draws.random() < 0.2 else some[name]()


def f32(number: Any) -> Any:
    return pl.Series([number], dtype=pl.Float32)[0]


def differ(name: str, served: Any, joined: Any) -> tuple[bool, bool, bool]:
    """Whether both differ, and which of them is nothing; plainly."""
    if TYPES[name][0] in (pl.Float64(), pl.Float32()):
        served, joined = (None if each is None or math.isnan(each) else each for each in (served, joined))
    if isinstance(TYPES[name][0], pl.List):
        served, joined = (each[:2] if each is not None and name == "tags" else each for each in (served, joined))
        served, joined = served or None, joined or None
    if served is None or joined is None:
        return served is not joined, served is None, joined is None
    if isinstance(served, float) and isinstance(joined, float) and math.isfinite(served) and math.isfinite(joined):
        return abs(served - joined) > 1e-5 * max(abs(served), abs(joined)), False, False
    return served != joined, False, False


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServedFeatures:
    work = Workspace(tiny_project(), State(folder=tmp_path, log=tmp_path))
    made = ServedFeatures(work, ServedInputs(), [*TYPES, "item_id", "hour_of_day"])
    monkeypatch.setattr(made, "_encoder", ENCODER, raising=False)
    return made


def parts(seed: int, reads: tuple[tuple[str, ...], ...]) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Impressions with joined features, and what releases served, each with its columns."""
    draws, count = random.Random(seed), 300
    plain = [{"impression_id": at, "event_timestamp": AT + timedelta(seconds=at), "item_id": at,
              **{name: value(name, draws) for name in TYPES}} for at in range(count)]  # fmt: skip
    joined = pl.DataFrame(plain, schema_overrides={name: kinds[0] for name, kinds in TYPES.items()}, strict=False)
    ids, groups = draws.sample(range(count), 200), []
    for at, names in enumerate(reads):
        rows = []
        for row in ids[at :: len(reads) + 1]:
            same = {name: joined[name][row] for name in names}
            plainly = {name: each.to_list() if isinstance(each, pl.Series) else each for name, each in same.items()}
            drawn = {name: value(name, draws) for name in names}
            served = {name: plainly[name] if draws.random() < 0.5 else drawn[name] for name in names}
            rows.append({"impression_id": row, "item_id": row, **served})
        kinds = {name: TYPES[name][1] for name in names}
        groups.append(pl.DataFrame(rows, schema_overrides=kinds, strict=False, infer_schema_length=None))
    return joined, groups


@pytest.mark.parametrize("seed", range(4))
def test_columns_that_were_read_are_put_in_and_all_differences_counted(
    features: ServedFeatures, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    reads = (tuple(TYPES), ("country", "a__rate", "h__at", "h__text"), ("a__count", "price"))
    joined, groups = parts(seed, reads)
    monkeypatch.setattr(inputs, "served_rows", lambda *_: Served(groups))
    put = features.into(joined)
    assert put.schema == joined.schema and put["impression_id"].equals(joined["impression_id"])
    counts: dict[str, list[int]] = {}
    expected = {row["impression_id"]: dict(row) for row in joined.to_dicts()}
    for names, group in zip(reads, groups, strict=True):
        for row in group.to_dicts():
            for name in names:
                before = expected[row["impression_id"]][name]
                served = f32(row[name]) if name == "a__rate" else row[name]
                answer = differ(name, served, before)
                counted = counts.setdefault(name, [0, 0, 0, 0])
                for place, so in enumerate((True, answer[0], *(answer[0] and each for each in answer[1:]))):
                    counted[place] += so
                # h__at alone can't stand beside a joined h__last.
                together = "h__last" in names or not name.startswith("h__") or name == "h__text"
                if "__" in name and together and not (before == [] and served is None):
                    expected[row["impression_id"]][name] = served
    told = features.told()
    assert {name: list(counted.values()) for name, counted in told[COLUMNS].items()} == counts  # type: ignore[attr-defined]
    assert all(0 < counted[1] < counted[0] for counted in counts.values())
    assert told[ROWS] == sum(map(len, groups)) and told[WITHOUT] == 300 - sum(map(len, groups))
    assert told[WORST] == max(counted[1] / counted[0] for counted in counts.values())
    for row in put.to_dicts():
        for name, each in row.items():
            wanted = expected[row["impression_id"]][name]
            same = each == wanted or (isinstance(each, float) and math.isnan(each) and math.isnan(wanted))
            assert same, (row["impression_id"], name, each, wanted)


def test_a_column_of_another_type_is_joined_and_said(features: ServedFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, (group,) = parts(9, (("h__text", "a__count"),))
    other = group.with_columns(h__text=pl.lit(5))
    monkeypatch.setattr(inputs, "served_rows", lambda *_: Served([other]))
    put = features.into(joined)
    assert put["h__text"].equals(joined["h__text"], null_equal=True)
    assert not put["a__count"].equals(joined["a__count"], null_equal=True)
    assert list(features.sentences()) == [
        "h__text was served in another type than it is declared with now: it is joined"
    ]
