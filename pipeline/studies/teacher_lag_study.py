"""What a stale teacher costs: NE of teacher and students against the teacher's lag.

Belongs here: the replay with several lags. Not here: the asset and its plot (assets/studies.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import polars as pl

from exfm.learning import Student, Teacher
from pipeline.slices.slice_inputs import students_columns
from pipeline.slices.supervised_slice import rows_name
from pipeline.studies.losses import losses
from pipeline.studies.replay import Predictions, Replay, judge, study, teach
from pipeline.training.student_run import CONTROL
from pipeline.workspace import Workspace

LAGS = (1, 2, 4, 8, 16)
SCHEMA: dict[str, pl.DataType] = {
    "teacher": pl.String(),
    "student": pl.String(),
    "surface": pl.String(),
    "task": pl.String(),
    "lag": pl.Int64(),
    "slices": pl.Int64(),
    "rows": pl.Int64(),
    "ne_teacher": pl.Float64(),
    "ne_student": pl.Float64(),
    "ne_control": pl.Float64(),
    "loss_teacher": pl.Float64(),
    "error_teacher": pl.Float64(),
    "loss_student": pl.Float64(),
    "error_student": pl.Float64(),
}


def teacher_lag_study(work: Workspace, device: str) -> Iterator[pl.DataFrame]:
    """Rows of each teacher's students, a row a lag; all lags of a student are judged on the same impressions.

    The teacher is trained once and scores with every lag; a student's versions, one a lag, and its control pass over
    the slices together. Students with several teachers are left out: which one is stale would not be said.
    """
    replay = Replay.of(work, device, students_columns(work.project))
    lags = tuple(lag for lag in LAGS if lag < len(replay) - 1)
    if not lags:
        return
    for teacher in work.project.teachers:
        predictions = teach(replay, teacher, lags)
        for student in work.project.students:
            if student.teachers == (teacher.name,):
                yield _of_student(replay, teacher, student, predictions)


def _of_student(
    replay: Replay, teacher: Teacher, student: Student, predictions: Mapping[int, Predictions]
) -> pl.DataFrame:
    versions = {
        lag: replace(student, name=f"{student.name}_lag_{lag}", teacher=f"{teacher.name}_lag_{lag}")
        for lag in predictions
    }
    teachers = {f"{teacher.name}_lag_{lag}": of_lag for lag, of_lag in predictions.items()}
    scores = study(replay, list(versions.values()), teachers)
    models = {CONTROL: scores[CONTROL]}
    for lag, of_lag in predictions.items():
        models[f"student/{lag}"] = scores[versions[lag].name]
        models[f"teacher/{lag}"] = of_lag.scores(replay, student.surface, student.task)
    table = judge(replay, student.surface, student.task, models)
    if table.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    ne = dict(table.group_by("model").agg(pl.col("ne").mean()).iter_rows())
    about = {"teacher": teacher.name, "student": student.name, "surface": rows_name(student.surface)}
    seen = {"slices": table["slice"].n_unique(), "rows": int(table.filter(pl.col("model") == CONTROL)["rows"].sum())}
    lost = {
        kind: {each.age: each for each in losses(table, [(lag, f"{kind}/{lag}") for lag in predictions])}
        for kind in ("teacher", "student")
    }
    rows = [
        {
            **about, "task": student.task, "lag": lag, **seen, "ne_teacher": ne[f"teacher/{lag}"],
            "ne_student": ne[f"student/{lag}"], "ne_control": ne[CONTROL],
            **{f"loss_{kind}": of[lag].loss for kind, of in lost.items()},
            **{f"error_{kind}": of[lag].error for kind, of in lost.items()},
        }
        for lag in predictions
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA)
