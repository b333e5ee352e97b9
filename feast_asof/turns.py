"""A long history of which few entity rows ask: it is read in turns, and of each only what it serves is held.

Belongs here: cutting into turns, what each serves, the newest of all. Not here: arranging a turn (history.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from feast_asof.files import SourceFile
from feast_asof.history import NEVER, History
from feast_asof.keys import NONE, Codes
from feast_asof.ordering import Moments
from feast_asof.plan import Plan
from feast_asof.reading import stacked

_TURN = 1 << 17  # rows of a history that are worth arranging by themselves
_MANY = 4  # a history is long if it has more rows than this many times the entity rows


def turns_of(files: Sequence[SourceFile], rows: int) -> list[list[SourceFile]]:
    """Few entity rows need few of a long history's rows: it is then read in turns, one of them in memory at a time."""
    most = max(_TURN, _MANY * rows)
    turns: list[list[SourceFile]] = [[]]
    for file in files:
        if turns[-1] and sum(held.rows for held in turns[-1]) + file.rows > most:
            turns.append([])
        turns[-1].append(file)
    return turns


@dataclass(frozen=True)
class Found:
    """What one turn's history serves: to which entity rows, with which clocks, and at which indices of ``frame``."""

    asking: Codes
    about: Moments
    written: Moments
    frame: pl.DataFrame
    indices: Codes

    @staticmethod
    def of(history: History, matches: Codes) -> "Found":
        """The served rows alone, so that the history can be let go."""
        asking = np.flatnonzero(matches >= 0)
        served, indices = np.unique(history.rows[matches[asking]], return_inverse=True)
        about = history.about[matches[asking]]
        written = np.full(len(asking), NEVER) if history.written is None else history.written[matches[asking]]
        return Found(asking, about, written, history.frame[served], indices)


def newest_of(plan: Plan, turns: Sequence[Found], rows: int) -> tuple[pl.DataFrame, pl.Series]:
    """Of all turns' answers the one with the greatest (t, c); of equal ones the last.

    That is right whatever the turns hold: the answer is the greatest (t, c) of all rows known at the clock.

    Returns:
        a frame of served rows, and for each entity row the index of its row in it (null: none).
    """
    about, written, index = np.full(rows, NEVER), np.full(rows, NEVER), np.full(rows, NONE, np.int64)
    height = 0
    for turn in turns:
        was_about, was_written = about[turn.asking], written[turn.asking]
        newer = (turn.about > was_about) | ((turn.about == was_about) & (turn.written >= was_written))
        asking = turn.asking[newer]
        about[asking], written[asking] = turn.about[newer], turn.written[newer]
        index[asking] = turn.indices[newer] + height
        height += turn.frame.height
    indices = pl.Series(index)
    return stacked([turn.frame for turn in turns], plan.common), indices.set(indices < 0, None)
