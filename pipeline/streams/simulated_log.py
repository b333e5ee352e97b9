"""Simulated slices as files of the canonical log, and whether those that are there still are what was written.

Belongs here: writing, and the stamp of what was written. Not here: drawing (simulator.py), reading a log (reader.py).
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from exfm.atomic_write import atomic_write
from exfm.declaration import digest
from exfm.simulation import Simulation
from exfm.stream import Slice, Stream
from pipeline.sidecar import sha256_of
from pipeline.streams.simulator import SimulatedSlice
from pipeline.streams.world import DAY
from pipeline.tables import write_parquet

STAMPS = "_simulated"  # beside the log's tables; readers of a log pass over names that begin with an underscore


def has_landed(simulation: Simulation, stream: Stream, slice_: Slice, now: datetime) -> bool:
    """Is a slice's log there by now, or is it late?"""
    day = (slice_.start - stream.first_slice) / DAY
    late = [event.strength for event in simulation.events if event.kind == "late" and event.day <= day < event.end]
    return not late or now >= slice_.end + max(late) * DAY


def drawn_from(simulation: Simulation, stream: Stream, slice_: Slice, now: datetime) -> str:
    """A digest of all that a slice's events follow from, and whether they have landed."""
    if not has_landed(simulation, stream, slice_, now):
        return "late"
    columns = [stream.user, stream.item, stream.surface, *stream.context, *stream.logged_inputs]
    clocks = [stream.first_slice, stream.slice_length, stream.lateness]
    return digest(simulation, columns, list(stream.surfaces), stream.tasks, clocks, slice_.key)


def write_log(log: Path, simulated: SimulatedSlice, slice_: Slice, drawn: str = "") -> None:
    """Write a slice's events into the log, one file a table and day, named after the slice; safe to do again.

    Args:
        drawn: what they were drawn from, for ``standing``.
    """
    files = {}
    for path, rows in _files(log, simulated, slice_):
        write_parquet(rows, path)
        files[path.relative_to(log).as_posix()] = sha256_of(path)
    with atomic_write(_stamp(log, slice_)) as file:
        stamp = {"drawn_from": drawn, "rows": simulated.impressions.height, "files": files}
        file.write(json.dumps(stamp, indent=1).encode())


def _files(log: Path, simulated: SimulatedSlice, slice_: Slice) -> Iterator[tuple[Path, pl.DataFrame]]:
    tables = (
        ("truth", simulated.truth.with_columns(at=simulated.impressions["event_timestamp"]), "at"),
        ("outcomes", simulated.outcomes, "outcome_timestamp"),
        ("interactions", simulated.interactions, "event_timestamp"),
        ("impressions", simulated.impressions, "event_timestamp"),
    )
    for table, frame, time in tables:
        for (day,), rows in frame.with_columns(_day=pl.col(time).dt.date()).group_by("_day", maintain_order=True):
            name = f"from-{slice_.folder.removeprefix('slice=')}.parquet"
            yield log / table / f"day={day}" / name, rows.drop("_day")
        if frame.is_empty():
            (log / table).mkdir(parents=True, exist_ok=True)


def write_nothing_yet(log: Path, slice_: Slice) -> None:
    """Note that a slice is late: its tables are there, without a file of it."""
    for table in ("impressions", "outcomes", "interactions"):
        (log / table).mkdir(parents=True, exist_ok=True)
    with atomic_write(_stamp(log, slice_)) as file:
        file.write(json.dumps({"drawn_from": "late", "rows": 0, "files": {}}).encode())


def is_stamped(log: Path, slice_: Slice) -> bool:
    """Was the slice ever written, or found late?"""
    return _stamp(log, slice_).is_file()


def standing(log: Path, slice_: Slice, drawn: str) -> int | None:
    """How many impressions a slice has whose files are there, as they were drawn; ``None`` if it must be drawn."""
    try:
        stamp = json.loads(_stamp(log, slice_).read_text(encoding="utf-8"))
        whole = all(sha256_of(log / name) == sha256 for name, sha256 in stamp["files"].items())
        return int(stamp["rows"]) if whole and stamp["drawn_from"] == drawn else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stamp(log: Path, slice_: Slice) -> Path:
    return log / STAMPS / f"{slice_.folder}.json"
