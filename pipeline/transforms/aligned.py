"""Lists that stand beside others: a row in which one is longer than the other can't be read.

Belongs here: finding such rows. Not here: what is done with them (contract.py, sources.py, computed.py).
"""

from collections.abc import Iterable, Iterator

import polars as pl

from exfm.inputs import Bag


def misaligned(inputs: Iterable[object]) -> Iterator[tuple[pl.Expr, pl.Expr]]:
    """Of bags with others beside them: (is a row's side not as long as its list?, why), a null being an empty list."""
    for bag in inputs:
        if not isinstance(bag, Bag):
            continue
        for name in bag.beside:
            listed, beside = (pl.col(each).list.len().fill_null(0) for each in (bag.name, name))
            why = pl.format(f"{name} is not as long as {bag.name}: {{}} beside {{}}", beside, listed)
            yield listed != beside, why


def first_misaligned(frame: pl.DataFrame, inputs: Iterable[object]) -> str | None:
    """Why the first such row of a frame can't be read, ``None`` if all can."""
    for broken, why in misaligned(inputs):
        found = frame.filter(broken).select(why.alias("why")).head(1)
        if found.height:
            return str(found["why"][0])
    return None
