"""What a stale teacher costs: NE of teacher and students against the teacher's lag.

Belongs here: the replay with several lags. Not here: the asset and its plot (assets/studies.py).
"""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from exfm.learning import Student, Teacher
from exfm.project import Project
from models.members import Member
from pipeline.registry.specs import member_of
from pipeline.slices.slice_inputs import students_columns
from pipeline.studies.replay import Replay, Taught, judged, of_surface, rows_name, study, teach
from pipeline.workspace import Workspace

LAGS = (1, 2, 4, 8, 16)
CONTROL = "control"
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
}


def freshness_cost(work: Workspace, device: str) -> Iterator[pl.DataFrame]:
    """Rows of each teacher's students, a row a lag; all lags of a student are judged on the same impressions.

    The teacher is trained once and scores with every lag; a student's versions, one a lag, and its control pass over
    the slices together. Students with several teachers are left out: which one is stale would not be said.
    """
    replay = Replay.of(work, device, students_columns(work.project))
    lags = tuple(lag for lag in LAGS if lag < len(replay) - 1)
    for teacher in work.project.teachers:
        scores = teach(replay, member_of(work.project, teacher), teacher.training, lags)
        taught = {_named(teacher, lag): Taught(scores[lag], lag) for lag in lags}
        for student in work.project.students:
            if student.teachers == (teacher.name,) and student.distillation is not None:
                yield _of_student(replay, teacher, student, taught)


def _named(teacher: Teacher, lag: int) -> str:
    return f"{teacher.name}@{lag}"


def members_of(project: Project, student: Student, teachers: list[str]) -> list[Member]:
    """The control, then the student once for each of some teachers' names."""
    control, mine = (member_of(project, student, control=control) for control in (True, False))
    return [control, *(replace(mine, spec=replace(mine.spec, teachers=(name,))) for name in teachers)]


def _of_student(replay: Replay, teacher: Teacher, student: Student, taught: dict[str, Taught]) -> pl.DataFrame:
    stream = replay.work.project.stream
    names = list(taught)
    members = members_of(replay.work.project, student, names)
    leads = [None, *[student.lead] * len(names)] if student.lead is not None else []
    serving = stream.serving_lag(stream.task(student.task).window)
    scores = study(replay, student.surface, members, student.training, serving, taught, leads)
    models = {CONTROL: [None if s is None else s[0] for s in scores]}
    for place, name in enumerate(names):
        models[f"student/{name}"] = [None if s is None else s[place + 1] for s in scores]
        models[f"teacher/{name}"] = of_surface(replay, taught[name].scores, student.surface, student.task)
    table = judged(replay, student.surface, student.task, models)
    if table.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    ne = dict(table.group_by("model").agg(pl.col("ne").mean()).iter_rows())
    about = {"teacher": teacher.name, "student": student.name, "surface": rows_name(student.surface)}
    seen = {"slices": table["slice"].n_unique(), "rows": int(table.filter(pl.col("model") == CONTROL)["rows"].sum())}
    rows = [
        {
            **about, "task": student.task, "lag": taught[name].lag, **seen, "ne_teacher": ne[f"teacher/{name}"],
            "ne_student": ne[f"student/{name}"], "ne_control": ne[CONTROL],
        }
        for name in names
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA)
