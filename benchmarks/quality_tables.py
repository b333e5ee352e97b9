"""How the quality benchmark's results are shown: all numbers on the screen, and compact tables in Markdown.

Belongs here: layout. Not here: what the numbers are (quality.py).
"""

from collections.abc import Iterator

import polars as pl
from rich.console import Console

SIGNIFICANT = 0.05
SECTIONS = {
    ("fewer", False): "fewer inputs than the teacher, labels alone",
    ("fewer", True): "fewer inputs, and teacher features",
    ("same", False): "the teacher's own inputs",
    ("same", True): "the teacher's own inputs, and teacher features",
}


def show(console: Console, title: str, rows: pl.DataFrame) -> None:
    """Every number of every question."""
    console.print(f"\n{title}")
    console.print(f"{'surface':8} {'task':9} {'inputs':6} {'2nd':3} {'model':26} {'NE':>7} {'AUC':>6} {'calib.':>6} "
                  f"{'gain':>8}   {'spread':>7} {'in all':>8}   {'transfer':>8} {'closed':>7}")  # fmt: skip
    for row in rows.iter_rows(named=True):
        stars = [f"{mark:2}" for mark in (_stars(row["p"], row["holds"]), _stars(row["p_total"]))]
        console.print(
            f"{row['surface']:8} {row['task']:9} {row['inputs']:6} {'yes' if row['second'] else 'no':3} "
            f"{row['model']:26} {row['ne']:7.4f} {row['auc']:6.4f} {row['calibration']:6.3f} "
            f"{row['gain']:+8.2%}{stars[0]} {row['spread']:7.2%} {row['gain_total']:+8.2%}{stars[1]} "
            f"{row['transfer']:8.2f} {row['closed']:7.1%}"
        )


def markdown(rows: pl.DataFrame) -> Iterator[str]:
    """A table a section: a row a model, a column a question; the control's NE, others' gains over it in percent.

    A star is p < .05, two where it holds among all questions of the method (Holm); of the teacher it is about its lead
    over the section's control. In brackets the transfer ratio, which counts from the control without teacher features,
    and on a simulated stream the share of the way to the best possible NE.
    """
    for (inputs, second), title in SECTIONS.items():
        part = rows.filter(inputs=inputs, second=second)
        if part.is_empty():
            continue
        questions = part.select("surface", "task").unique(maintain_order=True).rows()
        yield f"\n**{title[0].upper()}{title[1:]}**\n"
        yield "| | " + " | ".join(f"{task}, {surface}" for surface, task in questions) + " |"
        yield "|---|" + "---|" * len(questions)
        for model in part["model"].unique(maintain_order=True):
            cells = [part.filter(surface=s, task=t, model=model).row(0, named=True) for s, t in questions]
            yield f"| {model} | " + " | ".join(_cell(row) for row in cells) + " |"


def _cell(row: dict[str, object]) -> str:
    if row["model"] == "none":
        total = float(str(row["gain_total"]))
        return f"NE {row['ne']:.4f}" + (f", in all {_percent(total, _stars(row['p_total']))}" if total else "")
    gain, closed = _percent(float(str(row["gain"])), _stars(row["p"], row["holds"])), float(str(row["closed"]))
    transfer = float(str(row["transfer"]))
    way = f" [{transfer:.2f}{f'; {closed:.0%}' if closed == closed else ''}]" if transfer == transfer else ""
    return gain + (way if row["model"] not in ("teacher", "best") else "")


def _stars(p: object, holds: object = False) -> str:
    return "**" if holds else "*" if float(str(p)) < SIGNIFICANT else ""


def _percent(value: float, stars: str) -> str:
    return f"{100 * value:+.2f}{stars}"
