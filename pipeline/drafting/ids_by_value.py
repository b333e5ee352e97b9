"""Which column of other files names impressions, where it is called otherwise: by the values that both have.

Belongs here: matching ids by value. Not here: matching them by name, and what follows of it (tables.py).
"""

from dataclasses import dataclass

import duckdb

from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import NEARLY_ALL, Profile
from pipeline.drafting.same_columns import shared

SHORTEST = 8  # characters of an id: shorter ones, and counted ones, match by accident
FEWEST = 5  # ids that match
MOST_COLUMNS = 6  # that are tried


@dataclass(frozen=True)
class Match:
    """A column of other files, and the column of the impressions whose values it has."""

    id: Profile
    refers: Profile
    why: str


def match_of(connection: duckdb.DuckDBPyConnection, shown: Looked, other: Looked, id_: Profile | None) -> Match | None:
    """The columns that match best.

    Args:
        id_: the id of the impressions, if a name told it.
    """
    ids = [id_] if id_ is not None else [each for each in shown.profiles.values() if _may_identify(each)]
    best: tuple[int, Match] | None = None
    share_seen = min(1.0, shown.sample.rows / max(shown.sample.estimated, 1))
    for own in ids[:MOST_COLUMNS]:
        for each in [column for column in other.profiles.values() if _is_key(column)][:MOST_COLUMNS]:
            met, known = shared(connection, other, each, shown, own)
            if met < FEWEST or met < share_seen * known / 2 or (best is not None and met <= best[0]):
                continue
            most = "" if share_seen == 1 else f", of which {share_seen:.0%} were looked at"
            why = f"{met:,} of {known:,} values of {each.name!r} are values of {own.name!r} of the impressions{most}"
            best = met, Match(own, each, why)
    return None if best is None else best[1]


def _is_key(each: Profile) -> bool:
    return each.kind in ("VARCHAR", "UUID") and not each.is_number and each.longest >= SHORTEST and each.spaces < 1


def _may_identify(each: Profile) -> bool:
    """Has nearly each row another value?"""
    return _is_key(each) and each.origin.of is not None and each.distinct >= NEARLY_ALL * each.rows
