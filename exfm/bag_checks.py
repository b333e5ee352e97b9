"""Bags of the ids of another column, or looked through for one.

Belongs here: whether a project has that column. Not here: what a bag is (inputs.py), which of them a model reads
(input_columns.py).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from exfm.computed_views import PythonView, SqlView
from exfm.errors import DeclarationError, choose_from
from exfm.inputs import Bag
from exfm.log_columns import Column
from exfm.source_views import SourceView

if TYPE_CHECKING:
    from exfm.project import Project


def check_bags(project: "Project") -> None:
    """Refuse a bag that shares the embeddings of no column, or of one of another type, or looks at none.

    Raises:
        DeclarationError: for the first.
    """
    of_log = [column.name for column in project.stream.id_columns]
    of_views = {
        f"{view.name}:{each.name}": each.dtype
        for view in _typed(project) for each in view.inputs if isinstance(each, Column)
    }  # fmt: skip
    what = "categorical column of the log, or view:feature"
    for bag in _bags(project):
        if bag.of is not None and ":" in bag.of:
            choose_from(f"Bag({bag.name}).of", bag.of, of_views, what="categorical feature of a view")
            if bag.dtype is not of_views[bag.of]:
                raise DeclarationError(
                    f"Bag({bag.name}).dtype: {bag.dtype.__name__}, but the ids of {bag.of!r} are "
                    f"{of_views[bag.of].__name__}: use dtype={of_views[bag.of].__name__}"
                )
        if bag.target is not None:
            choose_from(f"Bag({bag.name}).target", bag.target, [*of_log, *of_views], what=what)


def _typed(project: "Project") -> Iterator[SourceView | SqlView | PythonView]:
    return (view for view in project.feature_views if isinstance(view, SourceView | SqlView | PythonView))


def _bags(project: "Project") -> Iterator[Bag]:
    yield from project.stream.bags
    for view in _typed(project):
        yield from (each for each in view.inputs if isinstance(each, Bag))
