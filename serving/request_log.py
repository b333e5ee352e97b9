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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exfm.atomic_write import atomic_write, sync_folder
from exfm.encoding import Encoding
from exfm.writing import StateError
from serving.encoder import Signature

FLUSH_SECONDS, ROTATE_SECONDS, ROTATE_ROWS = 0.5, 60.0, 100_000
MOST_WAITING = 500_000  # rows in memory while the disk refuses them; then requests are refused
SPOOL = ".arrows"
Columns = Mapping[str, Sequence[Any]]
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


def _table(waiting: "_Waiting") -> pa.Table:
    """All answers that wait, one after the other; one that has a value of no column's type is left out, and said."""
    together: dict[str, list[Any]] = {name: [] for name in waiting.schema.names}
    for answer in waiting.answers:
        columns = answer()
        for name, values in together.items():
            values.extend(columns[name])
    try:
        return _typed(together, waiting.schema)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        if len(waiting.answers) == 1:
            _log.exception("an answer can't be logged")
            return waiting.schema.empty_table()
        return pa.concat_tables(_table(_Waiting(waiting.schema, [answer])) for answer in waiting.answers)


def _typed(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Whole numbers may stand in columns of floats, of any size: Arrow would refuse what a float rounds."""
    arrays = []
    for name in schema.names:
        kind, values = schema.field(name).type, columns[name]
        if pa.types.is_floating(kind):
            values = [None if value is None else float(value) for value in values]
        elif pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
            values = [None if value is None else list(map(float, value)) for value in values]
        arrays.append(pa.array(values, kind))
    return pa.Table.from_arrays(arrays, schema=schema)


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
    answers: list[Callable[[], Columns]] = field(default_factory=list)


class RequestLog:
    """Of all students of a server process.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._waiting, self._rows = threading.Lock(), dict[tuple[str, str], _Waiting](), 0
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

    def add(self, student: str, version: str, schema: pa.Schema, rows: int, columns: Callable[[], Columns]) -> None:
        """Log an answer's rows; they are on the disk within ``FLUSH_SECONDS``.

        Args:
            columns: gives the answer's columns by name; called when they are written, not while somebody waits.
        """
        with self._lock:
            self._waiting.setdefault((student, version), _Waiting(schema)).answers.append(columns)
            self._rows += rows

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
        with self._lock:
            taken, self._waiting = self._waiting, {}
        done = 0
        try:
            for key in list(taken):
                table = _table(taken[key])
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
                later.answers[:0] = left.answers

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
    student, version = spool.name.split(".")[:2]
    batches: list[pa.RecordBatch] = []
    with spool.open("rb") as file:
        try:
            with pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    batches.append(batch)
        except (pa.ArrowInvalid, OSError):
            _log.warning(
                "%s ends in the middle of a batch, as its server was killed: that batch is left out", spool.name
            )
    if batches:
        table = pa.Table.from_batches(batches)
        days = [datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d") for at in
                table["event_timestamp"].cast(pa.int64()).to_pylist()]  # fmt: skip
        for day in sorted(set(days)):
            rows = table.filter(pa.array([each == day for each in days]))
            path = (
                spool.parent
                / student
                / f"day={day}"
                / f"{version}-{spool.name.removesuffix(SPOOL).split('.', 2)[2]}.parquet"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as out:
                pq.write_table(rows, out)
    spool.unlink()
    sync_folder(spool.parent)
