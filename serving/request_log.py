"""The request log: each answer's features as they were served, with scores, release and position, in parquet.

Belongs here: writing, rotating, what a kill leaves. Not here: what is logged of which answer (answering.py).

Answers are appended to a spool (an Arrow stream) and reach the disk every ``FLUSH_SECONDS``: what is killed loses at
most the answers since then. A spool of some age becomes a parquet file under ``<student>/day=<UTC day>/``, whole or not
there; a spool whose process is dead becomes one when a server starts.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exfm.atomic_write import atomic_write, sync_folder
from exfm.encoding import Encoding
from exfm.writing import StateError
from serving.encoder import Signature
from serving.errors import ReleaseError
from serving.log_retention import Retention

FLUSH_SECONDS, ROTATE_SECONDS, ROTATE_ROWS = 0.5, 60.0, 100_000
MOST_WAITING = 500_000  # rows in memory while the disk refuses them; then requests are refused
SPOOL = ".arrows"
_DAY = 86_400_000_000  # microseconds
_log = logging.getLogger(__name__)
# The server's own columns begin alike: logs have positions, scores and propensities of their own.
_OWN = {
    "impression_id": pa.int64(), "event_timestamp": pa.timestamp("us", "UTC"), "served_request": pa.string(),
    "served_release": pa.int64(), "served_version": pa.string(), "served_position": pa.int64(),
    "served_score": pa.float32(), "served_propensity": pa.float32(), "served_arm": pa.string(),
}  # fmt: skip


def schema_of(signature: Signature, dtypes: Mapping[str, type], keys: Sequence[str]) -> pa.Schema:
    """Columns of a release's log: its own, the log's keys, then every raw column that it read.

    Raises:
        ReleaseError: if one of the log's is called as one of those.
    """
    if taken := sorted({*signature.columns, *keys} & _OWN.keys()):
        raise ReleaseError(f"column {taken[0]!r} of the log is called as one of the request log's: rename it")
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
    """What one process appends to, of one student's release.

    Args:
        file: locked for as long as it is open.
        sink: the same file as Arrow writes it. Each of its small writes through Python would hold up an answer.
        whole: bytes that are on the disk, up to the end of a flush.
    """

    path: Path
    file: BinaryIO
    sink: Any
    writer: Any
    began: float
    rows: int = 0
    whole: int = 0


@dataclass
class _Waiting:
    """Answers that are not on the disk yet."""

    schema: pa.Schema
    batches: list[pa.RecordBatch] = field(default_factory=list)


class RequestLog:
    """Of all students of a server process.

    Args:
        folder: of the log.
        days: that are kept; 0: all of them.
    """

    def __init__(self, folder: Path, days: int = 0) -> None:
        self.folder, self._retention = folder, Retention(folder, days)
        self._lock, self._waiting, self._rows = threading.Lock(), dict[tuple[str, str], _Waiting](), 0
        self._writing = threading.Lock()
        self._spools: dict[tuple[str, str], _Spool] = {}
        self._ended: list[Path] = []  # spools that are to become files
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fault: str | None = None

    @property
    def is_full(self) -> bool:
        """Does more wait for the disk than memory should hold?"""
        return self._rows >= MOST_WAITING

    def start(self) -> None:
        """Turn what dead processes left into files, then write every ``FLUSH_SECONDS``."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            recover(self.folder)
        except (OSError, StateError) as error:
            self._refused(error)
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def _refused(self, error: Exception) -> None:
        self.fault = f"{self.folder}: {error}: make room, or make the folder writable"
        _log.error("the request log can't be written: %s", self.fault)

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
        with self._writing:
            for key in list(self._spools):
                self._end(key)
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
            self._retention.look()

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
                table = pa.Table.from_batches(taken[key].batches, taken[key].schema).combine_chunks()
                self._append(key, taken[key].schema, table)
                done += table.num_rows
                del taken[key]
            for key, spool in list(self._spools.items()):
                if spool.rows >= ROTATE_ROWS or time.monotonic() - spool.began >= ROTATE_SECONDS:
                    self._end(key)
            while self._ended:
                _publish(self._ended[-1])
                self._ended.pop()
            self.fault = None
        except (OSError, StateError) as error:
            self._refused(error)
        except Exception as error:  # whatever it is, what waits is not lost, and the next flush is made
            _log.exception("writing the request log failed")
            self.fault = f"{self.folder}: {type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._rows -= done
                for key, left in taken.items():
                    later = self._waiting.setdefault(key, _Waiting(left.schema))
                    later.batches[:0] = left.batches

    def _append(self, key: tuple[str, str], schema: pa.Schema, table: pa.Table) -> None:
        spool = self._spools.get(key)
        if spool is None:
            student, version = key
            path, file = _locked(self.folder, f"{student}.{version}.{os.getpid()}")
            sink = pa.OSFile(str(path), "wb")
            spool = self._spools[key] = _Spool(path, file, sink, pa.ipc.new_stream(sink, schema), time.monotonic())
        try:
            spool.writer.write_table(table)
            os.fsync(spool.file.fileno())
        except Exception:
            # What was on the disk before stays; what was not is written again, to another spool.
            self._end(key)
            raise
        spool.rows, spool.whole = spool.rows + table.num_rows, spool.sink.tell()

    def _end(self, key: tuple[str, str]) -> None:
        """Close a spool, whose answers become a file at this flush or the next one that can."""
        spool = self._spools.pop(key)
        self._ended.append(spool.path)
        with suppress(OSError):
            spool.sink.close()
        with suppress(OSError):
            os.truncate(spool.path, spool.whole)
        with suppress(OSError):
            spool.file.close()


def _locked(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """A new spool, and the lock that says that its process lives."""
    while True:
        path = folder / f"{name}.{time.time_ns()}{SPOOL}"
        file = path.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # a server that starts took it for that of a dead process, before it was locked


def recover(folder: Path) -> int:
    """Turn spools that no process has open into files; how many."""
    found = 0
    for path in sorted(folder.glob(f"*{SPOOL}")):
        with suppress(FileNotFoundError), path.open("rb") as file:  # another server that starts may take it first
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _publish(path)
            found += 1
    return found


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
    spool.unlink(missing_ok=True)
    sync_folder(spool.parent)
