"""What stands beside the ids of a model's histories and bags: beside which, and with which embedding rows.

Belongs here: what is declared of it. Not here: lists place by place (pipeline/transforms/), networks (models/).
"""

from typing import TYPE_CHECKING

from exfm.columns import Columns, FeatureColumn
from exfm.encoding import AGE_ROWS
from exfm.history_views import ACTION, AT, HistoryView
from exfm.input_columns import beside_bag, declared_inputs
from exfm.inputs import Bag
from exfm.log_columns import Column

if TYPE_CHECKING:
    from exfm.project import Project


def lists_of_sides(project: "Project", columns: Columns) -> dict[str, str]:
    """What stands beside which list: side -> history or bag, by list."""
    declared = declared_inputs(project)
    lists: dict[str, str] = {}
    for history in columns.histories:
        view = FeatureColumn.of(history).view
        lists |= {side: history for side in columns.sides if FeatureColumn.of(side).view == view}
    for name in columns.bags:
        lists |= dict.fromkeys(beside_bag(name, declared[name]), name)
    return lists


def side_rows(project: "Project", columns: Columns, side: str) -> tuple[str | None, int]:
    """The column whose embedding rows it shares, for the model reads that, too; or how many it has of its own."""
    every = declared_inputs(project)
    rows, declared = {name: each.rows for name, each in every.items() if isinstance(each, Column)}, every.get(side)
    if isinstance(declared, Bag):
        if declared.rows is not None:
            return (side, 0) if side in columns.bags else (None, declared.rows)
        column = FeatureColumn.named(str(declared.of))
    else:
        column = FeatureColumn.of(side).feature
        view = project.view(FeatureColumn.of(side).view)
        assert isinstance(view, HistoryView)
        if column not in view.beside:  # ids of so few values hardly ever share a row
            return None, {AT: AGE_ROWS, ACTION: 8 * len(view.sources)}[column]
    return (column, 0) if column in columns.ids else (None, rows[column])
