"""Does distillation help, where, and by how much: teachers first, then a table of methods and students.

``python -m benchmarks.quality`` replays a project's slices in memory for several seeds: teacher, control and every
method of a seed begin alike and see rows in the same order, so differences are paired. The slices of the first half are
for tuning; what is printed is of the second half, judged by the checkpoints that would have served. A difference is
starred where a paired t-test over seeds gives p < .05, twice where that holds among all questions of the method.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.harness import machine
from benchmarks.quality_arms import METHODS, TEACHER, Question, about, questions, single, stage, with_teacher_features
from benchmarks.quality_tables import markdown, show
from exfm.learning import Teacher, Training
from exfm.project import digest
from models.members import Member
from pipeline.registry.lineage import LEARNING_VERSION
from pipeline.registry.specs import member_of
from pipeline.slices.slice_inputs import teachers_columns
from pipeline.studies.replay import Replay, Scores, Taught, judged, of_surface, study, teach
from pipeline.tables import write_parquet

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("ne", "auc", "calibration")
INPUTS = ("fewer", "same")
ASKED = ["surface", "task", "inputs", "second"]


def with_seed(training: Training, seed: int) -> Training:
    return replace(training, seed=seed)


def teacher_first(replay: Replay, seed: int, teacher: Teacher, scores: Scores, question: Question) -> pl.DataFrame:
    """The teacher against a single student of the same inputs, each by what trained on the slice before."""
    alone = single(teacher, question.student)
    members, training = [member_of(replay.work.project, alone)], with_seed(alone.training, seed)
    found = study(replay, alone.surface, members, training, lag=1)
    models = {TEACHER: of_surface(replay, scores, alone.surface, alone.task), "single": _member(found, 0)}
    return _about(judged(replay, alone.surface, alone.task, models), question, "teachers", seed)


def methods(replay: Replay, seed: int, teacher: Teacher, scores: Scores, question: Question) -> pl.DataFrame:
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
    return _about(judged(replay, student.surface, student.task, models), question, "methods", seed)


def _member(scores: Scores, place: int) -> Scores:
    return [None if one is None else one[place] for one in scores]


def truth(replay: Replay, surface: int | str | None, task: str) -> Mapping[str, Scores]:
    """The true logits of a simulated stream."""
    from pipeline.evaluation.slice_metrics import true_logits

    if replay.work.project.simulation is None:
        return {}
    best = []
    for place, slice_ in enumerate(replay.slices):
        logits = true_logits(replay.work.state.log, replay.frame(place), slice_, task)
        best.append(None if logits is None else logits[replay.rows(place, surface)])
    return {"best": best}


def _about(table: pl.DataFrame, question: Question, part: str, seed: int) -> pl.DataFrame:
    """Per-slice metrics with what was asked."""
    said = {"surface": str(question.surface), "task": question.task, "inputs": question.inputs}
    about = {"part": part, "seed": seed, **said, "second": question.teacher_features}
    return table.select(*(pl.lit(value).alias(name) for name, value in about.items()), pl.all())


def p_value(differences: np.ndarray) -> float:
    """That paired differences, one a seed, have mean zero (two-sided t-test); 1 where that can't be said."""
    if len(differences) < 2 or np.allclose(differences, differences[0]):
        return 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several tests hold together: the chance that any of them is wrong is at most ``level`` (Holm, 1979)."""
    held, order = [False] * len(p), sorted(range(len(p)), key=lambda place: p[place])
    for rank, place in enumerate(order):
        if p[place] >= level / (len(p) - rank):
            break
        held[place] = True
    return held


def summary(seeds: pl.DataFrame, slices: int, against: str) -> pl.DataFrame:
    """One row a question and model: means over the second half's slices and over seeds.

    ``gain`` is over ``against`` of the same inputs, ``gain_total`` over that without teacher features: what both
    channels give together. ``transfer`` and ``closed`` are shares of the way from the latter to teacher and best.
    ``p`` is of the gain alone; ``holds`` says that it is significant among all questions that the model is asked.
    """
    late = seeds.filter(pl.col("place") >= slices // 2)
    judged_on = late.group_by(ASKED, maintain_order=True).agg(pl.col("slice").n_unique().alias("slices"))
    means = late.group_by([*ASKED, "seed", "model"], maintain_order=True).agg(pl.col(*METRICS).mean())
    by_key = {tuple(row[name] for name in (*ASKED, "seed", "model")): row for row in means.iter_rows(named=True)}
    rows = []
    for asked in judged_on.iter_rows(named=True):
        key = tuple(asked[name] for name in ASKED)
        plain = (*key[:-1], False)
        counted = sorted({k[-2] for k in by_key if k[: len(key)] == key and (*plain, k[-2], against) in by_key})
        models = list(dict.fromkeys(k[-1] for k in by_key if k[: len(key)] == key))

        def ne(question: tuple[object, ...], model: str, counted: list[int] = counted) -> np.ndarray:
            found = [by_key.get((*question, seed, model), {}).get("ne", np.nan) for seed in counted]
            return np.array(found, dtype=float)

        base, first = ne(key, against), ne(plain, against)
        for model in models:
            gain, total = (base - ne(key, model)) / base, (first - ne(key, model)) / first
            lead, far = first - ne(key, TEACHER), first - ne(key, "best")
            mean = {m: float(np.mean([by_key[(*key, seed, model)][m] for seed in counted])) for m in METRICS}
            rows.append({
                **asked, "model": model, "seeds": len(counted), **mean,
                "gain": float(gain.mean()), "spread": _spread(gain), "p": p_value(gain),
                "gain_total": float(total.mean()), "p_total": p_value(total),
                "transfer": float(((first - ne(key, model)) / lead).mean()) if (lead > 0).all() else float("nan"),
                "closed": float(((first - ne(key, model)) / far).mean()),
            })  # fmt: skip
    found = pl.DataFrame(rows)
    of_model = found.with_row_index("row").partition_by("model", maintain_order=True)
    together = {
        row: held for part in of_model for row, held in zip(part["row"], holm(part["p"].to_list()), strict=True)
    }
    return found.with_columns(pl.Series("holds", [together[row] for row in range(found.height)], dtype=pl.Boolean))


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def one_seed(replay: Replay, seed: int, inputs: Sequence[str] = INPUTS) -> pl.DataFrame:
    """All questions of a seed on these inputs: every teacher is trained anew, and says its labels and features."""
    project, scores = replay.work.project, {}
    for teacher in project.teachers:
        member, training = member_of(project, teacher), with_seed(teacher.training, seed)
        scores[teacher.name] = teach(replay, member, training, [teacher.lag])[teacher.lag]
    featured = with_teacher_features(replay, scores) if project.prediction_views else replay
    tables = []
    for question in (one for one in questions(project) if one.inputs in inputs):
        teacher = project.teacher(question.student.teachers[0])
        if question.inputs == "same" and not question.teacher_features:
            tables.append(teacher_first(replay, seed, teacher, scores[teacher.name], question))
        slices = featured if question.teacher_features else replay
        tables.append(methods(slices, seed, teacher, scores[teacher.name], question))
    return pl.concat(tables, how="diagonal_relaxed")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed: several processes can share the seeds")
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=INPUTS, help="than or as the teacher's")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "quality")
    asked = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    work = stage(console)
    project = work.project
    replay = Replay.of(work, work.device, teachers_columns(project))
    data = [work.table(name).digest(slice_) for name in ("logged_inputs", "labels") for slice_ in replay.slices]
    # What was found for a seed is kept under what it was made of: a run that was stopped goes on where it was.
    folder = (
        asked.out / f"{project.name}-{digest(LEARNING_VERSION, *about(project), METHODS, data, sorted(asked.inputs))}"
    )
    for seed in range(asked.first, asked.first + asked.seeds):
        path = folder / f"seed-{seed}.parquet"
        if not path.is_file():
            console.print(f"{project.name}: seed {seed}")
            write_parquet(one_seed(replay, seed, asked.inputs), path)
    seeds = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("seed-*.parquet"))], how="diagonal_relaxed")
    parts = {"teachers": "single", "methods": "none"} if "same" in asked.inputs else {"methods": "none"}
    results = {part: summary(seeds.filter(part=part), len(replay), against) for part, against in parts.items()}
    title = "the teacher against one student given the same inputs (both trained on the slice before)"
    if "teachers" in results:
        show(console, title, results["teachers"])
    show(console, "methods against the control (served checkpoints)", results["methods"])
    table = "\n".join(markdown(results["methods"]))
    (folder / "tables.md").write_text(table, encoding="utf-8")
    console.print(f"\nthe same in short: gain over the control in percent [transfer ratio]\n{table}", markup=False)
    content = {"machine": machine(), "project": project.name, **{k: rows.to_dicts() for k, rows in results.items()}}
    (folder / "summary.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    console.print(f"\n{project.name}: {seeds['seed'].n_unique()} seeds, second half of {len(replay)} slices")


if __name__ == "__main__":
    main()
