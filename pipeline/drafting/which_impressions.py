"""Which of several tables with a time, a user and an item are the impressions.

Belongs here: the choice. Not here: what the others are then (tables.py).
"""

import duckdb

from pipeline.drafting.ids_by_value import match_of
from pipeline.drafting.looked import Looked
from pipeline.drafting.naming import snake
from pipeline.drafting.roles import impression_of, labels_of
from pipeline.drafting.same_columns import same

CALLED = ("impression", "expos", "show", "ausspiel", "einblend", "anzeige", "affichage", "impresion")


def impressions_of(connection: duckdb.DuckDBPyConnection, candidates: list[Looked], every: list[Looked]) -> Looked:
    """Those with a label of 0 and 1, or whose ids other files name; of several, those that are called so, then the
    largest.

    Args:
        every: files that have a time, among which outcomes are.
    """
    if len(candidates) == 1:
        return candidates[0]

    def rank(each: Looked) -> tuple[bool, bool, bool, bool, int]:
        labels = labels_of(each)[0]
        flagged = any(label.ceiling is None for label in labels)
        referred = _referred(connection, each, every)
        named = any(word in snake(each.title) for word in CALLED)
        return flagged or referred, named, referred, bool(labels), each.sample.estimated

    return max(candidates, key=rank)


def _referred(connection: duckdb.DuckDBPyConnection, shown: Looked, every: list[Looked]) -> bool:
    """Do other files name its rows?"""
    id_ = impression_of(shown)
    others = [each for each in every if each is not shown]
    if id_ is not None and any(same(each, id_) is not None for each in others):
        return True
    return any(match_of(connection, shown, each, id_) is not None for each in others)
