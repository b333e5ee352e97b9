"""Releasing: the one way in which a checkpoint comes to serve.

Belongs here: the gate before publishing. Not here: judging (judging.py), a release's files (releases/publishing.py).
"""

from exfm.learning import Student
from pipeline.gate.afterwards import look_after
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.judging import judge
from pipeline.releases.canaries import begin_canary
from pipeline.releases.history import changing, dropped, history_of
from pipeline.releases.publishing import publish
from pipeline.releases.release import Released, checkpoint_of
from pipeline.releases.verdict import Verdict, stored_version
from pipeline.releases.whole import release_fault
from pipeline.releases.withdrawing import settle
from pipeline.workspace import Workspace


def release_candidate(work: Workspace, student: Student, device: str) -> tuple[Verdict, Released | None]:
    """Judge the candidate and publish it if it passes; what serves stays as it is if not, or if it is the candidate.

    What a person pinned stays too, whatever the gate says; what a withdrawal touched does not, nor what is shown to be
    worse than what served before. Where a canary is declared, a share of users gets the candidate first. Where
    ``Serving.table`` was declared otherwise since, what would stay is released again with such a table, under a number
    of its own.

    Returns:
        the verdict, and what serves now.

    Raises:
        DataError, CheckpointError: if what must be read is damaged.
    """
    settle(work, student)
    rows = JudgedRows(work, device)
    look_after(rows, student)
    verdict = judge(work, student, device, rows)
    with changing(work, student) as served:
        if served is not None and served.pinned:
            return verdict, served
        if not verdict.passed or verdict.candidate is None or verdict.slice is None:
            return verdict, served
        if verdict.candidate in dropped(history_of(work, student)):
            return verdict, served  # what it was judged on then said less than what came since
        slice_ = work.project.stream.slice_of(verdict.slice)
        if served is not None and release_fault(work, student) is None:
            stays = served.slice > verdict.slice and stored_version(work, student, served.slice) == served.checkpoint
            if stays or served.checkpoint == verdict.candidate:
                # it, or a later one, as after an upgrade or under a gate of more slices
                if served.table == student.serving.table:
                    return verdict, served
                slice_ = work.project.stream.slice_of(served.slice)
                return verdict, publish(work, student, slice_, served.checkpoint, device, verdict)
            if served.canary is not None:
                return verdict, served  # one at a time, or none would ever be decided on
            if student.serving.canary:
                return verdict, begin_canary(work, student, slice_, verdict.candidate, device, verdict)
        return verdict, publish(work, student, slice_, verdict.candidate, device, verdict)


def held_back(work: Workspace, student: Student, verdict: Verdict, served: Released | None) -> str | None:
    """Why a candidate that passed serves nobody yet, in a sentence; ``None`` if it serves, or did not pass."""
    if not verdict.passed or served is None or served.pinned or verdict.candidate == served.checkpoint:
        return None
    if (why := dropped(history_of(work, student)).get(verdict.candidate or "")) is not None:
        return f"{verdict.candidate} is not released again: {why}"
    if served.canary is not None and checkpoint_of(served.canary.version) != verdict.candidate:
        return f"{verdict.candidate} waits until canary {served.canary.number} is decided on"
    return None
