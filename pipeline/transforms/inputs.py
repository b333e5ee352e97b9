"""Logged inputs: calendar columns, and frames as the tensors that models read.

Belongs here: plain functions from polars frames to columns and arrays. Not here: Feast's join, models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from exfm.columns import Columns
from exfm.stream import Stream

if TYPE_CHECKING:
    from models.batch import SliceTensors

_CALENDAR = {
    "hour_of_day": pl.col("event_timestamp").dt.hour().cast(pl.Int64),
    "day_of_week": pl.col("event_timestamp").dt.weekday().cast(pl.Int64),
}


def rows_of(path: Path, columns: str = "*") -> str:
    """A DuckDB query for the rows of a parquet file, for Feast to join features to without a copy in Python."""
    quoted = literal(path).replace("'", "''")
    return f"SELECT {columns} FROM read_parquet('{quoted}', hive_partitioning=false)"


def literal(path: Path) -> str:
    """A path as a glob of DuckDB's that matches it alone: folders may have ``*``, ``?`` or ``[`` in their names."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def with_calendar(frame: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Add the stream's calendar columns (Int64, UTC) to a frame with ``event_timestamp``."""
    return frame.with_columns(_CALENDAR[name].alias(name) for name in stream.calendar)


def hashed_ids(frame: pl.DataFrame, columns: Columns) -> np.ndarray:
    """Categorical columns as stable 64-bit hashes, salted by column name: (N, F) int64; a null is an id of its own."""
    hashed = [_hashes(frame[name], salt=name) for name in columns.ids]
    return np.stack(hashed, axis=1) if hashed else np.empty((frame.height, 0), dtype=np.int64)


def _hashes(values: pl.Series, salt: str) -> np.ndarray:
    """Hashes of a column of ids. A column of integers with a null would reach numpy as floats, which lose bits."""
    from models.hashing import stable_hash

    if not values.dtype.is_integer():
        return stable_hash(values.to_numpy(), salt=salt)
    return stable_hash(values.fill_null(0).to_numpy(), salt=salt, nulls=values.is_null().to_numpy())


def hashed_histories(frame: pl.DataFrame, listed: Mapping[str, str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lists of ids as hashes of the column that they list: (V,) int64, and offsets (N + 1,); null is an empty list."""
    hashed = {}
    for name, of in listed.items():
        lists = frame[name]
        offsets = np.concatenate([[0], lists.list.len().fill_null(0).to_numpy().cumsum()]).astype(np.int64)
        values = lists.filter(lists.list.len() > 0).explode()  # an empty list would explode to a null
        hashed[name] = (_hashes(values, salt=of), offsets)
    return hashed


def numbers(frame: pl.DataFrame, columns: Columns) -> np.ndarray:
    """Features as numbers: counts as log(1 + n), 0 where nothing is known; rates as they are, NaN where unknown.

    Shape:
        (N, D) float32
    """
    as_number = [
        pl.col(name).fill_null(0).cast(pl.Float64).log1p() if frame.schema[name].is_integer() else pl.col(name)
        for name in columns.features
    ]
    chosen = frame.select(expr.cast(pl.Float32).fill_null(float("nan")) for expr in as_number)
    return chosen.to_numpy() if columns.features else np.empty((frame.height, 0), dtype=np.float32)


def known_labels(labels: pl.DataFrame, tasks: tuple[str, ...]) -> np.ndarray:
    """Labels as numbers, NaN where not known: (N, T) float32."""
    return labels.select(pl.col(task).cast(pl.Float32).fill_null(float("nan")) for task in tasks).to_numpy()


def slice_tensors(
    inputs: pl.DataFrame,
    labels: pl.DataFrame | None,
    columns: Columns,
    stream: Stream,
    listed: Mapping[str, str] | None = None,
) -> "SliceTensors":
    """A slice as resident tensors, for every model that reads it.

    Args:
        inputs: ``logged_inputs`` of the slice.
        labels: its labels, or ``None`` where none are needed (scoring); matched by ``impression_id``.
        listed: history's column -> the id column whose ids it lists.
    """
    import torch

    from models.batch import SliceTensors
    from models.jagged import Jagged

    known = np.full((inputs.height, len(stream.task_names)), np.nan, dtype=np.float32)
    if labels is not None:
        matched = inputs.select("impression_id").join(labels, on="impression_id", how="left", maintain_order="left")
        known = known_labels(matched, stream.task_names)
    return SliceTensors(
        ids=torch.from_numpy(hashed_ids(inputs, columns)),
        numbers=torch.from_numpy(np.ascontiguousarray(numbers(inputs, columns))),
        labels=torch.from_numpy(np.ascontiguousarray(known)),
        id_names=columns.ids,
        number_names=columns.features,
        task_names=stream.task_names,
        histories={
            name: Jagged(torch.from_numpy(values), torch.from_numpy(offsets))
            for name, (values, offsets) in hashed_histories(inputs, listed or {}).items()
        },
    )
