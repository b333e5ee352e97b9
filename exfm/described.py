"""What columns and features are, in words: for Feast's registry and Dagster's catalogue.

Belongs here: a sentence for each name that exfm gives. Not here: what views are made of (feature_views.py and others);
columns that a log brings with it have the names that their owner gave them.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from exfm.columns import FeatureColumn
from exfm.errors import DeclarationError

_WINDOW = r"(?P<window>\d+[dhms])"
_UNITS = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
_FIXED = {
    "impression_id": "Key of the impression",
    "event_timestamp": "When it happened, UTC; of a row of a feature view, from when its values hold",
    "created_timestamp": "When the row was stored, UTC",
    "outcome_timestamp": "When the outcome happened, UTC",
    "closed_at": "When the last attribution window of the impression closed, UTC",
    "task": "Which of the stream's tasks the outcome is of",
    "checkpoint": "Version of the checkpoint that scored or was judged",
    "trained_until": "Newest impression that the checkpoint had seen, UTC",
    "run_id": "Dagster's run that stored the row",
    "reason": "Why the row was refused, or a student stayed behind",
    "last": "Newest ids before the stamp, newest first",
    "age_hours": "Hours since the newest prediction that the row counts",
    "hour_of_day": "Hour of the impression, by the clock of the stream",
    "day_of_week": "Day of the impression, Monday is 1",
    "ne": "Normalised entropy: log loss over that of the base rate; lower is better",
    "auc": "Area under the ROC curve",
    "log_loss": "Mean negative log likelihood, in nats",
    "calibration": "Sum of predictions over sum of positives; 1 is calibrated",
    "rmse": "Root of the mean squared error; of a task with a ceiling in shares of it",
    "mae": "Mean absolute error; of a task with a ceiling in shares of it",
    "rows": "Labelled rows",
    "positives": "Sum of the labels: rows whose label is 1, or shares of a ceiling",
}
_PATTERNS = (
    (rf"count_{_WINDOW}", "Predictions in the last {window}"),
    (rf"(?P<what>.+)_rate_{_WINDOW}", "Share of impressions of the last {window} with the outcome {what}, smoothed"),
    (rf"(?P<what>.+)_mean_{_WINDOW}", "Mean predicted logit of {what} over the last {window}"),
    (rf"(?P<what>.+)_{_WINDOW}", "Count of {what} in the last {window}"),
    (r"(?P<what>.+)_logit", "Predicted logit of {what}"),
    (r"(?P<what>.+)_probability", "Predicted probability of {what}"),
    (r"(?P<what>.+)_last", "Newest predicted logit of {what}"),
)


def words_of(view: object) -> Mapping[str, str]:
    """What a view says itself of its features."""
    return getattr(view, "words", {})


def described(name: str, words: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """A column or feature in a few words; ``None`` where the name is not one of ours.

    Args:
        words: of the view whose feature it is (``words_of``).
    """
    if name in words:
        return words[name]
    if name in _FIXED:
        return _FIXED[name]
    if "__" in name:
        try:
            of = FeatureColumn.of(name)
        except (DeclarationError, ValueError):
            return None
        inner = described(of.feature)
        return f"{inner}; from view {of.view}" if inner is not None else f"Feature {of.feature} of view {of.view}"
    for pattern, said in _PATTERNS:
        if (found := re.fullmatch(pattern, name)) is not None:
            parts = found.groupdict()
            return said.format(**{**parts, "window": _span(parts["window"])} if "window" in parts else parts)
    return None


def _span(window: str) -> str:
    count, unit = int(window[:-1]), _UNITS[window[-1]]
    return unit if count == 1 else f"{count} {unit}s"
