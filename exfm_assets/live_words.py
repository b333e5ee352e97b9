"""What is said of a live world on its terminal: a sentence when something happens, with why.

Belongs here: noticing and wording. Not here: what makes it happen.
"""

import threading
from datetime import UTC, datetime
from typing import Any

import polars as pl
from rich.console import Console

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.drift.report import news, stored_drift
from pipeline.drift.tries import DRIFTED
from pipeline.evaluation.evaluations import read_evaluations
from pipeline.live.live_world import NOBODY
from pipeline.releases.history import history_of
from pipeline.releases.release import CANARY
from pipeline.releases.verdict import REFUSED, read_verdict
from pipeline.tables import DataError
from pipeline.workspace import Workspace

LOOK_SECONDS = 2.0


class Narrator:
    """Notices what changed since it looked last."""

    def __init__(self, work: Workspace, console: Console) -> None:
        self._work, self._console = work, console
        self._changes = {student.name: len(history_of(work, student)) for student in work.project.students}
        self._said: dict[str, str] = {}
        self._answers: dict[str, bool] = {}
        self._drifts: dict[str, pl.DataFrame] = {}  # what was said of them

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Say what is new of each student."""
        for student in self._work.project.students:
            try:
                self._releases(student)
                self._verdict(student)
                self._drift(student)
            except DataError as error:
                self._once(f"{student.name} fault", str(error))

    def slice_ended(self, slice_: Slice, told: dict[str, Any]) -> None:
        """A line on a slice that is over: who chose, how often that was clicked, and how well students were judged."""
        parts = [f"{told['impressions']:,} shown"]
        for surface, by in told["surfaces"].items():
            rates = [f"{who} {_rate(count)}" for who, count in sorted(by.items(), key=lambda each: each[0] == NOBODY)]
            parts.append(f"{surface}: clicked by who chose it, {', '.join(rates)}")
        self.say("; ".join(parts))
        for reason, count in told["unanswered"].items():
            if self._said.get(reason) is None:  # the traffic file has the counts of each slice
                self._once(reason, f"{count:,} requests had no answer: {reason}; popularity chooses until there is one")
        self._chosen(told)
        for student in self._work.project.students:
            try:
                self._judged(student)
            except DataError as error:
                self._once(f"{student.name} fault", str(error))

    def _chosen(self, told: dict[str, Any]) -> None:
        for surface, by in told["surfaces"].items():
            shown = sum(count["impressions"] for count in by.values())
            students = {who: count["impressions"] / shown for who, count in by.items() if who != NOBODY and shown}
            for who, share in students.items():
                if not self._answers.get(who):
                    self._answers[who] = True
                    self.say(f"{who} chooses {share:.0%} of what is shown on {surface}; popularity keeps its holdout")

    def _releases(self, student: Student) -> None:
        history = history_of(self._work, student)
        for change in history[self._changes[student.name] :]:
            learnt = f", which has learnt until {change.trained_until[11:16]}" if change.trained_until else ""
            because = f": {change.why}" if change.why else ""
            if change.action == CANARY and change.canary is not None:
                share = f"{student.serving.canary:.0%} of users"
                self.say(f"{student.name}: release {change.canary.number} serves {share} first{because}")
                continue
            self.say(f"{student.name}: release {change.number} serves{learnt} ({change.action}{because})")
        self._changes[student.name] = len(history)

    def _verdict(self, student: Student) -> None:
        verdict = read_verdict(self._work, student)
        if verdict is not None and verdict.outcome == REFUSED:
            self._once(f"{student.name} gate", f"{student.name}: its gate refused a candidate: {verdict.reason}")

    def _drift(self, student: Student) -> None:
        rows = stored_drift(self._work)
        if rows is None:
            return
        rows = rows.filter(pl.col("model") == f"student/{student.name}")
        found = news(rows, self._drifts.get(student.name))
        self._drifts[student.name] = pl.concat([found, self._drifts.get(student.name, found.clear())])
        for (state,), those in found.group_by("state", maintain_order=True):
            said = "; ".join(f"{row['slice']}: {row['reason']}" for row in those.iter_rows(named=True))
            self.say(f"{student.name} drifted: {said}{'; it is trained again' if state == DRIFTED else ''}")

    def _judged(self, student: Student) -> None:
        table = self._work.evaluations(student.name)
        stored = table.stored(self._work.project.stream)
        if not stored:
            return
        rows = read_evaluations(table, stored[-1:])
        of = {row["model"]: row for row in rows.iter_rows(named=True)}
        figures = [f"{name} {row['ne']:.3f}" for name, row in of.items() if row.get("ne") is not None]
        if figures:
            self._once(f"{student.name} judged", f"{student.name} on {stored[-1].key[-5:]}: NE {', '.join(figures)}")

    def _once(self, what: str, sentence: str) -> None:
        if self._said.get(what) != sentence:
            self._said[what] = sentence
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """A sentence with its time."""
        self._console.print(f"{datetime.now(UTC):%H:%M:%S}  {sentence}", markup=False)


def _rate(count: dict[str, int]) -> str:
    return f"{count['clicks'] / max(count['impressions'], 1):.3f}"
