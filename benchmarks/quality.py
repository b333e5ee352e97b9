"""Does distillation help, where, and by how much: teachers first, then a table of methods and students.

``python -m benchmarks.quality`` replays a project's slices in memory for several seeds: teacher, control and every
method of a seed begin alike and see rows in the same order, so differences are paired. The slices of the first half are
for tuning; what is printed is of the second half, judged by the checkpoints that would have served. A difference is
starred where a paired t-test over seeds gives p < .05.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.harness import machine
from benchmarks.quality_arms import METHODS, TEACHER, Question, questions, single, stage, with_teacher_features
from exfm_assets.learning.desk import teachers_columns
from exfm_assets.learning.replay import Replay, Scores, Taught, judged, of_surface, study, teach
from exfm_assets.learning.specs import member_of
from models.members import Member
from projects.learning import Teacher, Training

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("ne", "auc", "calibration")


@dataclass(frozen=True)
class Run:
    """One seed's replay: per-slice metrics of every model that answers a question."""

    question: Question
    seed: int
    table: pl.DataFrame


def with_seed(training: Training, seed: int) -> Training:
    return replace(training, seed=seed)


def teacher_first(replay: Replay, seed: int, teacher: Teacher, scores: Scores, question: Question) -> Run:
    """The teacher against a single student of the same inputs, each by what trained on the slice before."""
    alone = single(teacher, question.student)
    members, training = [member_of(replay.work.project, alone)], with_seed(alone.training, seed)
    found = study(replay, alone.surface, members, training, lag=1)
    models = {TEACHER: of_surface(replay, scores, alone.surface, alone.task), "single": _member(found, 0)}
    return Run(question, seed, judged(replay, alone.surface, alone.task, models))


def methods(replay: Replay, seed: int, teacher: Teacher, scores: Scores, question: Question) -> Run:
    """Every method side by side on one student, by the checkpoints that would have served."""
    project, stream = replay.work.project, replay.work.project.stream
    student = question.student
    control = member_of(project, student, control=True)
    taught = replace(control.spec, teachers=(TEACHER,))
    members = [Member(taught if d is not None else control.spec, d) for d, _ in METHODS.values()]
    leads = [lead for _, lead in METHODS.values()]
    serving = stream.serving_lag(stream.task(student.task).window)
    training = with_seed(student.training, seed)
    teachers = {TEACHER: Taught(scores, teacher.lag)}
    found = study(replay, student.surface, members, training, serving, teachers, leads)
    models = {name: _member(found, place) for place, name in enumerate(METHODS)}
    models[TEACHER] = of_surface(replay, scores, student.surface, student.task)
    models |= truth(replay, student.surface, student.task)
    return Run(question, seed, judged(replay, student.surface, student.task, models))


def _member(scores: Scores, place: int) -> Scores:
    return [None if one is None else one[place] for one in scores]


def truth(replay: Replay, surface: int | str | None, task: str) -> Mapping[str, Scores]:
    """The true logits of a simulated stream."""
    from exfm_assets.learning.evaluation import true_logits

    if replay.work.project.simulation is None:
        return {}
    best = []
    for place, piece in enumerate(replay.pieces):
        logits = true_logits(replay.work.state.log, replay.frame(place), piece, task)
        best.append(None if logits is None else logits[replay.rows(place, surface)])
    return {"best": best}


def second_half(replay: Replay, table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("place") >= len(replay) // 2)


def significant(differences: np.ndarray) -> bool:
    """Is the mean of paired differences, one a seed, not zero (t-test, p < .05)?"""
    if len(differences) < 2 or np.allclose(differences, differences[0]):
        return False
    return bool(stats.ttest_1samp(differences, 0.0).pvalue < 0.05)


def summary(replay: Replay, runs: list[Run], against: str) -> pl.DataFrame:
    """One row a question and model: means over slices and seeds, gain over ``against``, its spread over seeds."""
    rows = []
    asked = dict.fromkeys(run.question for run in runs)
    for question in asked:
        mine = [second_half(replay, run.table) for run in runs if run.question == question]
        mine = [table for table in mine if table.height]
        by_seed = [dict(_means(table)) for table in mine]
        if not by_seed:
            continue
        base = np.array([means[against]["ne"] for means in by_seed])
        lead = base - np.array([means[TEACHER]["ne"] for means in by_seed])
        far = base - np.array([means.get("best", {}).get("ne", np.nan) for means in by_seed])
        for model in by_seed[0]:
            ne = np.array([means[model]["ne"] for means in by_seed])
            gain = (base - ne) / base
            rows.append({
                "surface": str(question.surface), "task": question.task, "inputs": question.inputs,
                "teacher features": question.teacher_features, "model": model, "seeds": len(by_seed),
                "slices": mine[0]["slice"].n_unique(),
                **{metric: float(np.mean([m[model][metric] for m in by_seed])) for metric in METRICS},
                "gain": float(gain.mean()), "spread": float(gain.std(ddof=1)) if len(gain) > 1 else float("nan"),
                "significant": significant(gain),
                "transfer": float(((base - ne) / lead).mean()) if (lead > 0).all() else float("nan"),
                "closed": float(((base - ne) / far).mean()),
            })  # fmt: skip
    return pl.DataFrame(rows)


def _means(table: pl.DataFrame) -> Iterator[tuple[str, dict[str, float]]]:
    for row in table.group_by("model", maintain_order=True).agg(pl.col(*METRICS).mean()).iter_rows(named=True):
        yield row.pop("model"), row


def show(console: Console, title: str, rows: pl.DataFrame) -> None:
    console.print(f"\n{title}")
    console.print(f"{'surface':10} {'task':9} {'inputs':14} {'tf':3} {'model':24} {'NE':>7} {'AUC':>6} {'calib.':>6} "
                  f"{'gain':>8} {'spread':>7}   {'transfer':>8} {'closed':>7}")  # fmt: skip
    for row in rows.iter_rows(named=True):
        star = "*" if row["significant"] else " "
        console.print(
            f"{row['surface']:10} {row['task']:9} {row['inputs']:14} {'yes' if row['teacher features'] else 'no':3} "
            f"{row['model']:24} {row['ne']:7.4f} {row['auc']:6.4f} {row['calibration']:6.3f} {row['gain']:+8.2%} "
            f"{row['spread']:7.2%} {star} {row['transfer']:8.2f} {row['closed']:7.1%}"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "quality.json")
    asked = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    work = stage(console)
    replay = Replay.of(work, work.device, teachers_columns(work.project))
    first: list[Run] = []
    table: list[Run] = []
    for seed in range(asked.seeds):
        scores = {}
        for teacher in work.project.teachers:
            member, training = member_of(work.project, teacher), with_seed(teacher.training, seed)
            scores[teacher.name] = teach(replay, member, training, [teacher.lag])[teacher.lag]
        featured = with_teacher_features(replay, scores)
        for question in questions(work.project):
            teacher = work.project.teacher(question.student.teachers[0])
            if question.inputs == "same" and not question.teacher_features:
                first.append(teacher_first(replay, seed, teacher, scores[teacher.name], question))
            slices = featured if question.teacher_features else replay
            table.append(methods(slices, seed, teacher, scores[teacher.name], question))
        console.print(f"seed {seed}: {len(table)} students judged")
        _publish(console, asked.out, replay, first, table)
    console.print(f"\n{work.project.name}, {asked.seeds} seeds, second half of {len(replay)} slices; {asked.out.name}")


def _publish(console: Console, out: Path, replay: Replay, first: list[Run], table: list[Run]) -> None:
    """Write what is known after each seed, so that a run that is stopped leaves what it found."""
    results = {"teachers": summary(replay, first, "single"), "methods": summary(replay, table, "none")}
    title = "the teacher against one student given the same inputs (both trained on the slice before)"
    show(console, title, results["teachers"])
    show(console, "methods against the control (served checkpoints)", results["methods"])
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "project": replay.work.project.name}
    out.write_text(json.dumps({**content, **{name: rows.to_dicts() for name, rows in results.items()}}, indent=1))


if __name__ == "__main__":
    main()
