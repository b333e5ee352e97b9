"""Ways to damage stored state, and walking the ways out that sentences name.

Belongs here: which files there are to damage, how, and doing what a sentence says. Not here: what a test expects.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from exfm_assets.main_job import EVERYDAY
from pipeline.workspace import Workspace
from tests.graph.runs import FIRST, LAST, run

MIDDLE, BEFORE_LAST = "slice=2026-01-03", "slice=2026-01-04"


def flipped(stored: bytes) -> bytes:
    """Three bytes in the middle are others."""
    middle = len(stored) // 2
    return stored[:middle] + bytes(byte ^ 0xFF for byte in stored[middle : middle + 3]) + stored[middle + 3 :]


BY_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "cut": lambda stored: stored[: len(stored) // 2],
    "empty": lambda stored: b"",
}
DAMAGES = (*BY_BYTES, "missing")
FILES: dict[str, str] = {
    **{
        f"{name}": f"tables/{name}/{MIDDLE}/part.parquet"
        for name in (
            "impressions",
            "outcomes",
            "interactions",
            "labels",
            "features/user_activity",
            "features/user_history",
            "features/user_opinion",
            "logged_inputs",
            "logged_teacher_features",
            "evaluations/feed_click",
        )
    },
    "sidecar": f"tables/labels/{MIDDLE}/part.json",
    "quarantine": f"quarantine/outcomes/{MIDDLE}/part.parquet",
    "predictions": f"tables/predictions/large/{MIDDLE}/*.parquet",
    "predictions of the last slice": "tables/predictions/large/slice=2026-01-05/*.parquet",
    "sidecar of predictions": f"tables/predictions/large/{MIDDLE}/*.json",
    "teacher's weights": f"checkpoints/teacher/large/{BEFORE_LAST}/*.safetensors",
    "teacher's manifest": f"checkpoints/teacher/large/{MIDDLE}/manifest.json",
    "student's weights": f"checkpoints/student/feed_click/{BEFORE_LAST}/*.safetensors",
    "student's manifest": f"checkpoints/student/feed_click/{MIDDLE}/manifest.json",
    "control's weights": f"checkpoints/control/feed_convert/{BEFORE_LAST}/*.safetensors",
    "control's manifest": f"checkpoints/control/feed_convert/{BEFORE_LAST}/manifest.json",
    "current.json": "releases/feed_click/current.json",
    "release's weights": "releases/feed_click/*/serving.safetensors",
    "release's manifest": "releases/feed_click/*/manifest.json",
    "drift report": "reports/drift.parquet",
    "registry": "feast/registry.db",
    "online store": "feast/online.db",
}


def spoil(work: Workspace, kind: str, damage: str) -> Path:
    """Damage a file of a kind; gives its path."""
    (path,) = work.state.folder.glob(FILES[kind])
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(BY_BYTES[damage](path.read_bytes()))
    return path


@dataclass(frozen=True)
class Step:
    """A run, and what it said."""

    success: bool
    errors: tuple[str, ...]
    result: dg.ExecuteInProcessResult


def step(work: Workspace, first: str = LAST, last: str = LAST, select: str | None = None) -> Step:
    """Run slices; of each failed step, the error that was raised first, with its type."""
    result = run(work, first, last, select)
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    return Step(result.success, tuple((error.cause or error).message.strip() for error in errors), result)


def ways_out(sentences: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """First and last slice and selection of each run that sentences ask for."""
    for sentence in sentences:
        message = sentence.partition("Error: ")[2] or sentence
        if match := re.search(r"from slice (\S+) on", message):
            yield match[1], LAST, EVERYDAY
        elif match := re.search(r"slice (\S+): materialise (\S+) for it and the slices before it first", message):
            yield FIRST, match[1], f'key:"{match[2]}"'
        elif match := re.search(r"has no slice (\S+): materialise (\S+) for it first", message):
            yield match[1], match[1], f'key:"{match[2]}"'
        elif match := re.search(r"materialise (\S+) for slice (\S+) again", message):
            yield match[2], match[2], f'key:"{match[1]}"'
        elif match := re.match(r"\S+ (\S.*?): .*materialise (\S+) for (?:it|them) again", message):
            slices = match[1].split(", ")
            yield slices[0].split("...")[0], slices[-1].split("...")[-1], f'key:"{match[2]}"'
        elif match := re.search(r"materialise ([\w/]+)", message):
            yield LAST, LAST, f'key:"{match[1]}"'
