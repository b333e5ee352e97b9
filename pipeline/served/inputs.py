"""Features as they were served, in the place of those that are joined afterwards.

Belongs here: putting them in, and counting. Not here: finding rows (rows.py), comparing columns (skew.py).

What is put in are columns of views, of which an offline join can only guess what was served. Columns of the log stay
those of the log: what a request brings and what is logged both come from the sender. They are only compared.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from exfm.encoding import Encoding
from exfm.served_inputs import ServedInputs
from pipeline.served.files import ID, TIME
from pipeline.served.rows import Served, served_rows
from pipeline.served.skew import Skew, may_be_compared, skews
from pipeline.workspace import Workspace

# Among the notes of a slice.
ROWS, WITHOUT, WORST, COLUMNS = "served/rows", "served/without", "served/skew", "served/columns"
LATE, OTHER_ITEMS, PASSED_OVER = "served/late", "served/other_items", "served/files_passed_over"
_MARK, _AS_SERVED = "_is_served", "_as_served:"


@dataclass
class ServedFeatures:
    """Of a slice's impressions, part by part.

    Args:
        columns: of the table that may be served; the calendar is the clock's, and never compared.
    """

    work: Workspace
    declared: ServedInputs
    columns: Sequence[str]
    rows: int = 0
    served: int = 0
    late: int = 0
    other_items: int = 0
    skew: dict[str, Skew] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    other_types: set[str] = field(default_factory=set)

    def into(self, part: pl.DataFrame) -> pl.DataFrame:
        """Impressions with joined features, those that were served in their place."""
        stream = self.work.project.stream
        wanted = [name for name in self.columns if name not in (stream.item.name, *stream.calendar)]
        served = served_rows(self.work, self.declared, part.select(ID, TIME, stream.item.name), wanted)
        self._count(part.height, served)
        for group in served.groups:
            names = [name for name in wanted if name in group.columns]
            surface = stream.surface.name
            if surface in names and group[surface].null_count() == group.height:
                names.remove(surface)  # of a student of all surfaces, whose requests did not say it
            part = self._with(part, group, names)
        return part

    def _count(self, rows: int, served: Served) -> None:
        self.rows, self.served = self.rows + rows, self.served + served.rows
        self.late, self.other_items = self.late + served.late, self.other_items + served.other_items
        # Parts meet the same files: what is counted of them is how many, not how often.
        self.passed_over |= served.passed_over

    def _with(self, part: pl.DataFrame, group: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """The rows of releases that read the same columns."""
        fitting = [name for name in names if may_be_compared(group.schema[name], part.schema[name])]
        self.other_types |= set(names) - set(fitting)
        as_served = [pl.col(name).cast(part.schema[name], strict=False).alias(_AS_SERVED + name) for name in fitting]
        beside = part.join(
            group.select(ID, pl.lit(True).alias(_MARK), *as_served), on=ID, how="left", maintain_order="left"
        )
        both = beside.filter(pl.col(_MARK))
        lengths = {name: length for name, length in self._lengths().items() if name in fitting}
        for name, skew in skews(both, {name: (_AS_SERVED + name, name) for name in fitting}, lengths).items():
            self.skew[name] = self.skew.get(name, Skew()) + skew
        put = [self._put(name, part.schema[name]) for name in self._together(fitting) if "__" in name]
        return beside.with_columns(put).select(part.columns)

    @staticmethod
    def _put(name: str, dtype: pl.DataType) -> pl.Expr:
        served, is_served = pl.col(_AS_SERVED + name), pl.col(_MARK).fill_null(False)
        if isinstance(dtype, pl.List):  # an empty list is served as none: Feast's online stores know no other
            is_served &= served.is_not_null() | (pl.col(name).list.len() > 0)
        return pl.when(is_served).then(served).otherwise(pl.col(name)).alias(name)

    def _together(self, names: Sequence[str]) -> list[str]:
        """Without lists that stand beside each other of which a release read some: they would be of two lengths."""
        beside: dict[str, set[str]] = {}
        for name, encoding in self._encoder.items():
            for of in encoding.of if encoding.kind in ("ids", "ages") else ():
                beside.setdefault(of, {of}).add(name)
        broken = {name for lists in beside.values() if not lists <= {*names} for name in lists}
        return [name for name in names if name not in broken]

    def _lengths(self) -> dict[str, int]:
        return {name: encoding.length for name, encoding in self._encoder.items() if encoding.length is not None}

    @cached_property
    def _encoder(self) -> dict[str, Encoding]:
        return self.work.project.encoder(self.work.project.logged_columns)

    def told(self) -> dict[str, object]:
        """Notes of the slice: rows with features as served and without, and of each column how both differ."""
        notes: dict[str, object] = {ROWS: self.served, WITHOUT: self.rows - self.served}
        if self.skew:
            notes[WORST] = max(skew.share for skew in self.skew.values())
            notes[COLUMNS] = {name: skew.plain() for name, skew in sorted(self.skew.items())}
        counted = {LATE: self.late, OTHER_ITEMS: self.other_items, PASSED_OVER: self.passed_over.total()}
        return notes | {name: count for name, count in counted.items() if count}

    def sentences(self) -> Iterator[str]:
        """What was passed over, and why."""
        for why, count in sorted(self.passed_over.items()):
            yield f"the request log has {count:,} {'file' if count == 1 else 'files'} {why}: passed over"
        if self.late:
            yield (
                f"{self.late:,} impressions were shown before their request or over {self.declared.within} after it: "
                "set ServedInputs.within to how long it may take; they are joined"
            )
        if self.other_items:
            yield (
                f"{self.other_items:,} impressions have the impression_id of a candidate that was another item: log "
                "what is shown with the id of its own candidate; they are joined"
            )
        for name in sorted(self.other_types):
            yield f"{name} was served in another type than it is declared with now: it is joined"
