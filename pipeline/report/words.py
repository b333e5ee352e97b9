"""Numbers, times and verdicts in words, for the page and for Markdown.

Belongs here: how a figure is written down. Not here: which figures (status.py, sections.py), layout (page.html.jinja).
"""

import math
from datetime import UTC, datetime, timedelta

from pipeline.releases.verdict import NOT_JUDGED, PASSED, TOO_LITTLE
from pipeline.report.status import BETTER, CHANCE, WORSE

NOTHING = "–"
# A tone is always beside its sign and a word, so that nobody needs to see its colour.
SIGNS = {"bad": "✖", "warn": "▲", "good": "✔", "none": "○"}
COLOURS = {"bad": "red", "warn": "yellow", "good": "green", "none": "grey"}
GAIN_TONES = {BETTER: "good", WORSE: "bad"}  # all else says nothing either way
GATE_TONES = {PASSED: "good", TOO_LITTLE: "none", NOT_JUDGED: "none"}


def known(value: object) -> float | None:
    """A finite number; ``None`` for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def figure(value: object) -> str:
    """At most four significant digits: 0.9419, 12.3, 33,442."""
    number = known(value)
    if number is None:
        return NOTHING
    digits = 0 if number == 0 else min(max(3 - math.floor(math.log10(abs(number))), 0), 8)
    if isinstance(value, int):
        digits = 0
    return f"{number:,.{digits}f}"


def percent(value: object, *, sign: bool = True) -> str:
    """A share as a percentage of two places, which is what the errors of gains allow."""
    number = known(value)
    if number is None:
        return NOTHING
    if round(100 * number, 2) == 0:
        return "0.00 %"  # without a sign, which would say more than there is
    return f"{100 * number:+.2f} %" if sign else f"{100 * number:.2f} %"


def unsigned(value: object) -> str:
    return percent(value, sign=False)


def gain(value: object, error: object) -> str:
    """A gain and two standard errors of it."""
    return percent(value) if known(error) is None else f"{percent(value)} ± {percent(error, sign=False)}"


def seconds(value: object) -> str:
    number = known(value)
    return NOTHING if number is None else f"{number:,.2f} s" if number < 100 else f"{number:,.0f} s"


def age(value: timedelta | None) -> str:
    if value is None:
        return NOTHING
    hours = value / timedelta(hours=1)
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def moment(value: datetime | str | None) -> str:
    """UTC, to the minute."""
    if value is None:
        return NOTHING
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def gain_tone(says: str) -> str:
    return GAIN_TONES.get(says, "none")


def gate_tone(outcome: str) -> str:
    return GATE_TONES.get(outcome, "warn")


def interval_says(low: float, high: float) -> str:
    """Of a gain, by its bounds."""
    return BETTER if low > 0 else WORSE if high < 0 else CHANCE
