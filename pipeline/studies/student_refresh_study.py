"""What a stale student costs: its NE against how many slices its refresh waits.

Belongs here: the replay with several waits. Not here: the asset and its plot (assets/studies.py).
"""

from collections.abc import Iterator

import polars as pl

from exfm.learning import Student
from pipeline.slices.slice_inputs import students_columns
from pipeline.slices.supervised_slice import rows_name
from pipeline.studies.losses import losses
from pipeline.studies.replay import Predictions, Replay, judge, study, teach
from pipeline.workspace import Workspace

BEHIND = (0, 1, 2, 4, 8)  # slices that the checkpoint which serves is older than at best
SCHEMA: dict[str, pl.DataType] = {
    "student": pl.String(),
    "surface": pl.String(),
    "task": pl.String(),
    "behind": pl.Int64(),
    "slices": pl.Int64(),
    "rows": pl.Int64(),
    "ne": pl.Float64(),
    "loss": pl.Float64(),
    "error": pl.Float64(),
}


def student_refresh_study(work: Workspace, device: str) -> Iterator[pl.DataFrame]:
    """Rows of each student, a row a wait; all waits of a student are judged on the same impressions.

    Teachers score as they are declared.
    """
    replay = Replay.of(work, device, students_columns(work.project))
    teachers = {}
    for teacher in work.project.teachers:
        if teacher.lag < len(replay):
            teachers[teacher.name] = teach(replay, teacher, (teacher.lag,))[teacher.lag]
    for student in work.project.students:
        if set(student.teachers) <= teachers.keys():
            yield _of_student(replay, student, teachers)


def _of_student(replay: Replay, student: Student, teachers: dict[str, Predictions]) -> pl.DataFrame:
    best = replay.stream.serving_lag(student.task)
    waits = [behind for behind in BEHIND if best + behind < len(replay) - 1]
    if len(waits) < 2:
        return pl.DataFrame(schema=SCHEMA)
    scores = {
        str(behind): study(replay, [student], teachers, serving_lag=best + behind)[student.name] for behind in waits
    }
    judged = judge(replay, student.surface, student.task, scores)
    if judged.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    about = {"student": student.name, "surface": rows_name(student.surface), "task": student.task}
    seen = {"slices": judged["slice"].n_unique(), "rows": int(judged.filter(pl.col("model") == "0")["rows"].sum())}
    ne = dict(judged.group_by("model").agg(pl.col("ne").mean()).iter_rows())
    rows = [
        {**about, "behind": lost.age, **seen, "ne": ne[str(lost.age)], "loss": lost.loss, "error": lost.error}
        for lost in losses(judged, [(behind, str(behind)) for behind in waits])
    ]
    return pl.DataFrame(rows, schema=SCHEMA)
