"""Bad teachers: which measure sees one, after how many slices, and what it costs its students until it is taken back.

    python -m benchmarks.bad_teacher [--slices 40] [--seeds 3]

Belongs here: planting them, courses of action, the table. Not here: the measures (pipeline/drift/), withdrawing.

A teacher scores every slice; from slice EVENT on what it says is spoilt. A student learns from it, its control from
labels alone. ``left``: nobody does anything. ``by hand``: the slices that are spoilt are withdrawn one slice after the
first, so the student learns them again from the sound teacher. ``by drift``: the same once the drift report names the
teacher, or the student's lead or disagreement. The cost is the student's NE above that of an undisturbed student on the
same rows, over SPAN slices.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.drift import STILL, made
from benchmarks.harness import machine
from exfm.distillation import AuxiliaryHead
from exfm.learning import Student, Teacher
from exfm.networks import DCNv2
from exfm.project import Project
from models.metrics import evaluate
from pipeline.drift.findings import Finding, Judged, of_judged
from pipeline.evaluation.slice_metrics import prediction_histogram
from pipeline.slices.slice_inputs import students_columns
from pipeline.studies.replay import Predictions, Replay, Scores, judge, study, teach
from pipeline.training.student_run import CONTROL
from projects.simulated import PROJECT

EVENT, SPAN = 20, 15  # slices
WEEK = 7  # slices that the stale teacher is older than the sound one
Spoil = Callable[[Replay, Predictions, Predictions, int], np.ndarray]


def flipped(replay: Replay, sound: Predictions, stale: Predictions, at: int) -> np.ndarray:
    """What is likely on one surface is said to be unlikely there, as if its labels had been flipped."""
    logits = sound.by_slice[at].logits.copy()
    rows = replay.rows(at, replay.work.project.students[0].surface)
    logits[rows] = 2 * logits[rows].mean(axis=0, keepdims=True) - logits[rows]
    return logits


def stuck(replay: Replay, sound: Predictions, stale: Predictions, at: int) -> np.ndarray:
    """The same for every impression."""
    logits = sound.by_slice[at].logits
    return np.broadcast_to(logits.mean(axis=0, keepdims=True), logits.shape).astype(logits.dtype).copy()


def week_old(replay: Replay, sound: Predictions, stale: Predictions, at: int) -> np.ndarray:
    """A snapshot of a week before."""
    return stale.by_slice[at].logits


KINDS: dict[str, Spoil] = {
    "labels of a surface flipped": flipped, "stuck at a constant": stuck, "a week old": week_old
}  # fmt: skip


def project_of(slices: int, seed: int) -> Project:
    """The default project's teacher and one student of it, in a world that drifts as it does by default."""
    stream = replace(PROJECT.stream, until=PROJECT.stream.first_slice + slices * PROJECT.stream.slice_length)
    seen = ("user_id", "item_id", "device", "country")
    teacher = replace(
        PROJECT.teachers[0], inputs=(*seen, "surface", "item_activity"), network=DCNv2(embedding=8, hidden=(64,))
    )
    student = replace(
        PROJECT.student("feed_click_both"), name="click", lead=None, inputs=seen,
        distillation=AuxiliaryHead(weight=2.0), network=DCNv2(embedding=8, cross=1, hidden=(32,)),
    )  # fmt: skip
    simulation = replace(STILL, seed=seed, half_life_days=10.0, drift="gradual")
    views = tuple(view for view in PROJECT.feature_views if view.name == "item_activity")
    return replace(
        PROJECT, name="bad", stream=stream, feature_views=views, teachers=(teacher,), prediction_views=(),
        students=(student,), simulation=simulation,
    )  # fmt: skip


def spoilt(sound: Predictions, bad: dict[int, np.ndarray], slices: range) -> Predictions:
    """A teacher's predictions, those of some slices in place of the sound ones."""
    by_slice = {
        at: replace(of, logits=bad[at]) if at in slices and at in bad else of for at, of in sound.by_slice.items()
    }
    return replace(sound, by_slice=by_slice)


def judged_teacher(replay: Replay, student: Student, scores: Scores, control: Scores) -> Iterator[Judged]:
    """The teacher's slices as the drift report sees them: the checkpoint before each slice scored it."""
    for at, (logits, beside) in enumerate(zip(scores, control, strict=True)):
        labels = replay.labels(at, student.surface, student.task)
        if logits is None or beside is None:
            continue
        known = np.isfinite(labels)
        mine, other = (evaluate(values[known], labels[known]) for values in (logits, beside))
        yield Judged(
            at, at - 1, int(labels[known].sum()), mine["ne"], mine["calibration"], lead=other["ne"] - mine["ne"],
            histogram=prediction_histogram(logits),
        )  # fmt: skip


def seen_after(replay: Replay, teacher: list[Judged]) -> tuple[int | None, str]:
    """Slices after which a finding is of the spoilt ones, and which measures found it, looking at each slice's end."""
    for last in range(EVENT, len(replay)):
        so_far = [each for each in teacher if each.index <= last]
        found = [
            finding for finding in of_judged(so_far, replay.work.project.drift, -1)
            if finding.index >= EVENT and finding.measure != "rows"
        ]  # fmt: skip
        if found:
            return last - EVENT + 1, ", ".join(sorted({finding.measure for finding in found}))
    return None, ""


def false_alarms(replay: Replay, teacher: list[Judged]) -> list[Finding]:
    return [finding for finding in of_judged(teacher, replay.work.project.drift, -1) if finding.index >= EVENT]


def rows_of(slices: int, seeds: int, console: Console) -> Iterator[tuple[str, dict[str, object]]]:
    """A row a kind and seed."""
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder, console.status(f"seed {seed + 1} of {seeds}"):
            project = project_of(slices, 100 + seed)
            (teacher,), (student,) = project.teachers, project.students
            replay = Replay.of(made(project, Path(folder)), "cpu", students_columns(project))
            yield from _of_seed(replay, teacher, student)


def _of_seed(replay: Replay, teacher: Teacher, student: Student) -> Iterator[tuple[str, dict[str, object]]]:
    by_lag = teach(replay, teacher, (1, 1 + WEEK))
    sound, stale = by_lag[1], by_lag[1 + WEEK]
    calm = study(replay, [student], {teacher.name: sound})
    last = len(replay)
    quiet = list(judged_teacher(replay, student, sound.scores(replay, student.surface, student.task), calm[CONTROL]))
    for name, spoil in KINDS.items():
        bad = {at: spoil(replay, sound, stale, at) for at in range(EVENT, last) if at in stale.by_slice}
        left = spoilt(sound, bad, range(EVENT, last))
        scores = left.scores(replay, student.surface, student.task)
        seen, by = seen_after(replay, list(judged_teacher(replay, student, scores, calm[CONTROL])))
        # Rebuilt from before: from the withdrawal on it is as if the teacher had been sound; until then it is not.
        courses = {"left": last, "by hand": EVENT + 1, "by drift": EVENT + seen if seen is not None else last}
        disturbed = study(replay, [student], {teacher.name: left})[student.name]
        costs = {}
        for course, until in courses.items():
            mixed = [disturbed[at] if EVENT <= at < until + 1 else calm[student.name][at] for at in range(last)]
            if course == "left":
                mixed = list(disturbed)
            table = judge(replay, student.surface, student.task, {"mixed": mixed, "calm": calm[student.name]})
            ne = {model: part.sort("place") for (model,), part in table.group_by("model")}
            gaps = [
                100 * (mine / other - 1)
                for place, mine, other in zip(ne["calm"]["place"], ne["mixed"]["ne"], ne["calm"]["ne"], strict=True)
                if EVENT <= place < EVENT + SPAN
            ]
            costs[course] = float(np.mean(gaps))
        yield name, {"seen": seen, "by": by, "false": len(false_alarms(replay, quiet)), **costs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    console = Console(width=170)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in KINDS}
    for name, row in rows_of(given.slices, given.seeds, console):
        rows[name].append(row)
    title = f"bad teachers: the student's NE above that beside a sound teacher, % over {SPAN} slices, mean over seeds"
    table = Table(title=title, title_justify="left")
    courses = ("left", "by hand", "by drift")
    for column in ("teacher", "seen after (slices)", "by", *courses):
        table.add_column(column)
    for name, of_kind in rows.items():
        seen = ", ".join(str(row["seen"] or "not") for row in of_kind)
        by = "; ".join(sorted({str(row["by"]) for row in of_kind} - {""}))
        means = [float(np.mean([float(str(row[course])) for row in of_kind])) for course in courses]
        table.add_row(name, seen, by, *(f"{mean:+.2f}" for mean in means))
    console.print(table)
    alarms = sum(int(str(row["false"])) for row in next(iter(rows.values())))
    console.print(f"of the sound teacher: {alarms} findings in {given.seeds} x {given.slices - EVENT} slices")
    console.print(f"{machine()['cpu']}, {machine()['cores']} cores, {given.seeds} seeds, {given.slices} slices a world")


if __name__ == "__main__":
    main()
