"""Two releases of a student, side by side on the newest rows that neither has learnt from.

Belongs here: which rows, the figures. Not here: scores (scoring.py), intervals (comparison.py), words (exfm_assets/).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exfm.errors import DeclarationError
from exfm.learning import Student
from exfm.stream import Slice
from models.means import mean
from models.metrics import probabilities
from pipeline.gate.candidate import newest_labelled
from pipeline.gate.comparison import Interval
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.scoring import released_learner, resamples_of, score_slices
from pipeline.releases.release import Released
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Comparison:
    """Two releases on the same rows.

    Args:
        slices: keys of those that they are compared on.
        ne, calibration: of the first and the second.
        difference: relative, of the second's NE over the first's: below 0 the second is better; with one-sided bounds
            at the gate's confidence.
        drawn: that the rows were drawn from more, if they were.
    """

    slices: tuple[str, ...]
    rows: int
    ne: tuple[float, float]
    calibration: tuple[float, float]
    difference: Interval
    drawn: str = ""

    @property
    def over(self) -> str:
        """The slices, and that rows of theirs were drawn."""
        where = self.slices[0] if len(self.slices) == 1 else f"{self.slices[0]} to {self.slices[-1]}"
        return f"{where} ({self.drawn})" if self.drawn else where


def compare(work: Workspace, student: Student, first: Released, second: Released, device: str) -> Comparison:
    """Compare on as many of the newest closed slices as the gate judges on.

    Raises:
        DeclarationError: if there are no such rows, or a release can't be compared, with the reason.
        DataError: if inputs or labels are damaged.
    """
    learnt = max(first.slice, second.slice)
    chosen, _ = slices_since(work, student, learnt, student.gate.slices)
    if not chosen:
        raise DeclarationError(f"compare: no closed slice is newer than {learnt}, which one of the two has learnt from")
    return compared_on(JudgedRows(work, device), student, first, second, chosen)


def slices_since(work: Workspace, student: Student, after: str, least: int) -> tuple[list[Slice], int]:
    """The newest closed slices later than one, oldest first, and their labelled rows.

    As many as there are until they are ``least``, with as many rows as the gate judges on.
    """
    chosen: list[Slice] = []
    rows = 0
    for slice_, labelled in newest_labelled(work, student):
        if slice_.key <= after or (rows >= student.gate.judged_rows and len(chosen) >= least):
            break
        chosen.append(slice_)
        rows += labelled
    return chosen[::-1], rows


def compared_on(
    rows: JudgedRows, student: Student, first: Released, second: Released, slices: Sequence[Slice]
) -> Comparison:
    """Compare on the labelled rows of some slices, which neither has learnt from; raises as ``compare``."""
    models = {}
    for name, release in (("first", first), ("second", second)):
        learner = released_learner(rows.work, student, release.version, rows.device)
        if isinstance(learner, str):
            raise DeclarationError(f"compare: release {release.number} can't be compared: {learner}")
        models[name] = learner
    scored = score_slices(rows, student, slices, models)
    if not 0 < scored.labels.sum() < len(scored.labels):
        raise DeclarationError(f"compare: the {len(scored.labels):,} labels since {slices[0].key} are all the same")
    resampled = resamples_of(student, scored.users, seed=0)
    base, mine = scored.losses["first"], scored.losses["second"]
    logits = (scored.logits["first"], scored.logits["second"])
    ne = (scored.ne("first"), scored.ne("second"))
    rate = mean(scored.labels, scored.weights)
    first_mean, second_mean = (mean(probabilities(each), scored.weights) for each in logits)
    calibration = (first_mean / rate, second_mean / rate)
    difference = resampled.ratio(mine - base, base, student.gate.confidence)
    keys = tuple(slice_.key for slice_ in slices)
    return Comparison(keys, len(scored.labels), ne, calibration, difference, scored.said)
