"""The request log: each answer's features as they were served, with scores, release and position, in parquet.

Belongs here: writing, rotating, what a kill leaves. Not here: what is logged of which answer (answering.py).

Answers are appended to a spool (an Arrow stream) and reach the disk every ``FLUSH_SECONDS``: what is killed loses at
most the answers since then. A spool of some age becomes a parquet file under ``<student>/day=<UTC day>/``, whole or not
there; a spool whose process is dead becomes one when a server starts.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exfm.atomic_write import atomic_write, sync_folder
from exfm.encoding import Encoding
from exfm.writing import StateError
from serving.encoder import Signature

FLUSH_SECONDS, ROTATE_SECONDS, ROTATE_ROWS = 0.5, 60.0, 100_000
MOST_WAITING = 500_000  # rows in memory while the disk refuses them; then requests are refused
SPOOL = ".arrows"
_DAY = 86_400_000_000  # microseconds
_log = logging.getLogger(__name__)
_OWN = {
    "request_id": pa.string(), "impression_id": pa.string(), "event_timestamp": pa.timestamp("us", "UTC"),
    "release": pa.int64(), "version": pa.string(), "position": pa.int64(), "score": pa.float32(),
    "propensity": pa.float32(),
}  # fmt: skip


def schema_of(signature: Signature, dtypes: Mapping[str, type], keys: Sequence[str]) -> pa.Schema:
    """Columns of a release's log: its own, the log's keys, then every raw column that it read."""
    of_keys = {name: pa.string() if dtypes[name] is str else pa.int64() for name in keys}
    read = {name: _type_of(signature.encoding_of(name)) for name in signature.columns}
    return pa.schema([pa.field(name, kind) for name, kind in {**_OWN, **read, **of_keys}.items()])


def _type_of(encoding: Encoding | None) -> pa.DataType:
    if encoding is None:
        return pa.float64()
    ids = pa.string() if encoding.dtype == "str" else pa.int64()
    kinds = {
        "id": ids, "ids": pa.list_(ids), "ages": pa.list_(pa.int64()), "count": pa.float64(), "number": pa.float64(),
        "quantile": pa.float64(), "vector": pa.list_(pa.float32()),
    }  # fmt: skip
    return kinds[encoding.kind]


def rows_of(columns: Mapping[str, Any], schema: pa.Schema, count: int) -> pa.RecordBatch:
    """Rows of an answer, column by column: a list of values, or ``Same`` for all rows.

    They are made while somebody waits, in about half a millisecond for a hundred. Made later they would hold up all
    answers at once, and where many are asked for none would ever be written.
    """
    arrays = []
    for name in schema.names:
        values, kind = columns[name], schema.field(name).type
        if isinstance(values, Same):
            arrays.append(pa.repeat(_typed([values.value], kind)[0], count))
        else:
            arrays.append(_typed(values, kind))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:
        # Whole numbers may stand in columns of floats, of any size: Arrow refuses what a float rounds.
        if pa.types.is_floating(kind):
            return pa.array([None if value is None else float(value) for value in values], kind)
        if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
            return pa.array([None if value is None else list(map(float, value)) for value in values], kind)
        raise


@dataclass(frozen=True)
class Same:
    """A value of all rows of an answer."""

    value: Any


@dataclass
class _Spool:
    """What one process appends to, of one student's release."""

    path: Path
    file: Any
    writer: Any
    began: float
    rows: int = 0


@dataclass
class _Waiting:
    """Answers that are not on the disk yet."""

    schema: pa.Schema
    batches: list[pa.RecordBatch] = field(default_factory=list)


class RequestLog:
    """Of all students of a server process.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._waiting, self._rows = threading.Lock(), dict[tuple[str, str], _Waiting](), 0
        self._writing = threading.Lock()
        self._spools: dict[tuple[str, str], _Spool] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fault: str | None = None

    @property
    def is_full(self) -> bool:
        """Does more wait for the disk than memory should hold?"""
        return self._rows >= MOST_WAITING

    def start(self) -> None:
        """Turn what dead processes left into files, then write every ``FLUSH_SECONDS``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        recover(self.folder)
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def add(self, student: str, version: str, rows: pa.RecordBatch) -> None:
        """Log an answer's rows; they are on the disk within ``FLUSH_SECONDS``."""
        with self._lock:
            self._waiting.setdefault((student, version), _Waiting(rows.schema)).batches.append(rows)
            self._rows += rows.num_rows

    def stop(self) -> None:
        """Write all that waits, and close every file."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        for key in list(self._spools):
            self._rotate(key)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Bring what waits to the disk; what it refuses waits on, and why is kept in ``fault``."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        done = 0
        try:
            for key in list(taken):
                table = pa.Table.from_batches(taken[key].batches, taken[key].schema)
                self._append(key, taken[key].schema, table)
                done += table.num_rows
                del taken[key]
            for key, spool in list(self._spools.items()):
                if spool.rows >= ROTATE_ROWS or time.monotonic() - spool.began >= ROTATE_SECONDS:
                    self._rotate(key)
            self.fault = None
        except (OSError, StateError) as error:
            self.fault = f"{self.folder}: {error}: make room, or make the folder writable"
            _log.error("the request log can't be written: %s", self.fault)
        with self._lock:
            self._rows -= done
            for key, left in taken.items():
                later = self._waiting.setdefault(key, _Waiting(left.schema))
                later.batches[:0] = left.batches

    def _append(self, key: tuple[str, str], schema: pa.Schema, table: pa.Table) -> None:
        spool = self._spools.get(key)
        if spool is None:
            student, version = key
            name = f"{student}.{version}.{os.getpid()}.{time.time_ns()}{SPOOL}"
            file = (self.folder / name).open("wb")
            spool = _Spool(self.folder / name, file, pa.ipc.new_stream(file, schema), time.monotonic())
            self._spools[key] = spool
        try:
            spool.writer.write_table(table)
            spool.file.flush()
            os.fsync(spool.file.fileno())
        except OSError:
            del self._spools[key]  # what it holds is whole up to here; the next one begins anew
            raise
        spool.rows += table.num_rows

    def _rotate(self, key: tuple[str, str]) -> None:
        spool = self._spools.pop(key)
        spool.writer.close()
        spool.file.close()
        _publish(spool.path)


def recover(folder: Path) -> int:
    """Turn spools whose process is gone into files; how many."""
    left = [path for path in sorted(folder.glob(f"*{SPOOL}")) if not _is_alive(int(path.name.split(".")[-3]))]
    for path in left:
        _publish(path)
    return len(left)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # of this process's number, but of an earlier one


def _publish(spool: Path) -> None:
    """A spool's rows as parquet files of their UTC days; a batch that was cut off is left out."""
    student, version, written = spool.name.removesuffix(SPOOL).split(".", 2)
    batches: list[pa.RecordBatch] = []
    with spool.open("rb") as file:
        try:
            with pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    batches.append(batch)
        except (pa.ArrowInvalid, OSError):
            _log.warning("%s ends in a batch that was cut off, as its server was killed: it is left out", spool.name)
    if batches:
        table = pa.Table.from_batches(batches)
        days = pc.divide(table["event_timestamp"].cast(pa.int64()), _DAY)
        for day in pc.unique(days).to_pylist():
            name = f"day={datetime.fromtimestamp(day * _DAY / 1e6, UTC):%Y-%m-%d}"
            with atomic_write(spool.parent / student / name / f"{version}-{written}.parquet") as out:
                pq.write_table(table.filter(pc.equal(days, day)), out)
    spool.unlink()
    sync_folder(spool.parent)
