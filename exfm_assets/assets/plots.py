"""Plots, as PNG in Markdown: what Dagster shows in an asset's metadata and the HTML report embeds.

Belongs here: drawing. Not here: what is drawn (learning/).
"""

import base64
import io
from collections.abc import Sequence

import dagster as dg
import polars as pl

from exfm_assets.learning.releasing import evaluations_of
from exfm_assets.resources import Workspace
from projects.learning import Student

COLOURS = {"student": "#d62728", "control": "#7f7f7f", "teacher": "#1f77b4", "best": "#2ca02c"}
LABELS = {
    "student": "student",
    "control": "control (labels only)",
    "teacher": "teacher (stored)",
    "best": "best possible",
}


def ne_plot(work: Workspace, student: Student) -> dg.MarkdownMetadataValue:
    """NE of student, control, teacher and the best possible over the slices so far."""
    png = draw_over_slices(evaluations_of(work, student), "ne", f"{student.name}: normalised entropy, lower is better")
    return dg.MetadataValue.md(f"![NE over slices](data:image/png;base64,{base64.b64encode(png).decode()})")


def draw_over_slices(
    evaluations: pl.DataFrame, metric: str, title: str, *, models: Sequence[str] = tuple(COLOURS)
) -> bytes:
    """A metric of each model over the slices: PNG bytes.

    Drawn on matplotlib's object interface: pyplot keeps global state, and costs a second to import.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
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
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    axes.tick_params(labelsize=8)
    figure.autofmt_xdate()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
