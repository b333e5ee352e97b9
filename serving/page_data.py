"""What the server's page shows: how students are judged, what was released and why, who chose what was shown.

Belongs here: reading it from the project's state. Not here: the page (page.py), what requests cost (samples.py).

Files of others are read as they are: one that is missing, or is just being written anew, is left out.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exfm.learning import Student
from exfm.project import Project
from exfm.state import State

NEWEST = 180  # slices
MODELS = ("student", "control", "teacher", "best")
_JUDGED = ("slice_start", "model", "rows", "ne", "calibration", "trained_until")


class PageData:
    """Of all students of a project; a slice's evaluation is read once, and again when it is written anew."""

    def __init__(self, project: Project, state: State) -> None:
        self._project, self._state = project, state
        self._judged: dict[Path, tuple[int, list[dict[str, Any]]]] = {}

    def told(self) -> dict[str, Any]:
        """All of it, as plain JSON."""
        drift = {row["model"]: row for row in self._drift()}
        return {
            "project": self._project.name,
            "now": datetime.now(UTC).isoformat(),
            "slice_seconds": self._project.stream.slice_length.total_seconds(),
            "students": {student.name: self._student(student, drift) for student in self._project.students},
            "traffic": list(self._traffic()),
        }

    def _student(self, student: Student, drift: dict[str, dict[str, Any]]) -> dict[str, Any]:
        folder = self._state.release(student.name)
        served = _json(folder / "current.json")
        history = [each for each in map(_json, sorted((folder / "history").glob("*.json"))[-NEWEST:]) if each]
        gate = _json(folder / "gate.json") or {}
        found = drift.get(f"student/{student.name}")
        return {
            "surface": None if student.surface is None else str(student.surface),
            "task": student.task,
            "taught": student.is_taught,
            "band": student.gate.calibration,
            "released": [_change(each) for each in history if each["change"] <= (served or each)["change"]][-NEWEST:],
            "served": _change(served) if served else None,
            "gate": {name: gate.get(name) for name in ("outcome", "reason", "judged_at")},
            "drift": {name: found[name] for name in ("reason", "slice")} if found else None,
            "judged": [row for path in self._evaluations(student) for row in self._rows(path)],
        }

    def _evaluations(self, student: Student) -> list[Path]:
        return sorted(self._state.evaluations(student.name).glob("slice=*/part.parquet"))[-NEWEST:]

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        """Of one slice: a row a model."""
        try:
            changed = path.stat().st_mtime_ns
            kept = self._judged.get(path)
            if kept is not None and kept[0] == changed:
                return kept[1]
            rows = pq.read_table(path, columns=list(_JUDGED), partitioning=None).to_pylist()
        except (OSError, pa.ArrowException, KeyError):
            return []
        told = [
            {
                "at": row["slice_start"].isoformat(), "model": row["model"], "rows": row["rows"],
                "ne": _finite(row["ne"]), "calibration": _finite(row["calibration"]),
                "behind": (row["slice_start"] - row["trained_until"]).total_seconds() if row["trained_until"] else None,
            }
            for row in rows
            if row["model"] in MODELS
        ]  # fmt: skip
        self._judged[path] = (changed, told)
        return told

    def _drift(self) -> list[dict[str, Any]]:
        """What has changed that what serves has not learnt from."""
        try:
            rows = pq.read_table(self._state.reports / "drift.parquet", partitioning=None).to_pylist()
        except (OSError, pa.ArrowException):
            return []
        return [row for row in rows if row.get("drifted")]

    def _traffic(self) -> Iterator[dict[str, Any]]:
        """Of a live world: by slice, surface and who chose, what was shown and clicked.

        A slice in which the world ended and began again has several lines.
        """
        counts: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
        for told in self._lines():
            for surface, by in told["surfaces"].items():
                of = counts.setdefault((told["start"], surface), Counter())
                for who, count in by.items():
                    of[who, "shown"] += count["impressions"]
                    of[who, "clicks"] += count["clicks"]
        for (at, surface), of in counts.items():
            whole = sum(count for (_, what), count in of.items() if what == "shown")
            for who in sorted({who for who, _ in of}):
                if shown := of[who, "shown"]:
                    rate = of[who, "clicks"] / shown
                    yield {"at": at, "surface": surface, "by": who, "rate": rate, "share": shown / whole}

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            lines = (self._state.folder / "traffic.jsonl").read_text(encoding="utf-8").splitlines()[-NEWEST:]
        except OSError:
            return
        for line in lines:
            with suppress(ValueError):  # the last one may be just being written
                yield json.loads(line)


def _finite(value: float | None) -> float | None:
    """JSON has no other numbers."""
    return value if value is not None and math.isfinite(value) else None


def _change(entry: dict[str, Any]) -> dict[str, Any]:
    names = ("number", "action", "why", "trained_until", "change")
    told = {"at": entry["released_at"], **{name: entry.get(name) for name in names}}
    canary = entry.get("canary") if entry.get("action") == "canary" else None
    return told if canary is None else {**told, "number": canary["number"], "trained_until": canary["trained_until"]}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
