"""Criteo_x4: a week of display ads, in random order; 13 counts and 26 ids without a meaning.

The benchmark reads a count x as an id: floor(ln(x)^2) above 2, else x itself, and 0 where it is missing (its own
description says log2, its code does this). Rare ids share rows by their hash.
"""

from exfm import Column, DCNv2, Files, FixedSplit, From, Training
from projects.fixed_splits.figures import CRITEO, PROTOCOL

COUNTS = tuple(f"I{number}" for number in range(1, 14))
IDS = tuple(f"C{number}" for number in range(1, 27))


def _range_of(column: str) -> str:
    value = f"coalesce(try_cast({column} AS DOUBLE), 0)"
    return f"CASE WHEN {value} > 2 THEN floor(ln({value}) ** 2) ELSE trunc({value}) END"


def _files(name: str) -> Files:
    return Files(
        paths=(name,),
        columns=(
            From(name="label", of="Label"),
            *(From(name=name.lower(), sql=_range_of(name)) for name in COUNTS),
            *(From(name=name.lower(), of=name) for name in IDS),
        ),
    )


SPLIT = FixedSplit(
    name="criteo_x4",
    train=_files("train.csv"),
    valid=_files("valid.csv"),
    test=_files("test.csv"),
    label="label",
    columns=(
        *(Column(name=name.lower(), rows=2**11) for name in COUNTS),
        *(Column(name=name.lower(), rows=2**19, dtype=str) for name in IDS),
    ),
    network=DCNv2(embedding=16, cross=3, hidden=(512, 256, 128)),
    training=Training(batch_size=8192, learning_rate=1e-3, table_learning_rate=0.02),
    published=CRITEO,
    source=PROTOCOL,
)
