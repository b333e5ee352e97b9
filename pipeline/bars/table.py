"""What training on a fixed split came to, beside what was published: one table for a terminal.

Belongs here: its rows and words. Not here: the figures (training.py).
"""

import math

from rich.markup import escape
from rich.table import Table

from exfm.fixed_split import FixedSplit
from pipeline.bars.reading import FileAccount
from pipeline.bars.training import Trained

SHOWN = 5  # reasons of a file


def result_table(split: FixedSplit, trained: Trained) -> Table:
    """Figures, ours first, then what was published by its AUC; below them, what became of each file's rows."""
    table = Table.grid()
    table.add_row(_figures(split, trained))
    table.add_row(_files(trained))
    table.add_row(escape("\n".join(lines_of(split, trained))))
    return table


def _figures(split: FixedSplit, trained: Trained) -> Table:
    table = Table(title=f"{split.name}: {trained.test.rows:,} test rows", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("gAUC", "AUC", "LogLoss"):
        table.add_column(name, justify="right")
    ours = (trained.test.gauc, trained.test.auc, trained.test.log_loss)
    table.add_row(f"{trained.model} here, seed {trained.seed}", *map(_shown, ours), style="bold", end_section=True)
    for each in sorted(split.published, key=lambda published: -published.auc):
        table.add_row(escape(each.model), *map(_shown, (each.gauc, each.auc, each.log_loss)))
    return table


def _files(trained: Trained) -> Table:
    table = Table()
    for name in ("part", "file"):
        table.add_column(name, overflow="fold")
    for name in ("rows read", "used", "quarantined", "left out"):
        table.add_column(name, justify="right")
    table.add_column("why", overflow="fold")
    for file in trained.files:
        counts = (file.rows, file.used, file.quarantined, file.left_out)
        table.add_row(file.part, escape(file.name), *(f"{count:,}" for count in counts), escape(_reasons(file)))
    return table


def lines_of(split: FixedSplit, trained: Trained) -> list[str]:
    """What the figures are of, a sentence each."""
    cut = "the last tenth of the training rows" if trained.held_back else "the set's own validation rows"
    said = [
        f"Stopped by {cut} ({trained.valid.rows:,}): AUC {trained.valid.auc:.4f} in epoch {trained.best} of "
        f"{trained.epochs}; {trained.train_rows:,} rows learnt from; {trained.seconds:,.0f} s.",
    ]
    return said + ([f"Published: {split.source}."] if split.source else [])


def _reasons(file: FileAccount) -> str:
    most = sorted(file.reasons.items(), key=lambda item: -item[1])[:SHOWN]
    return ", ".join(f"{why} {count:,}" for why, count in most)


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
