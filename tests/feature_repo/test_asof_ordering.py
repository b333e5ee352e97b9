"""Arranged rows: their order against a sort by all that counts, and what is let go against what is still served."""

import numpy as np
import polars as pl
import pytest

from feast_asof.history import NEVER, History
from feast_asof.keys import DenseCoder
from feast_asof.ordering import Moments, in_order

WIDEST = {"few keys": 5, "16 bits": 2**16 - 1, "more": 2**16, "32 bits": 2**31 - 1, "wider": 2**40}


@pytest.mark.parametrize("widest", WIDEST.values(), ids=list(WIDEST))
@pytest.mark.parametrize("in_time", [True, False])
def test_rows_are_by_key_then_moments_then_place(widest: int, in_time: bool) -> None:
    rng = np.random.default_rng(widest % 1_000 + in_time)
    for count in (0, 1, 2, 300):
        keys = np.append(rng.integers(0, widest, 6, endpoint=True), widest)
        codes = rng.choice(keys, count).astype(np.int64 if widest >= 2**31 else np.int32)
        about, created = rng.integers(0, 9, count), rng.integers(0, 9, count)
        known = np.maximum(about, created)
        if in_time:
            by_time = np.argsort(known, kind="stable")
            codes, about, created, known = (each[by_time] for each in (codes, about, created, known))
        rows = np.arange(count, dtype=np.uint32)
        expected = np.lexsort([rows, created, about, known, codes])
        found_codes, found_known, found_rows = in_order(codes, known, rows.copy(), about, created)
        assert found_rows.tolist() == expected.tolist()
        assert found_codes.tolist() == codes[expected].tolist()
        assert found_known.tolist() == known[expected].tolist()


def history(rng: np.random.Generator, ttl: int | None) -> History:
    """Rows of some of eight keys, in some order of a frame that also has rows which are never served."""
    counts = rng.integers(0, 4, 8)
    height = int(counts.sum())
    starts = np.append(0, np.cumsum(counts))
    known: Moments = np.concatenate([np.sort(rng.choice(30, count, replace=False)) for count in counts])
    known = known.astype(np.int64)
    rows = rng.permutation(height + 3)[:height].astype(np.uint32)
    about = known - rng.integers(0, 3, height)
    frame = pl.DataFrame({"value": np.arange(height + 3)})
    return History(frame, DenseCoder(0, 8), starts, rows, known, about, None, ttl)


@pytest.mark.parametrize("ttl", [None, 0, 5])
def test_what_is_let_go_is_what_no_moment_from_then_on_is_served(ttl: int | None) -> None:
    rng = np.random.default_rng(ttl)
    keys = pl.DataFrame({"k0": np.arange(8)})
    for _ in range(30):
        rows, moment = history(rng, ttl), int(rng.integers(-1, 35))
        found = [rows.find(keys, pl.Series([at] * 8)) for at in range(moment, 40)]
        served = {int(rows.rows[match]) for matches in found for match in matches if match >= 0}
        needed = rows.needed_from(moment)
        assert needed.tolist() == sorted(needed)
        assert served <= set(needed.tolist())
        later = {int(row) for row, at in zip(rows.rows, rows.known, strict=True) if at > moment}
        assert set(needed.tolist()) <= served | later  # a later one may be too old when it becomes known


def test_a_moment_before_all_and_after_all() -> None:
    rows = history(np.random.default_rng(1), None)
    assert len(rows.needed_from(NEVER)) == len(rows.rows)
    assert len(rows.needed_from(100)) == np.count_nonzero(np.diff(rows.starts))
