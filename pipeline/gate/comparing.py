"""Two releases of a student, side by side on the newest rows that neither has learnt from.

Belongs here: which rows, the figures. Not here: scores (scoring.py), intervals (comparison.py), words (exfm_assets/).
"""

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
    """

    slices: tuple[str, ...]
    rows: int
    ne: tuple[float, float]
    calibration: tuple[float, float]
    difference: Interval


def compare(work: Workspace, student: Student, first: Released, second: Released, device: str) -> Comparison:
    """Compare on as many of the newest closed slices as the gate judges on.

    Raises:
        DeclarationError: if there are no such rows, or a release can't be compared, with the reason.
        DataError: if inputs or labels are damaged.
    """
    learnt = max(first.slice, second.slice)
    chosen: list[Slice] = []
    count = 0
    for slice_, labelled in newest_labelled(work, student):
        if slice_.key <= learnt or (count >= student.gate.judged_rows and len(chosen) >= student.gate.slices):
            break
        chosen.append(slice_)
        count += labelled
    if not chosen:
        raise DeclarationError(f"compare: no closed slice is newer than {learnt}, which one of the two has learnt from")
    models = {}
    for name, release in (("first", first), ("second", second)):
        learner = released_learner(work, student, release.version, device)
        if isinstance(learner, str):
            raise DeclarationError(f"compare: release {release.number} can't be compared: {learner}")
        models[name] = learner
    scored = score_slices(JudgedRows(work, device), student, list(reversed(chosen)), models)
    if not 0 < scored.labels.sum() < len(scored.labels):
        raise DeclarationError(f"compare: the {len(scored.labels):,} labels since {learnt} are all the same")
    resampled = resamples_of(student, scored.users, seed=0)
    base, mine = scored.losses["first"], scored.losses["second"]
    logits = (scored.logits["first"], scored.logits["second"])
    ne = (scored.ne("first"), scored.ne("second"))
    rate = mean(scored.labels, scored.weights)
    first_mean, second_mean = (mean(probabilities(each), scored.weights) for each in logits)
    calibration = (first_mean / rate, second_mean / rate)
    difference = resampled.ratio(mine - base, base, student.gate.confidence)
    keys = tuple(slice_.key for slice_ in reversed(chosen))
    return Comparison(keys, len(scored.labels), ne, calibration, difference)
