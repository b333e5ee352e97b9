"""Columns: how features and scores are called in tables, and a model's inputs by kind.

Belongs here: names that are put together, and taken apart again, in one place. Not here: what columns hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureColumn:
    """A view's feature as a column, ``<view>__<feature>``: as Feast's full feature names are."""

    view: str
    feature: str

    @property
    def name(self) -> str:
        return f"{self.view}__{self.feature}"

    @classmethod
    def named(cls, input_: str) -> str:
        """The column that an input names: of ``view:feature`` the view's, else one of the log's own name."""
        view, colon, feature = input_.partition(":")
        return cls(view, feature).name if colon else input_

    @classmethod
    def of(cls, name: str) -> "FeatureColumn":
        """From a column's name; names of views have no ``__`` (errors.py:identifier)."""
        view, _, feature = name.partition("__")
        return cls(view, feature)


def views_of(columns: Iterable[str]) -> tuple[str, ...]:
    """The views whose features some columns are, each once, in order."""
    return tuple(dict.fromkeys(FeatureColumn.of(name).view for name in columns))


@dataclass(frozen=True)
class ScoreColumns:
    """A task's columns in a table of predictions."""

    task: str

    @property
    def logit(self) -> str:
        return f"{self.task}_logit"

    @property
    def probability(self) -> str:
        return f"{self.task}_probability"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Inputs by kind: categorical ids; numbers and lists of ids as feature columns; what the log brings beside ids.

    Args:
        of_teachers: those features that are made of a teacher's predictions.
        numbers, vectors, bags: columns of the log.
        sides: lists that stand beside histories and bags.
        derived: ids that are made of other columns when they are read; ``parts``: those columns.
    """

    ids: tuple[str, ...]
    features: tuple[str, ...]
    histories: tuple[str, ...] = ()
    of_teachers: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    bags: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()

    @property
    def of_views(self) -> tuple[str, ...]:
        """All that comes from feature views: names of their columns alone have two underscores."""
        of_sources = dict.fromkeys((*self.ids, *self.numbers, *self.vectors, *self.bags, *self.sides))
        return (*self.features, *self.histories, *(name for name in of_sources if "__" in name))

    @property
    def lists(self) -> tuple[str, ...]:
        """All lists of ids, each once."""
        return tuple(dict.fromkeys((*self.histories, *self.bags, *self.sides)))

    @property
    def of_log(self) -> tuple[str, ...]:
        """All that comes from the log itself, the calendar included, each once."""
        every = (*self.ids, *self.parts, *self.numbers, *self.vectors, *self.bags, *self.sides)
        return tuple(dict.fromkeys(name for name in every if "__" not in name))

    @property
    def stored(self) -> tuple[str, ...]:
        """All that a table of inputs holds of them."""
        return self.of_log + self.of_views
