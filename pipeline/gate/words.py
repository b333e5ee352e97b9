"""A verdict in words: the outcome that comparisons lead to, and the sentence that says why.

Belongs here: the rule and its sentence. Not here: the numbers (judging.py, comparison.py).
"""

from collections.abc import Iterator
from dataclasses import replace

from exfm.learning import Student
from pipeline.releases.verdict import PASSED, REFUSED, Verdict


def reason_of(student: Student, about: Verdict, fault: str | None = None, note: str = "") -> Verdict:
    """The same verdict with its outcome and reason.

    Args:
        about: what was judged, with its comparisons.
        fault: of the data itself: if that is bad, the control gets as bad.
        note: what could not be compared.
    """
    where = about.slices[0] if len(about.slices) == 1 else f"{about.slices[0]} to {about.slices[-1]}"
    on = f"{about.rows:,} rows of {'slice' if len(about.slices) == 1 else 'slices'} {where}"
    refused = [fault] if fault is not None else list(_refused(student, about))
    against = [str(compared) for compared in about.compared if compared.where == "all"]
    mine = [f"NE {about.ne['student']:.4f}"] if about.ne is not None else []
    said = [*mine, *(refused or against), *([note] if note else [])]
    # With the figures of what passed, and of what was refused only why.
    sentence = f"slice {about.slice}, judged on {on}: {', '.join(said)}"
    return replace(about, outcome=REFUSED if refused else PASSED, reason=sentence)


def _refused(student: Student, about: Verdict) -> Iterator[str]:
    gate = student.gate
    if about.ne is not None and about.ne["student"] > 1 + max(gate.tolerance, 0.0):
        yield "above 1, worse than a constant"
    for compared in about.compared:
        if compared.is_worse:
            yield f"{compared}, worse than the {100 * compared.allowed:+.3g} % that the gate allows"
    if about.calibration is not None:
        value, low, high = about.calibration
        if low > 1 + gate.calibration or high < 1 - gate.calibration:
            bounds = f"{1 - gate.calibration:.3g} to {1 + gate.calibration:.3g}"
            yield f"calibration {value:.3f} ({low:.3f} to {high:.3f}), and the gate asks for {bounds}"
