"""The evaluation table: its columns and metrics.

Belongs here: names and types. Not here: values (slice_metrics.py).
"""

from collections.abc import Mapping

import polars as pl

# gAUC is by user; NDCG and recall are by request, where the log names requests.
METRICS = ("ne", "auc", "log_loss", "calibration", "gauc", "ndcg", "recall", "rmse", "mae")
SCHEMA: Mapping[str, pl.DataType] = {
    "student": pl.String(),
    "slice": pl.String(),
    "slice_start": pl.Datetime("us", "UTC"),
    "model": pl.String(),
    "checkpoint": pl.String(),
    "trained_until": pl.Datetime("us", "UTC"),
    "rows": pl.Int64(),
    "positives": pl.Int64(),
    **dict.fromkeys(METRICS, pl.Float64()),
    "evaluation": pl.String(),
}
# Among the notes of an evaluation's sidecar: the student's predictions by bin, and the mean difference of its
# probabilities from the teacher's, over their mean.
HISTOGRAM, DISAGREEMENT = "histogram", "disagreement"
