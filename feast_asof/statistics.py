"""Statistics of a source's features for Feast's monitoring, in the form of Feast's own DuckDB store.

Belongs here: what is counted. Not here: which rows (pulling.py), where the results are kept (monitoring.py).
"""

from __future__ import annotations  # held as classes, what they name would be "leaked" at exit, says duckdb 2

import math
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from feast.monitoring.monitoring_utils import empty_categorical_metric, empty_numeric_metric, opt_float

from feast_asof.rows import quoted

Metric = dict[str, Any]
_ROWS = "monitored_rows"
_QUANTILES = {"p50": 0.50, "p75": 0.75, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_SQUARABLE = 1e150  # DuckDB refuses the deviation of numbers whose squares are no doubles


def compute_metrics(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    columns: Mapping[str, str],
    feature_columns: Sequence[tuple[str, str]],
    histogram_bins: int,
    top_n: int,
) -> list[Metric]:
    """One metric per numeric or categorical feature, in their order; NaN and infinite numbers count as null.

    Args:
        query: a SELECT of the features' columns, its rows those to be counted; it is run once.
        columns: what a feature's column is called in it.
    """
    features = [(name, kind) for name, kind in feature_columns if kind in ("numeric", "categorical")]
    if not features:
        return []
    values = [f"{_value(quoted(columns[name]), kind)} AS v{i}" for i, (name, kind) in enumerate(features)]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS SELECT {', '.join(values)} FROM ({query})")
    try:
        metrics = _summaries(connection, features)
        numeric = {i: metric for i, metric in enumerate(metrics) if features[i][1] == "numeric"}
        _add_histograms(connection, numeric, histogram_bins)
        for i, metric in enumerate(metrics):
            if i not in numeric:
                _add_counts(connection, i, metric, top_n)
    finally:
        connection.execute(f"DROP TABLE {_ROWS}")
    return metrics


def _value(column: str, kind: str) -> str:
    if kind == "categorical":
        return f"CAST({column} AS VARCHAR)"
    number = f"CAST({column} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _summaries(connection: duckdb.DuckDBPyConnection, features: Sequence[tuple[str, str]]) -> list[Metric]:
    """Everything but the histograms, in one pass."""
    parts = ["count(*)"]
    for i, (_, kind) in enumerate(features):
        v = f"v{i}"
        squarable = f"stddev_samp({v}) FILTER (abs({v}) < {_SQUARABLE})"
        quantiles = f"quantile_cont({v}, {list(_QUANTILES.values())})"
        numbers = [f"avg({v})", squarable, f"min({v})", f"max({v})", quantiles]
        parts.append(f"[count({v})]")
        parts.append(f"({', '.join(numbers)})" if kind == "numeric" else "NULL")
    [[total, *answers]] = connection.execute(f"SELECT {', '.join(parts)} FROM {_ROWS}").fetchall()
    metrics = []
    for (name, kind), [held], numbers in zip(features, answers[::2], answers[1::2], strict=True):
        metric: Metric = empty_numeric_metric(name) if kind == "numeric" else empty_categorical_metric(name)
        metric |= {
            "row_count": total,
            "null_count": total - held,
            "null_rate": (total - held) / total if total else 0.0,
        }
        if kind == "numeric" and held:
            metric |= _numbers(*numbers)
        metrics.append(metric)
    return metrics


def _numbers(mean: float, deviation: float | None, low: float, high: float, quantiles: Sequence[float]) -> Metric:
    wide = max(abs(low), abs(high)) >= _SQUARABLE
    named = {"mean": mean, "stddev": None if wide else deviation, "min_val": low, "max_val": high}
    named |= dict(zip(_QUANTILES, quantiles, strict=True))
    return {name: opt_float(value) for name, value in named.items()}


def _add_histograms(connection: duckdb.DuckDBPyConnection, metrics: dict[int, Metric], bins: int) -> None:
    """The histograms of all numeric features, in one more pass."""
    widths = {}
    for i, metric in metrics.items():
        low, high, held = metric["min_val"], metric["max_val"], metric["row_count"] - metric["null_count"]
        if not held:
            continue
        width = (high - low) / bins
        if width > 0 and math.isfinite(width):
            widths[i] = width
        else:  # one value, or a range that no double can divide
            metric["histogram"] = {"bins": [low, high], "counts": [held], "bin_width": 0.0}
    if not widths:
        return
    # least() passes nulls over: without the filter they would fall into the last bin.
    bin_of = "CAST(least(floor(({v} - ?) / ?), {last}) AS BIGINT)"
    parts = [f"histogram({bin_of.format(v=f'v{i}', last=bins - 1)}) FILTER (v{i} IS NOT NULL)" for i in widths]
    given = [number for i, width in widths.items() for number in (metrics[i]["min_val"], width)]
    [answers] = connection.execute(f"SELECT {', '.join(parts)} FROM {_ROWS}", given).fetchall()
    for (i, width), histogram in zip(widths.items(), answers, strict=True):
        edges = [metrics[i]["min_val"] + number * width for number in range(bins + 1)]
        counts = [histogram.get(number, 0) for number in range(bins)]
        metrics[i]["histogram"] = {"bins": edges, "counts": counts, "bin_width": width}


def _add_counts(connection: duckdb.DuckDBPyConnection, number: int, metric: Metric, top_n: int) -> None:
    """The most frequent values of a categorical feature; ties in their order, so that two runs agree."""
    held = metric["row_count"] - metric["null_count"]
    if not held:
        return
    groups = f"SELECT v{number} AS value, count(*) AS n FROM {_ROWS} WHERE v{number} IS NOT NULL GROUP BY value"
    top = connection.execute(f"{groups} ORDER BY n DESC, value LIMIT {top_n:d}").fetchall()
    [[unique]] = connection.execute(f"SELECT count(*) FROM ({groups})").fetchall()
    values = [{"value": value, "count": count} for value, count in top]
    other = held - sum(count for _, count in top)
    metric["histogram"] = {"values": values, "other_count": other, "unique_count": unique}
