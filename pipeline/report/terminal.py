"""The table that a person sees when a run is over, in the width that the terminal has.

Belongs here: which columns, in which form. Not here: the numbers (evaluation/summary.py), the HTML report (page.py).
"""

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Column, form, and how soon it is left out where the terminal is narrow: the highest goes first.
COLUMNS = (
    ("student", None, 0), ("distillation", None, 9), ("slices", "{:,}", 6), ("since", None, 13),
    ("ne_student", "{:.4f}", 1), ("ne_control", "{:.4f}", 2), ("ne_teacher", "{:.4f}", 4), ("ne_best", "{:.4f}", 12),
    ("gain", "{:+.2%}", 0), ("gain_error", "±{:.2%}", 3), ("transfer_ratio", "{:.2f}", 5),
    ("auc_student", "{:.4f}", 10), ("auc_control", "{:.4f}", 11), ("calibration_student", "{:.3f}", 8),
    ("gauc_student", "{:.4f}", 14), ("ndcg_student", "{:.4f}", 14), ("released", None, 7),
)  # fmt: skip
HEADERS = {
    "gain_error": "±", "gauc_student": "gAUC student", "released": "serves", "since": "judged since",
    **{f"{metric}_{model}": f"{metric.upper()} {model}"
       for metric in ("ne", "auc", "ndcg") for model in ("student", "control", "teacher", "best")},
}  # fmt: skip
_GAP = 3  # a border and a blank on either side


def print_table(console: Console, rows: pl.DataFrame, title: str) -> None:
    """Print one row a student; what does not fit is left out whole and named below, never cut."""
    chosen, left_out = _fitting_columns(rows, console.width)
    console.print(title, soft_wrap=False)
    table = Table()
    for name, form in chosen:
        width = _width(rows, name, form)
        table.add_column(_header(name), justify="right" if form else "left", overflow="fold", width=width)
    for row in rows.iter_rows(named=True):
        table.add_row(*(escape(_shown(row[name], form)) for name, form in chosen))
    console.print(table)
    if left_out:
        console.print(
            f"(no room for the columns {', '.join(map(_header, left_out))}: the report has all)", soft_wrap=False
        )


def _header(name: str) -> str:
    return HEADERS.get(name, name.replace("_", " "))


def _fitting_columns(rows: pl.DataFrame, width: int) -> tuple[list[tuple[str, str | None]], list[str]]:
    """The columns with values that fit side by side, and the names of those that do not."""
    there = [column for column in COLUMNS if rows[column[0]].is_not_null().any()]
    needed = {name: _width(rows, name, form) + _GAP for name, form, _ in there}
    left, chosen = width - 1, set()
    for name, _, order in sorted(there, key=lambda column: column[2]):
        if order == 0 or needed[name] <= left:  # a wide one gives way to narrower ones after it
            chosen.add(name)
            left -= needed[name]
    left_out = [name for name, _, _ in there if name not in chosen]
    return [(name, form) for name, form, _ in there if name in chosen], left_out


def _width(rows: pl.DataFrame, name: str, form: str | None) -> int:
    """A header may take two lines; a number or a name takes one."""
    words = _header(name).split()
    return max(*map(len, words), *(len(_shown(value, form)) for value in rows[name]))


def _shown(value: object, form: str | None) -> str:
    return "–" if value is None else form.format(value) if form else str(value)
