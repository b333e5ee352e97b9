"""A slice of many rows: it is made of a tiny project's last one, and a process scores it, trains on it and judges.

    python -m tests.graph.run_large FOLDER PART_ROWS

prints as JSON how far its memory rose above what it had before it read a row, and rows a second.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from feature_repo.store import apply
from pipeline.training import student_walk
from pipeline.training.student_run import CONTROL, EVALUATION, STUDENT, StudentRequest
from pipeline.training.teacher_walk import walk_teacher
from pipeline.workspace import Workspace
from tests.graph.runs import LAST
from tests.tiny import tiny_project, tiny_workspace

TABLES = ("logged_inputs", "logged_teacher_features", "labels", "impressions")


def large_workspace(folder: Path, part_rows: int) -> Workspace:
    tiny = tiny_project()
    training = replace(tiny.teachers[0].training, batch_size=4096)
    project = replace(
        tiny,
        stream=replace(tiny.stream, part_rows=part_rows),
        teachers=tuple(replace(teacher, training=training) for teacher in tiny.teachers),
        students=tuple(replace(student, training=training) for student in tiny.students),
    )
    return tiny_workspace(folder, project)


def make(ran: Path, folder: Path, part_rows: int, rows: int) -> None:
    """Of a tiny project's state: models that have learnt all slices but the last, and that one's rows, again and again.

    Args:
        rows: of the last slice, each under an id of its own.
    """
    work = large_workspace(folder, part_rows)
    shutil.copytree(ran, work.state.folder)
    for made in (work.state.folder / "checkpoints", work.state.folder / "tables" / "predictions"):
        shutil.rmtree(made)
    apply(work.project, work.state)  # sources are absolute paths
    slice_ = work.project.stream.slice_of(LAST)
    before = list(work.project.stream.slices(work.project.stream.first_slice, slice_.start))
    for _ in walk_teacher(work, work.project.teachers[0], before, score=True, train=True, run_id="", device="cpu"):
        pass
    for _ in student_walk.walk_students(work, requests(work, STUDENT, CONTROL), before, device="cpu"):
        pass
    for name in TABLES:
        once = work.table(name).read([slice_])

        def repeated(once: pl.DataFrame = once) -> Iterator[pl.DataFrame]:
            for start in range(0, rows, once.height):
                ids = (start + pl.int_range(pl.len())).cast(pl.Int64).alias("impression_id")
                yield once.head(rows - start).with_columns(ids)

        work.table(name).write(slice_, repeated())


def requests(work: Workspace, *parts: str) -> list[StudentRequest]:
    return [StudentRequest(student, frozenset(parts)) for student in work.project.students]


def walk(work: Workspace) -> dict[str, float]:
    """Score the slice, train all models on it beside each other, and judge them."""
    student_walk.stored_truth = lambda *_: None  # type: ignore[assignment]  # of other ids
    slices, before = [work.project.stream.slice_of(LAST)], _peak()
    _ = work.store
    started = time.perf_counter()
    teacher = work.project.teachers[0]
    scored = list(walk_teacher(work, teacher, slices, score=True, train=False, run_id="large", device="cpu"))
    scoring = time.perf_counter() - started
    trained = list(walk_teacher(work, teacher, slices, score=False, train=True, run_id="large", device="cpu"))
    asked = requests(work, STUDENT, CONTROL, EVALUATION)
    visits = list(student_walk.walk_students(work, asked, slices, device="cpu"))
    assert all(visit.failed is None and visit.evaluation_rows().height for visit in visits)
    (stored,), (fit,) = [visit.stored for visit in scored], [visit.trained for visit in trained]
    assert stored is not None and not stored.reused and fit is not None and fit.fit is not None
    return {
        "rows": stored.rows,
        "rose_mb": _peak() - before,
        "before_mb": before,
        "scored_per_second": stored.rows / scoring,
        "trained_per_second": fit.fit.examples_per_second,
        "seconds": time.perf_counter() - started,
    }


def _peak() -> float:
    """The most memory that the process has had, in MB. (What ``getrusage`` says counts the parent's at the fork.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(walk(large_workspace(Path(sys.argv[1]), int(sys.argv[2])))))
