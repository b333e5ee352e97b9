"""Rows of other tables that stand beside a slice's inputs, part by part.

Belongs here: matching them by impression. Not here: reading the inputs (slice_inputs.py), what is made of both.
"""

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from exfm.stream import Slice
from pipeline.tables import SliceTable

ID = "impression_id"


def beside(
    table: SliceTable, slice_: Slice, shown: Iterable[pl.DataFrame], columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """A table's rows of each part's impressions, in their order; null where it has none.

    Tables of a slice mostly have the same rows in the same order. Where one has not, it is looked through for each
    part.

    Args:
        shown: ``impression_id`` of each part.
    """
    wanted = [ID, *columns]
    parts = table.parts(slice_, wanted)
    for part in shown:
        ids = part.select(ID)
        found = next(parts, None)
        if found is None or not found[ID].equals(ids[ID]):
            found = pl.concat(other.join(ids, on=ID, how="semi") for other in table.parts(slice_, wanted))
            found = ids.join(found, on=ID, how="left", maintain_order="left")
        yield found
