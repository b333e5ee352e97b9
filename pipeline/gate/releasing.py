"""Releasing: the one way in which a checkpoint comes to serve.

Belongs here: the gate before publishing. Not here: judging (judging.py), a release's files (releases/publishing.py).
"""

from exfm.learning import Student
from pipeline.gate.judging import judge
from pipeline.releases.history import changing
from pipeline.releases.publishing import publish
from pipeline.releases.release import Released
from pipeline.releases.verdict import Verdict, stored_version
from pipeline.releases.whole import release_fault
from pipeline.releases.withdrawing import settle
from pipeline.workspace import Workspace


def release_candidate(work: Workspace, student: Student, device: str) -> tuple[Verdict, Released | None]:
    """Judge the candidate and publish it if it passes; what serves stays as it is if not, or if it is the candidate.

    What a person pinned stays too, whatever the gate says; what a withdrawal touched does not. Where ``Serving.table``
    was declared otherwise since, what would stay is released again with such a table, under a number of its own.

    Returns:
        the verdict, and what serves now.

    Raises:
        DataError, CheckpointError: if what must be read is damaged.
    """
    settle(work, student)
    verdict = judge(work, student, device)
    with changing(work, student) as served:
        if served is not None and served.pinned:
            return verdict, served
        if not verdict.passed or verdict.candidate is None or verdict.slice is None:
            return verdict, served
        if served is not None and release_fault(work, student) is None:
            stays = served.slice > verdict.slice and stored_version(work, student, served.slice) == served.checkpoint
            if stays or served.checkpoint == verdict.candidate:
                # it, or a later one, as after an upgrade or under a gate of more slices
                if served.table == student.serving.table:
                    return verdict, served
                slice_ = work.project.stream.slice_of(served.slice)
                return verdict, publish(work, student, slice_, served.checkpoint, device, verdict)
        slice_ = work.project.stream.slice_of(verdict.slice)
        return verdict, publish(work, student, slice_, verdict.candidate, device, verdict)
