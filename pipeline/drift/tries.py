"""What training has been tried against a change that what serves has not learnt from.

Belongs here: whether to train again, to wait for the gate, or to leave it. Not here: what has changed (findings.py),
when that is asked for (exfm_assets/automation.py).
"""

from exfm.learning import Student
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.release import current_release
from pipeline.releases.verdict import read_verdict, stored_version
from pipeline.workspace import Workspace

DRIFTED, TRAINED, LEFT, LEARNT = "drifted", "trained", "left alone", "learnt"


class Tries:
    """A student's checkpoints, as far as its gate has judged them.

    A change asks for training once; then the gate has the word. A candidate that does not come to serve is one try,
    and the next slice is another one, up to ``Drift.tries``: what training does not mend by then is left alone.
    """

    def __init__(self, work: Workspace, student: Student) -> None:
        self._stream, self._most = work.project.stream, work.project.drift.tries
        trained = [at.index for at, found in manifests_of(work, f"student/{student.name}").items() if found is not None]
        self._trained = max(trained, default=-1)
        verdict, served = read_verdict(work, student), current_release(work, student)
        judged = () if verdict is None else verdict.tried
        # Of another declaration, or trained again since: another candidate.
        self._judged = [
            self._stream.slice_of(key).index for key, version in judged if stored_version(work, student, key) == version
        ]
        self._held = served is not None and (served.pinned or served.canary is not None)
        self._learnt = -1 if served is None else self._stream.slice_of(served.slice).index

    def of(self, index: int) -> tuple[str, str]:
        """What a change in a slice asks for.

        Args:
            index: of the slice.

        Returns:
            ``drifted`` (to be trained), ``trained`` (the gate has the word), ``left alone``, or ``learnt`` (by what
            serves); and of the middle two why, in words.
        """
        if self._learnt >= index:
            return LEARNT, ""
        judged = [at for at in self._judged if at >= index]
        if len(judged) >= self._most:
            count = f"{len(judged)} candidates have" if len(judged) > 1 else "a candidate has"
            return LEFT, f"{count} learnt from it and not come to serve: left alone until it grows stale"
        if self._trained >= index and self._trained > max(judged, default=-1):
            return TRAINED, f"learnt until slice {self._stream.slice_at(self._trained).key}, its gate has the word"
        if judged and self._held:
            return TRAINED, "learnt by a candidate, but what serves is held"
        return DRIFTED, ""
