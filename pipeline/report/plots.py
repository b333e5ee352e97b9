"""Plots, as PNG in Markdown: what Dagster shows in an asset's metadata and the HTML report embeds.

Belongs here: drawing. Not here: what is drawn (evaluation/).
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"student": "#d62728", "control": "#7f7f7f", "teacher": "#1f77b4", "best": "#2ca02c"}
LABELS = {
    "student": "student",
    "control": "control (labels only)",
    "teacher": "teacher (stored)",
    "best": "best possible",
}


def ne_plot(work: Workspace, student: Student) -> str:
    """NE of student, control, teacher and the best possible over the slices so far, as Markdown."""
    png = draw_over_slices(evaluations_of(work, student), "ne", f"{student.name}: normalised entropy, lower is better")
    return in_markdown(png, "NE over slices")


def in_markdown(png: bytes, alternative: str) -> str:
    """A picture inside a text of Markdown."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def draw_over_slices(
    evaluations: pl.DataFrame, metric: str, title: str, *, models: Sequence[str] = tuple(COLOURS)
) -> bytes:
    """A metric of each model over the slices: PNG bytes.

    Drawn on matplotlib's object interface: pyplot keeps global state, and costs a second to import.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=90, layout="constrained")
    axes = figure.subplots()
    for model in models:
        points = evaluations.filter(pl.col("model") == model, pl.col(metric).is_finite()).sort("slice_start")
        if points.height:
            axes.plot(
                points["slice_start"].to_list(), points[metric].to_list(), marker="o", markersize=3, linewidth=1.5,
                color=COLOURS[model], label=LABELS[model],
            )  # fmt: skip
    _style_axes(axes, title)
    figure.autofmt_xdate()
    return _png(figure)


def drift_plot(work: Workspace, student: Student) -> str:
    """PSI of a student's inputs from slice to slice, and the slices at which something was found, as Markdown."""
    return in_markdown(draw_drift(work, student), "drift over slices")


def draw_drift(work: Workspace, student: Student) -> bytes:
    """The same as PNG bytes: the columns that move most, and a line at each finding of the stored report."""
    from matplotlib.dates import date2num
    from matplotlib.figure import Figure

    from pipeline.drift.report import psi_over_slices, stored_drift

    def moment(slice_: Slice) -> float:
        return float(date2num(slice_.start))

    figure = Figure(figsize=(8, 3.2), dpi=90, layout="constrained")
    axes, stream = figure.subplots(), work.project.stream
    axes.xaxis_date()
    for column, values in psi_over_slices(work, student, most=6).items():
        starts = [moment(stream.slice_at(index)) for index in values]
        axes.plot(starts, list(values.values()), marker="o", markersize=3, linewidth=1.2, label=column)
    axes.axhline(work.project.drift.psi, color="#7f7f7f", linestyle=":", linewidth=1)
    found = stored_drift(work)
    if found is not None:
        mine = found.filter(pl.col("model") == f"student/{student.name}", pl.col("slice") != "")
        for key in mine["slice"].unique():
            axes.axvline(moment(stream.slice_of(key)), color=COLOURS["student"], linewidth=1, alpha=0.5)
    _style_axes(axes, f"{student.name}: PSI of inputs from slice to slice, and findings")
    figure.autofmt_xdate()
    return _png(figure)


def draw_lines(x: Sequence[int], lines: Mapping[str, Sequence[float]], title: str, label: str) -> bytes:
    """A line a model over a few values of something: PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), dpi=90, layout="constrained")
    axes = figure.subplots()
    for model, values in lines.items():
        axes.plot(x, values, marker="o", markersize=4, linewidth=1.5, color=COLOURS[model], label=LABELS[model])
    _style_axes(axes, title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(x), [str(value) for value in x])
    axes.set_xlabel(label, fontsize=8)
    return _png(figure)


def _style_axes(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    axes.tick_params(labelsize=8)


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
