"""What training has been tried against a change that what serves has not learnt from.

Belongs here: whether to train again, to wait for the gate, or to leave it. Not here: what has changed (findings.py),
when that is asked for (exfm_assets/automation.py).
"""

from exfm.learning import Student
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.release import checkpoint_of, current_release, release_manifest
from pipeline.releases.verdict import TOO_LITTLE, read_verdict
from pipeline.workspace import Workspace

DRIFTED, TRAINED, LEFT, LEARNT = "drifted", "trained", "left alone", "learnt"


class Tries:
    """A student's checkpoints, and what its gate has said of them.

    A change asks for training once; then the gate has the word. A candidate that it refuses, or that served and was
    taken back, is one try, and the next slice is another one, up to ``Drift.tries``: what training does not mend by
    then is left alone.
    """

    def __init__(self, work: Workspace, student: Student) -> None:
        self._stream, self._most = work.project.stream, work.project.drift.tries
        known = {at: each for at, each in manifests_of(work, f"student/{student.name}").items() if each is not None}
        version_of = {at.key: each["version"] for at, each in known.items()}
        self._trained = max((at.index for at in known), default=-1)
        self._is_enough = sum(each.get("rows", 0) for each in known.values()) >= student.gate.rows
        self._served, verdict = current_release(work, student), read_verdict(work, student)
        self._tried, self._passed, self._lacks = list[int](), -1, ""
        gone = "" if self._served is None else self._served.dropped
        if verdict is not None:
            # Of another declaration, or trained again since: another candidate.
            self._tried += [self._index(key) for key, version in verdict.refused if version_of.get(key) == version]
            stands = verdict.slice is not None and version_of.get(verdict.slice) == verdict.candidate
            if verdict.passed and verdict.slice is not None and stands and verdict.candidate != checkpoint_of(gone):
                self._passed = self._index(verdict.slice)
            self._lacks = verdict.reason if verdict.outcome == TOO_LITTLE else ""
        if gone and (dropped := release_manifest(work, student, gone)) is not None:
            self._tried.append(self._index(str(dropped["slice"])))

    def _index(self, key: str) -> int:
        return self._stream.slice_of(key).index

    @property
    def newest(self) -> int:
        """Index of the newest slice that was tried; -1: none was."""
        return max(self._tried, default=-1)

    def of(self, index: int) -> tuple[str, str]:
        """What a change in a slice asks for.

        Args:
            index: of the slice.

        Returns:
            ``drifted`` (to be trained), ``trained`` (the gate has the word), ``left alone``, or ``learnt`` (by what
            serves); and of the middle two why, in words.
        """
        served = self._served
        if served is None:
            return DRIFTED, ""  # it is trained until something serves
        if self._index(served.slice) >= index:
            return LEARNT, ""
        if served.canary is not None and self._index(served.canary.slice) >= index:
            return TRAINED, f"canary {served.canary.version} has learnt from it"
        if self._passed >= index:
            held = ", and what serves is pinned" if served.pinned else ""
            return TRAINED, f"a candidate that has learnt from it passed its gate{held}"
        tried = [at for at in self._tried if at >= index]
        if len(tried) >= self._most:
            count = f"{len(tried)} candidates have" if len(tried) > 1 else "a candidate has"
            return LEFT, f"{count} learnt from it and did not come to serve: left alone until it grows stale"
        if self._trained >= index and self._trained > max(tried, default=-1) and self._is_enough:
            lacks, newest = f": {self._lacks}" if self._lacks else "", self._stream.slice_at(self._trained).key
            return TRAINED, f"learnt until slice {newest}, its gate has the word{lacks}"
        return DRIFTED, ""
