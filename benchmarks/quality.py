"""Does distillation help, where, and by how much: teachers first, then a table of methods and students.

``python -m benchmarks.quality`` replays a project's slices in memory for several seeds: teacher, control and every
method of a seed begin alike and see rows in the same order, so differences are paired. The slices of the first half are
for tuning; what is printed is of the second half, judged by the checkpoints that would have served. A difference is
starred where a paired t-test over seeds gives p < .05, twice where that holds among all questions of the method.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.harness import machine
from benchmarks.quality_arms import METHODS, TEACHER, Question, about, questions, single, stage, with_teacher_features
from benchmarks.quality_tables import markdown, show
from exfm.declaration import digest
from exfm.learning import Teacher, Training
from pipeline.slices.slice_inputs import teachers_columns
from pipeline.studies.replay import Predictions, Replay, judge, study, teach
from pipeline.tables import write_parquet
from pipeline.training.student_run import CONTROL

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("ne", "auc", "calibration")
INPUTS = ("fewer", "same")
QUESTION_COLUMNS = ["surface", "task", "inputs", "second"]


def with_seed(training: Training, seed: int) -> Training:
    return replace(training, seed=seed)


def teacher_first(
    replay: Replay, seed: int, teacher: Teacher, predictions: Predictions, question: Question
) -> pl.DataFrame:
    """The teacher against a single student of the same inputs, each by what trained on the slice before."""
    alone = single(teacher, question.student)
    alone = replace(alone, training=with_seed(alone.training, seed))
    scores = study(replay, [alone], {}, serving_lag=1)
    theirs = predictions.scores(replay, alone.surface, alone.task)
    models = {TEACHER: theirs, "single": scores[alone.name]}
    return _about(judge(replay, alone.surface, alone.task, models), question, "teachers", seed)


def methods(replay: Replay, seed: int, teacher: Teacher, predictions: Predictions, question: Question) -> pl.DataFrame:
    """Every method side by side on one student, by the checkpoints that would have served."""
    student = replace(question.student, training=with_seed(question.student.training, seed))
    names = {f"method_{number}": method for number, method in enumerate(METHODS)}
    arms = [
        replace(student, name=name, distillation=distillation, lead=lead, teacher=TEACHER)
        for name, (distillation, lead) in ((name, METHODS[method]) for name, method in names.items())
        if distillation is not None
    ]
    scores = study(replay, arms, {TEACHER: predictions})
    control = next(name for name, (distillation, _) in METHODS.items() if distillation is None)
    models = {control: scores[CONTROL]} | {names[arm.name]: scores[arm.name] for arm in arms}
    models[TEACHER] = predictions.scores(replay, student.surface, student.task)
    if "best" in scores:
        models["best"] = scores["best"]
    return _about(judge(replay, student.surface, student.task, models), question, "methods", seed)


def _about(table: pl.DataFrame, question: Question, part: str, seed: int) -> pl.DataFrame:
    """Per-slice metrics with the columns of the question."""
    fields = {"surface": str(question.surface), "task": question.task, "inputs": question.inputs}
    about = {"part": part, "seed": seed, **fields, "second": question.teacher_features}
    return table.select(*(pl.lit(value).alias(name) for name, value in about.items()), pl.all())


def p_value(differences: np.ndarray) -> float:
    """That paired differences, one a seed, have mean zero (two-sided t-test); 1 where it is not defined."""
    if len(differences) < 2 or np.allclose(differences, differences[0]):
        return 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several tests hold together: the chance that any of them is wrong is at most ``level`` (Holm, 1979)."""
    held, order = [False] * len(p), sorted(range(len(p)), key=lambda index: p[index])
    for rank, index in enumerate(order):
        if p[index] >= level / (len(p) - rank):
            break
        held[index] = True
    return held


def summary(seeds: pl.DataFrame, slices: int, against: str) -> pl.DataFrame:
    """One row a question and model: means over the second half's slices and over seeds.

    ``gain`` is over ``against`` of the same inputs, ``gain_total`` over that without teacher features: what both
    channels give together. ``transfer`` and ``closed`` are shares of the way from the latter to teacher and best.
    ``p`` is of the gain alone; ``holds`` says that it is significant among all questions of the model.
    """
    late = seeds.filter(pl.col("place") >= slices // 2)
    judged_on = late.group_by(QUESTION_COLUMNS, maintain_order=True).agg(pl.col("slice").n_unique().alias("slices"))
    means = late.group_by([*QUESTION_COLUMNS, "seed", "model"], maintain_order=True).agg(pl.col(*METRICS).mean())
    by_key = {
        tuple(row[name] for name in (*QUESTION_COLUMNS, "seed", "model")): row for row in means.iter_rows(named=True)
    }
    rows = []
    for group in judged_on.iter_rows(named=True):
        key = tuple(group[name] for name in QUESTION_COLUMNS)
        plain = (*key[:-1], False)
        counted = sorted({k[-2] for k in by_key if k[: len(key)] == key and (*plain, k[-2], against) in by_key})
        models = list(dict.fromkeys(k[-1] for k in by_key if k[: len(key)] == key))

        def ne(question: tuple[object, ...], model: str, counted: list[int] = counted) -> np.ndarray:
            values = [by_key.get((*question, seed, model), {}).get("ne", np.nan) for seed in counted]
            return np.array(values, dtype=float)

        base, first = ne(key, against), ne(plain, against)
        for model in models:
            gain, total = (base - ne(key, model)) / base, (first - ne(key, model)) / first
            lead, far = first - ne(key, TEACHER), first - ne(key, "best")
            mean = {m: float(np.mean([by_key[(*key, seed, model)][m] for seed in counted])) for m in METRICS}
            rows.append({
                **group, "model": model, "seeds": len(counted), **mean,
                "gain": float(gain.mean()), "spread": _spread(gain), "p": p_value(gain),
                "gain_total": float(total.mean()), "p_total": p_value(total),
                "transfer": float(((first - ne(key, model)) / lead).mean()) if (lead > 0).all() else float("nan"),
                "closed": float(((first - ne(key, model)) / far).mean()),
            })  # fmt: skip
    table = pl.DataFrame(rows)
    of_model = table.with_row_index("row").partition_by("model", maintain_order=True)
    together = {
        row: held for part in of_model for row, held in zip(part["row"], holm(part["p"].to_list()), strict=True)
    }
    return table.with_columns(pl.Series("holds", [together[row] for row in range(table.height)], dtype=pl.Boolean))


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def one_seed(replay: Replay, seed: int, inputs: Sequence[str] = INPUTS) -> pl.DataFrame:
    """All questions of a seed on these inputs: every teacher is trained anew, and says its labels and features."""
    project, predictions = replay.work.project, {}
    for teacher in project.teachers:
        seeded = replace(teacher, training=with_seed(teacher.training, seed))
        predictions[teacher.name] = teach(replay, seeded, [teacher.lag])[teacher.lag]
    with tempfile.TemporaryDirectory() as folder:
        featured = with_teacher_features(replay, predictions, Path(folder)) if project.prediction_views else replay
    tables = []
    for question in (question for question in questions(project) if question.inputs in inputs):
        teacher = project.teacher(question.student.teachers[0])
        if question.inputs == "same" and not question.teacher_features:
            tables.append(teacher_first(replay, seed, teacher, predictions[teacher.name], question))
        slices = featured if question.teacher_features else replay
        tables.append(methods(slices, seed, teacher, predictions[teacher.name], question))
    return pl.concat(tables, how="diagonal_relaxed")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed: several processes can share the seeds")
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=INPUTS, help="than or as the teacher's")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "benchmarks" / "quality")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    work = stage(console)
    project = work.project
    replay = Replay.of(work, work.device, teachers_columns(project))
    data = [work.table(name).digest(slice_) for name in ("logged_inputs", "labels") for slice_ in replay.slices]
    # A seed's results are kept under a digest of their inputs: a run that was stopped continues where it was.
    folder = (
        options.out / f"{project.name}-{digest(Training(), *about(project), METHODS, data, sorted(options.inputs))}"
    )
    for seed in range(options.first, options.first + options.seeds):
        path = folder / f"seed-{seed}.parquet"
        if not path.is_file():
            console.print(f"{project.name}: seed {seed}")
            write_parquet(one_seed(replay, seed, options.inputs), path)
    seeds = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("seed-*.parquet"))], how="diagonal_relaxed")
    parts = {"teachers": "single", "methods": "none"} if "same" in options.inputs else {"methods": "none"}
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
