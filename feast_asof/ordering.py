"""The order in which a view's rows are arranged: by key, then by when they become known.

Belongs here: order, ties, which rows are about the newest moment. Not here: what is done with them (history.py).
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from feast_asof.keys import Codes

Moments = npt.NDArray[np.int64]
_LOW = 2**32 - 1


def in_order(
    codes: Codes, known: Moments, rows: Codes, about: Moments, created: Moments | None
) -> tuple[Codes, Moments, Codes]:
    """Codes, ``known`` and rows by (code, known, t, c, position in the files).

    Args:
        codes: one for each of ``rows``.
        known, about, created: one for each row that was read; ``rows`` says which are meant.
    """
    known = known if len(rows) == len(known) else known[rows]
    order = _order(codes, known)
    if order is not None:
        codes, known, rows = codes[order], known[order], rows[order]
    tied = np.flatnonzero((codes[1:] == codes[:-1]) & (known[1:] == known[:-1]))
    if not len(tied):
        return codes, known, rows
    earlier, later = rows[tied], rows[tied + 1]
    wrong = about[earlier] > about[later]
    if created is not None:
        wrong |= (about[earlier] == about[later]) & (created[earlier] > created[later])
    if wrong.any():  # mostly not: what is written again later is read later
        group = np.union1d(tied, tied + 1)
        held = rows[group]
        by = [held, *([created[held]] if created is not None else []), about[held], known[group], codes[group]]
        rows[group] = held[np.lexsort(by)]  # key and ``known`` are the same for all that tie
    return codes, known, rows


def _order(codes: Codes, known: Moments) -> Codes | None:
    """The stable order by (code, known); ``None`` if it is there already. Slices mostly come in order of time."""
    order: Codes | None = None
    if np.any(known[1:] < known[:-1]):
        order = np.argsort(known, kind="stable")
        codes = codes[order]
    if np.any(codes[1:] < codes[:-1]):
        by_code = _by_code(codes)
        order = by_code if order is None else order[by_code]
    return order


def _by_code(codes: Codes) -> Codes:
    """The stable order of codes, which numpy finds by merging where they are wider than 16 bits: ten times as slow."""
    top = int(codes.max(initial=0))
    if top < 1 << 16:
        return np.argsort(codes.astype(np.uint16), kind="stable")  # one radix pass
    if top >= 1 << 31 or len(codes) > _LOW:
        return np.argsort(codes, kind="stable")
    # Code and place as one number: those all differ, so that a sort which is not stable, and vectorised, will do.
    places = codes.astype(np.int64) << 32 | np.arange(len(codes))
    places.sort()
    return places & _LOW


def newest(codes: Codes, about: Moments) -> npt.NDArray[np.bool_]:
    """Is a row about a moment no earlier than all rows of its key that are known before it?"""
    falls = (codes[1:] == codes[:-1]) & (about[1:] < about[:-1])
    if not falls.any():
        return np.ones(len(codes), np.bool_)
    frame = pl.DataFrame({"code": codes, "about": about})
    return frame.select(pl.col("about") == pl.col("about").cum_max().over("code")).to_series().to_numpy()
