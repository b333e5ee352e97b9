"""Charts as Vega-Lite, and the small line in a table.

Belongs here: what is drawn, from evaluations and profiles. Not here: putting it on a page (page.py), pictures
(vega.py).

Plain dictionaries: altair costs 0.4 s to import and 10 ms a chart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

Spec = dict[str, Any]
# On the page colours are CSS variables, so that a chart follows the scheme of the browser; a picture has its own.
ON_PAGE = {name: f"var(--{name})" for name in ("ink", "quiet", "rule", "student", "teacher", "best")}
IN_PICTURE = {
    "ink": "#1d2125", "quiet": "#6b7177", "rule": "#d6dade",
    "student": "#b3401f", "teacher": "#1f6fb3", "best": "#3f7d45",
}  # fmt: skip
LABELS = {"student": "student", "teacher": "teacher (stored)", "best": "best possible"}
# A day by its date, a shorter slice by its hour too.
TIME_LABEL = "utcFormat(datum.value, utchours(datum.value) || utcminutes(datum.value) ? '%-d %b %H:%M' : '%-d %b')"
DASHES = {"student": [1, 0], "teacher": [6, 3], "best": [2, 3]}


def differences(evaluations: pl.DataFrame, gain_error: float | None) -> pl.DataFrame:
    """A row a slice that both served: NE of the student against its control, in percent; below 0 it is better.

    ``low`` and ``high`` are two standard errors of one slice, by how much slices differ among each other: that of the
    mean is ``gain_error``, and one slice has its share of the rows. Null where there is none.
    """
    known = evaluations.filter(pl.col("ne").is_finite())
    mine, control = (known.filter(pl.col("model") == model) for model in ("student", "control"))
    both = mine.join(control.select("slice", control="ne"), on="slice").sort("slice_start")
    both = both.select(
        "slice", "slice_start", "rows", "control", student="ne", difference=100 * (pl.col("ne") / pl.col("control") - 1)
    ).filter(pl.col("difference").is_finite())
    of_mean = None if gain_error is None or not math.isfinite(gain_error) else 100 * gain_error
    error = pl.lit(of_mean, pl.Float64) * (pl.col("rows").sum() / pl.col("rows")).sqrt()
    bounds = {"low": pl.col("difference") - error, "high": pl.col("difference") + error}
    return both.with_columns(
        pl.when(bound.is_finite()).then(bound).otherwise(None).alias(name) for name, bound in bounds.items()
    )


def difference_chart(rows: pl.DataFrame, colours: Mapping[str, str], *, width: int | str, name: str) -> Spec:
    """``differences`` over slices, with their band, and a line at 0: level with the control."""
    y = {"type": "quantitative", "title": "NE against control, %", "scale": {"zero": True}}
    values = [{**row, "slice_start": row["slice_start"].isoformat()} for row in rows.iter_rows(named=True)]
    colour = colours["student"]
    layers: list[Spec] = [
        {"mark": {"type": "area", "color": colour, "opacity": 0.18},
         "encoding": {"x": _time(), "y": {"field": "low", **y}, "y2": {"field": "high"}}},
        {"mark": {"type": "rule", "color": colours["quiet"], "strokeDash": [4, 3]}, "encoding": {"y": {"datum": 0}}},
        {"mark": {"type": "line", "color": colour, "strokeWidth": 1.5, "point": {"size": 32, "color": colour}},
         "encoding": {"x": _time(), "y": {"field": "difference", **y}, "tooltip": [
             _tip("slice", "slice"), _tip("difference", "NE against control, %", "+.3f"),
             _tip("student", "NE student", ".4f"), _tip("control", "NE control", ".4f"), _tip("rows", "rows", ",")]}},
    ]  # fmt: skip
    said = f"NE of {name} minus that of its control in percent, slice by slice; below 0 the student is better."
    return _chart(layers, values, colours, width, said)


def ne_chart(evaluations: pl.DataFrame, colours: Mapping[str, str], *, width: int | str, name: str) -> Spec:
    """NE of student, teacher and the best possible over slices; the control's would lie on the student's."""
    rows = evaluations.filter(pl.col("ne").is_finite(), pl.col("model").is_in(list(LABELS))).sort("slice_start")
    values = [
        {"slice": row["slice"], "slice_start": row["slice_start"].isoformat(), "ne": row["ne"],
         "model": LABELS[row["model"]]}
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    models = [model for model in LABELS if LABELS[model] in {value["model"] for value in values}]
    domain = [LABELS[model] for model in models]
    legend = {"title": None, "orient": "top", "symbolType": "stroke", "symbolSize": 260, "labelLimit": 200}
    encoding = {
        "x": _time(),
        "y": {"field": "ne", "type": "quantitative", "title": "NE (lower is better)", "scale": {"zero": False}},
        "color": {"field": "model", "type": "nominal", "legend": legend,
                  "scale": {"domain": domain, "range": [colours[model] for model in models]}},
        "strokeDash": {"field": "model", "type": "nominal",
                       "scale": {"domain": domain, "range": [DASHES[model] for model in models]}},
        "tooltip": [_tip("slice", "slice"), _tip("model", "model"), _tip("ne", "NE", ".4f")],
    }  # fmt: skip
    mark = {"type": "line", "strokeWidth": 1.5, "point": {"size": 24}}
    said = f"Normalised entropy of {name}, its teacher and the best possible, slice by slice."
    return _chart([{"mark": mark, "encoding": encoding}], values, colours, width, said)


def psi_chart(
    lines: Mapping[str, Mapping[datetime, float]], limit: float, found: Sequence[datetime], colours: Mapping[str, str],
    *, width: int | str, name: str,
) -> Spec:  # fmt: skip
    """PSI of each input against the slice before, the limit, and a line at each finding."""
    values = [
        {"slice_start": at.isoformat(), "psi": value, "input": column}
        for column, points in lines.items() for at, value in points.items() if math.isfinite(value)
    ]  # fmt: skip
    findings = [{"slice_start": at.isoformat()} for at in found]
    legend = {"title": None, "orient": "right", "labelLimit": 260}
    encoding = {
        "x": _time(),
        "y": {"field": "psi", "type": "quantitative", "title": "PSI from slice to slice"},
        "color": {"field": "input", "type": "nominal", "legend": legend},
        "tooltip": [_tip("input", "input"), _tip("psi", "PSI", ".3f")],
    }
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.5, "point": {"size": 20}}, "encoding": encoding},
        {"mark": {"type": "rule", "color": colours["quiet"], "strokeDash": [4, 3]},
         "encoding": {"y": {"datum": limit}}},
        {"data": {"values": findings}, "mark": {"type": "rule", "color": colours["student"]},
         "encoding": {"x": _time()}},
    ]  # fmt: skip
    return _chart(layers, values, colours, width, f"PSI of the inputs of {name} from slice to slice, and findings.")


def lag_chart(lags: Sequence[int], lines: Mapping[str, Sequence[float]], colours: Mapping[str, str], name: str) -> Spec:
    """NE of each model by how many slices its teacher lags behind."""
    values = [
        {"lag": lag, "ne": ne, "model": model}
        for model, points in lines.items() for lag, ne in zip(lags, points, strict=True) if math.isfinite(ne)
    ]  # fmt: skip
    encoding = {
        "x": {"field": "lag", "type": "quantitative", "title": "slices of lag", "scale": {"type": "log", "base": 2},
              "axis": {"values": list(lags), "format": "d"}},
        "y": {"field": "ne", "type": "quantitative", "title": "NE", "scale": {"zero": False}},
        "color": {"field": "model", "type": "nominal", "legend": {"title": None, "orient": "top"}},
    }  # fmt: skip
    mark = {"type": "line", "point": True}
    said = f"NE of {name}, its teacher and its control by the teacher's lag."
    return _chart([{"mark": mark, "encoding": encoding}], values, colours, 420, said)


@dataclass(frozen=True)
class Sparkline:
    """A small line, as the points of an SVG of 100 by 24; ``zero`` is the height of its line at 0."""

    points: str
    zero: float
    last: tuple[float, float]
    says: str


def sparkline(gains: Sequence[float]) -> Sparkline | None:
    """Gains over slices, oldest first, in percent; ``None`` without any."""
    known = [value for value in gains if math.isfinite(value)]
    if not known:
        return None
    low, high = min(0.0, *known), max(0.0, *known)
    height = 20 / (high - low) if high > low else 0.0
    step = 92 / max(len(known) - 1, 1)
    places = [(round(4 + step * index, 1), round(22 - height * (value - low), 1)) for index, value in enumerate(known)]
    said = (
        f"gain over {len(known)} slices: from {min(known):+.2f} % to {max(known):+.2f} %, the newest {known[-1]:+.2f} %"
    )
    return Sparkline(
        " ".join(f"{x},{y}" for x, y in places), round(22 - height * (0.0 - low), 1), places[-1], said
    )  # fmt: skip


def _time() -> Spec:
    return {"field": "slice_start", "type": "temporal", "title": None, "scale": {"type": "utc"},
            "axis": {"labelOverlap": True, "tickCount": 6, "labelExpr": TIME_LABEL}}  # fmt: skip


def _tip(field: str, title: str, form: str | None = None) -> Spec:
    kind = {"type": "nominal"} if form is None else {"type": "quantitative", "format": form}
    return {"field": field, "title": title, **kind}


def _chart(
    layers: list[Spec], values: list[dict[str, Any]], colours: Mapping[str, str], width: int | str, said: str
) -> Spec:
    text = {"labelColor": colours["quiet"], "titleColor": colours["quiet"], "titleFontWeight": "normal"}
    axis = {**text, "gridColor": colours["rule"], "domainColor": colours["rule"], "tickColor": colours["rule"]}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",  # names the version; nothing is loaded from it
        "description": said,
        "width": width,
        "height": 190,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "data": {"values": values},
        "layer": layers,
        "config": {"font": "system-ui, sans-serif", "axis": axis, "legend": text, "view": {"stroke": None}},
    }
