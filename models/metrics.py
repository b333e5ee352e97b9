"""Metrics of predictions of a chance or a share, vectorised, in float64, from logits.

Labels are 0 and 1, or shares in between (of a ceiling of values): then a loss is what exceeds the label's own entropy,
so that a perfect prediction has none, and the AUC is the expected one of labels that are drawn by them.

Belongs here: numbers about scores and labels. Not here: order within groups (ranking.py), which rows and which
checkpoint (pipeline/evaluation/).
A metric that is not defined (no rows, one class) is NaN, never a guess. ``weights``, (N,), say how many rows each one
stands for; ``None``: one each.
"""

import numpy as np
from numpy.typing import NDArray

from models.means import Floats, chunks, mean, mean_of


def log_loss(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Mean cross-entropy less that of the labels themselves, in nats; (N,), (N,) in [0, 1]."""
    return mean_of(row_losses, logits, labels, weights) if logits.size else float("nan")


def row_losses(logits: Floats, labels: Floats) -> NDArray[np.float64]:
    """(N,) cross-entropy of each row less that of its label, in nats: the divergence of label and prediction."""
    x, y = logits.astype(np.float64), labels.astype(np.float64)
    losses: NDArray[np.float64] = np.logaddexp(0.0, x) - y * x
    return losses - _own_entropy(y)


def _own_entropy(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) entropy of each label, in nats: 0 of 0 and 1."""
    inside = labels.clip(1e-300, 1 - 1e-16)
    return np.where((labels > 0) & (labels < 1), -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)), 0.0)


def entropy(rate: float) -> float:
    """Entropy of a base rate, in nats; 0 for a rate of 0 or 1."""
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))) if 0 < rate < 1 else 0.0


def normalised_entropy(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Log loss over that of these rows' own base rate (He et al., ADKDD 2014); lower is better.

    Of shares it is one less the share of deviance explained.
    """
    own = mean_of(lambda _, y: _own_entropy(y.astype(np.float64)), logits, labels, weights) if labels.size else 0.0
    base = entropy(mean(labels, weights)) - own if labels.size else 0.0
    return log_loss(logits, labels, weights) / base if base > 0 else float("nan")


def auc(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Area under the ROC curve by ranks; ties count half."""
    if weights is not None or not _are_binary(labels):
        return _weighted_auc(logits, labels, np.ones(labels.size) if weights is None else weights)
    positives = int(labels.sum())
    negatives = labels.size - positives
    if not positives or not negatives:
        return float("nan")
    above, twice = np.sort(logits[labels > 0.5]), 0
    for rows in chunks(labels.size):
        others = np.sort(logits[rows][labels[rows] <= 0.5])  # in order, they are found faster
        lower, tied = (int(np.searchsorted(above, others, side).sum()) for side in ("left", "right"))
        twice += 2 * positives * others.size - lower - tied  # a positive above counts two, a tie one
    return twice / 2 / (positives * negatives)


def _are_binary(labels: Floats) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _weighted_auc(logits: Floats, labels: Floats, weights: Floats) -> float:
    """The share of pairs, by the product of their weights, in which the positive one is above.

    In memory at once are the rows that are positive in part or whole, and a chunk of those that are negative so.
    """
    mine = np.flatnonzero(labels > 0)
    mine = mine[np.argsort(logits[mine], kind="stable")]
    above = logits[mine]
    until = np.r_[0.0, np.cumsum(weights[mine] * labels[mine].astype(np.float64))]  # weight of the first k of them
    pairs = better = 0.0
    for rows in chunks(labels.size):
        negative = weights[rows] * (1 - labels[rows].astype(np.float64))
        lower, upto = (until[np.searchsorted(above, logits[rows], side)] for side in ("left", "right"))
        better += float((negative * (until[-1] - (lower + upto) / 2)).sum())
        pairs += float(negative.sum()) * until[-1]
    return float(better / pairs) if pairs > 0 else float("nan")


def calibration(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Mean prediction over mean label; 1 is exact."""
    rate = mean(labels, weights) if labels.size else 0.0
    return mean_of(lambda x, _: probabilities(x), logits, labels, weights) / rate if rate > 0 else float("nan")


def rmse(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Root of the mean squared error of predictions: of a chance the root of Brier's score, of values in ceilings."""
    squares = mean_of(lambda x, y: (probabilities(x) - y) ** 2, logits, labels, weights) if labels.size else np.nan
    return float(np.sqrt(squares))


def mae(logits: Floats, labels: Floats, weights: Floats | None = None) -> float:
    """Mean absolute error of predictions; of values in ceilings."""
    off = mean_of(lambda x, y: np.abs(probabilities(x) - y), logits, labels, weights) if labels.size else np.nan
    return float(off)


def transfer_ratio(control: float, student: float, teacher: float) -> float:
    """(NE_control - NE_student) / (NE_control - NE_teacher); NaN where the teacher does not lead."""
    lead = control - teacher
    return (control - student) / lead if lead > 0 else float("nan")


def evaluate(
    logits: Floats,
    labels: Floats,
    weights: Floats | None = None,
) -> dict[str, float]:
    """All of these of one model on one set of rows: (N,) logits, (N,) labels in [0, 1]."""
    return {
        "ne": normalised_entropy(logits, labels, weights),
        "auc": auc(logits, labels, weights),
        "log_loss": log_loss(logits, labels, weights),
        "calibration": calibration(logits, labels, weights),
        "rmse": rmse(logits, labels, weights),
        "mae": mae(logits, labels, weights),
    }


def probabilities(logits: Floats) -> NDArray[np.float64]:
    """(N,) of logits."""
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))
