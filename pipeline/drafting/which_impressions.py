"""Which of several tables with a time, a user and an item are the impressions.

Belongs here: the choice. Not here: what the others are then (tables.py).
"""

import duckdb

from pipeline.drafting.ids_by_value import match_of
from pipeline.drafting.looked import Looked
from pipeline.drafting.naming import snake
from pipeline.drafting.roles import impression_of, labels_of
from pipeline.drafting.same_columns import same, shared

CALLED = ("impression", "expos", "show", "ausspiel", "einblend", "anzeige", "affichage", "impresion")


def impressions_of(connection: duckdb.DuckDBPyConnection, candidates: list[Looked], every: list[Looked]) -> Looked:
    """Those with a label of 0 and 1, else whose ids other files name, else that are called so; of several, those with
    any label, then the largest.

    Args:
        every: files that have a time, among which outcomes are.
    """
    if len(candidates) == 1:
        return candidates[0]

    def rank(each: Looked) -> tuple[bool, bool, bool, bool, int]:
        labels = labels_of(each)[0]
        flagged = any(label.sure and label.ceiling is None for label in labels)
        named = any(word in snake(each.title) for word in CALLED)
        return flagged, _referred(connection, each, every), named, bool(labels), each.sample.estimated

    return max(candidates, key=rank)


def _referred(connection: duckdb.DuckDBPyConnection, shown: Looked, every: list[Looked]) -> bool:
    """Do other files name its rows? Those that have a column of the same name do if they have its values."""
    id_ = impression_of(shown)
    for each in every:
        if each is shown:
            continue
        alike = same(each, id_) if id_ is not None else None
        if id_ is not None and alike is not None:
            met, known = shared(connection, each, alike, shown, id_)
            seen = min(1.0, shown.sample.rows / max(shown.sample.estimated, 1))
            if met and met >= seen * known / 2 and each.sample.estimated <= shown.sample.estimated:
                return True
        elif match_of(connection, shown, each, id_) is not None:
            return True
    return False
