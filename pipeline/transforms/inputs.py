"""Logged inputs: calendar columns, and frames as the tensors that models read.

Belongs here: plain functions from polars frames to columns and arrays. Not here: Feast's join, models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from exfm.columns import Columns
from exfm.encoding import Encoding
from exfm.stream import Stream
from pipeline.tables import DataError
from pipeline.transforms.hashes import hashes_of
from pipeline.transforms.lists import CLOCK, hashed_lists

if TYPE_CHECKING:
    from models.batch import SliceTensors
    from models.manifest import Manifest

Encoder = Mapping[str, Encoding]  # by column
CHUNK = 2**16  # rows whose numbers are computed at once: what comes in between is small
OWN: tuple[Literal["C"], Literal["W"]] = ("C", "W")  # of one column polars lends its own memory, read-only


def rows_of(path: Path, columns: str = "*") -> str:
    """A DuckDB query for the rows of a parquet file, for Feast to join features to without a copy in Python."""
    quoted = literal(path).replace("'", "''")
    return f"SELECT {columns} FROM read_parquet('{quoted}', hive_partitioning=false)"


def literal(path: Path) -> str:
    """A path as a glob of DuckDB's that matches it alone: folders may have ``*``, ``?`` or ``[`` in their names."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def with_calendar(frame: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """Add the stream's calendar columns (Int64, by the clock of its zone) to a frame with ``event_timestamp``."""
    local = pl.col("event_timestamp").dt.convert_time_zone(stream.time_zone).dt
    calendar = {"hour_of_day": local.hour(), "day_of_week": local.weekday()}
    return frame.with_columns(calendar[name].cast(pl.Int64).alias(name) for name in stream.calendar)


def stored_type(encoding: Encoding) -> pl.DataType:
    """The type in which a column of an encoding is stored."""
    ids = pl.String() if encoding.dtype == "str" else pl.Int64()
    types: dict[str, pl.DataType] = {
        "id": ids, "ids": pl.List(ids), "ages": pl.List(pl.Int64()), "count": pl.Int64(), "number": pl.Float32(),
        "vector": pl.List(pl.Float32()),
    }  # fmt: skip
    return types[encoding.kind]


def hashed_ids(frame: pl.DataFrame, names: Sequence[str], encoder: Encoder) -> np.ndarray:
    """Categorical columns as stable 64-bit hashes, salted by their column: (N, F) int64; a null is an id of its own."""
    hashed = np.empty((frame.height, len(names)), dtype=np.int64)
    for column, name in enumerate(names):
        hashed[:, column] = _hashed(frame, name, encoder)
    return hashed


def _hashed(frame: pl.DataFrame, name: str, encoder: Encoder) -> np.ndarray:
    """Hashes of a column, or of an id that is made of others."""
    encoding = encoder[name]
    if encoding.kind == "cross":
        return _crossed([_hashed(frame, part, encoder) for part in encoding.of], encoding)
    if encoding.kind == "bucket":
        return _bucketed(frame[encoding.of[0]], encoding)
    return hashes_of(frame[name], encoding)


def _crossed(parts: Sequence[np.ndarray], encoding: Encoding) -> np.ndarray:
    """One hash of several: (N,) int64 each. A polynomial in an odd number, hashed again, so that order counts."""
    from models.hashing import stable_hash

    assert encoding.salt is not None
    mixed = parts[0].copy()
    for part in parts[1:]:
        mixed = mixed * np.int64(6364136223846793005) + part
    return stable_hash(mixed, salt=encoding.salt)


def _bucketed(values: pl.Series, encoding: Encoding) -> np.ndarray:
    """The hash of each number's range; null and NaN are a bucket of their own."""
    from models.hashing import stable_hash

    assert encoding.salt is not None
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    ranges = np.searchsorted(np.asarray(encoding.edges), numbers, side="right")
    return stable_hash(ranges.astype(np.int64), salt=encoding.salt, nulls=np.isnan(numbers))


def numbers(frame: pl.DataFrame, names: Sequence[str], encoder: Encoder) -> np.ndarray:
    """Features as numbers: counts as log(1 + n), 0 where nothing is known; rates as they are, NaN where unknown.

    Shape:
        (N, D) float32
    """
    sources = {name: encoder[name].of[0] if encoder[name].kind == "quantile" else name for name in names}
    wanted = [_number(source, frame.schema[source], encoder[name]).alias(name) for name, source in sources.items()]
    read = np.empty((frame.height, len(names)), dtype=np.float32)
    for start in range(0, frame.height if names else 0, CHUNK):
        rows = slice(start, start + CHUNK)
        read[rows] = frame[rows].select(wanted).to_numpy()
    return read


def _number(name: str, dtype: pl.DataType, encoding: Encoding) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_float():  # a missing number may be written as no number, or as an infinite one
        column = pl.when(column.is_finite()).then(column)
    if encoding.null == "zero":
        column = column.fill_null(0)
    if encoding.treatment == "log1p":
        column = column.cast(pl.Float64).log1p()
    if encoding.treatment == "signed_log1p":
        column = column.cast(pl.Float64)
        column = column.sign() * column.abs().log1p()
    return column.cast(pl.Float32).fill_null(float("nan"))


def vectors(frame: pl.DataFrame, names: Sequence[str], encoder: Encoder) -> np.ndarray:
    """Vectors side by side, NaN where one is missing: (N, sum of their widths) float32.

    Raises:
        DataError: for one of another width than it was declared with.
    """
    parts = [_vector(frame[name], encoder[name].width or 0) for name in names]
    return np.concatenate([np.empty((frame.height, 0), dtype=np.float32), *parts], axis=1)


def _vector(values: pl.Series, width: int) -> np.ndarray:
    lists = values.cast(pl.List(pl.Float32))
    widths = lists.drop_nulls().list.len()
    if len(wrong := widths.filter(widths != width)):
        raise DataError(f"{values.name}: a vector of {wrong[0]} floats, not {width}: pass it as it was trained with")
    whole = np.full((len(lists), width), np.nan, dtype=np.float32)
    whole[lists.is_not_null().to_numpy()] = lists.drop_nulls().explode().to_numpy().reshape(-1, width)
    return whole


def known_labels(labels: pl.DataFrame, tasks: tuple[str, ...]) -> np.ndarray:
    """Labels as numbers, NaN where not known: (N, T) float32."""
    return labels.select(pl.col(task).cast(pl.Float32).fill_null(float("nan")) for task in tasks).to_numpy()


def known_weights(labels: pl.DataFrame, weight: str) -> np.ndarray:
    """How many rows each stands for, one where it is not known: (N,) float32."""
    return labels[weight].cast(pl.Float32).fill_null(1.0).to_numpy(writable=True)


def slice_tensors(
    inputs: pl.DataFrame,
    labels: pl.DataFrame | None,
    columns: Columns,
    tasks: tuple[str, ...],
    encoder: Encoder,
    weight: str | None = None,
) -> "SliceTensors":
    """Rows as tensors, for every model that reads them: of a slice, or of a request.

    Args:
        inputs: N rows with the columns, as ``logged_inputs`` or Feast gives them.
        labels: of a slice, or ``None`` where none are needed (scoring); matched by ``impression_id``.
        tasks: of the labels.
        encoder: of every column, as declared, or as a manifest has it.
        weight: the column of the labels that says how many rows each stands for.
    """
    import torch

    from models.batch import SliceTensors
    from models.jagged import Jagged
    from models.network_spec import positions_of

    ranked = tuple(name for name in columns.derived if encoder[name].kind == "quantile")  # a network ranks them
    ids = columns.ids + tuple(name for name in columns.derived if name not in ranked)
    plain = columns.features + columns.numbers + ranked
    positions = [each for name in columns.vectors for each in positions_of(name, encoder[name].width or 0)]
    read = numbers(inputs, plain, encoder)
    if columns.vectors:
        read = np.concatenate([read, vectors(inputs, columns.vectors, encoder)], axis=1)
    known, weights = np.full((inputs.height, len(tasks)), np.nan, dtype=np.float32), None
    if labels is not None:
        matched = inputs.select("impression_id").join(labels, on="impression_id", how="left", maintain_order="left")
        known = known_labels(matched, tasks)
        if weight is not None:
            weights = torch.from_numpy(known_weights(matched, weight))
    return SliceTensors(
        ids=torch.from_numpy(hashed_ids(inputs, ids, encoder)),
        numbers=torch.from_numpy(np.require(read, requirements=OWN)),
        labels=torch.from_numpy(np.require(known, requirements=OWN)),
        id_names=ids,
        number_names=(*plain, *positions),
        task_names=tasks,
        histories={
            name: Jagged(torch.from_numpy(values), torch.from_numpy(offsets))
            for name, (values, offsets) in hashed_lists(inputs, columns.lists, encoder).items()
        },
        weights=weights,
    )


def tensors_for(manifest: "Manifest", rows: pl.DataFrame) -> "SliceTensors":
    """Raw rows as a checkpoint, or a release, reads them: by the encoder that it was trained with.

    Args:
        rows: with its columns, whatever types they came in: as logged, or from Feast by way of pandas.

    Raises:
        DataError: if the manifest does not say how a column is encoded, or the rows lack one.
    """
    spec, encoder = manifest.spec, manifest.encoder
    where = f"{manifest.model} {manifest.slice}"
    for name in (*spec.fields, *spec.numbers, *(side.name for side in spec.sides)):
        if name not in encoder:
            raise DataError(
                f"{where}: its manifest has no encoder for {name!r}, as an earlier exfm wrote it: train and release it "
                "again"
            )
    derived = tuple(name for name in spec.id_names if encoder[name].is_derived)
    columns = Columns(
        ids=tuple(name for name in spec.id_names if name not in derived),
        features=spec.numbers,
        histories=tuple(name for name, _ in spec.histories),
        bags=tuple(bag.name for bag in spec.bags),
        sides=tuple(side.name for side in spec.sides),
        vectors=tuple(name for name, _ in spec.vectors),
        derived=derived,
        parts=tuple(part for name in derived for part in encoder[name].of),
    )
    for name in columns.stored:
        if name not in rows.columns:
            raise DataError(f"{where}: rows have no column {name!r}: pass it, null if unknown")
    if CLOCK not in rows.columns and (aged := [name for name in columns.sides if encoder[name].kind == "ages"]):
        raise DataError(f"{where}: rows have no column {CLOCK!r}, and {aged[0]!r} is read as of it: pass it")
    return slice_tensors(rows, None, columns, spec.tasks, manifest.encoder)
