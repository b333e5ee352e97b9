"""Inputs that the log brings beside ids: numbers, vectors, several ids at once; and ids that are made of others.

Belongs here: what can be declared of them. Not here: encodings (encoding.py), reading them (pipeline/transforms/).
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal

from pydantic import field_serializer

from exfm.columns import FeatureColumn
from exfm.declaration import Declaration, declaration
from exfm.encoding import (
    Encoding,
    bucket_encoding,
    cross_encoding,
    list_encoding,
    number_encoding,
    quantile_encoding,
    vector_encoding,
)
from exfm.errors import DeclarationError, at_least, at_most, choose_from, int_or_str, not_empty, unique

WIDEST = 4_096  # of a vector
LONGEST_BAG = 10_000
MOST_QUANTILES = 1_000


@declaration
class Number(Declaration):
    """A number of the log: a price, a position, a bid.

    Networks see it standardised by the running mean and deviation, and clipped at 8 deviations: no value, and no unit,
    makes a network blow up. Infinity counts as a very large number.

    Args:
        treatment: before that: ``none``, or ``log1p``, sign(x) log(1 + |x|), for what spans orders of magnitude.
        null: what null and NaN mean: ``unknown`` (the mean), or ``zero``.
        of_item: it says something of the item alone: a network with two towers reads it on the item's side.
    """

    name: str
    treatment: Literal["none", "log1p"] = "none"
    null: Literal["unknown", "zero"] = "unknown"
    of_item: bool = False

    def encoding_among(self, dtypes: Mapping[str, type]) -> Encoding:
        """How it becomes an input of networks."""
        return number_encoding("signed_log1p" if self.treatment == "log1p" else "none", self.null)


@declaration
class Vector(Declaration):
    """A list of so many floats in each row: an image's or a text's embedding.

    A network sees it through a projection that it learns, as one more field. Each position is standardised as a
    ``Number`` is; a missing vector is the mean. A vector of another width, or with a null inside, is quarantined with
    its row.

    Args:
        width: how many floats.
        of_item: as in ``Number``.
    """

    name: str
    width: int
    of_item: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(f"Vector({self.name}).width", self.width, 1)
        at_most(f"Vector({self.name}).width", self.width, WIDEST)

    def encoding_among(self, dtypes: Mapping[str, type]) -> Encoding:
        """As in ``Number``."""
        return vector_encoding(self.width)


@declaration
class Bag(Declaration):
    """Several ids at once, in no order: tags, categories, keywords. A missing bag is empty.

    Args:
        rows: embedding rows that its ids share; with ``of``, leave it out.
        dtype: ``int`` or ``str``, of the ids; with ``of`` a column of the log, leave it out.
        of: a categorical column of the log, or ``view:feature`` of a view that has one, whose ids these are: the bag
            shares its embedding rows.
        pooling: ``mean`` or ``sum`` of the ids' embeddings, or ``attention``: weighted by how relevant each is to the
            item (as a history is), or to ``target``.
        target: what attention looks at instead, as ``of`` names it: the ad's category, for a list of categories.
        length: at most so many ids are read, the first ones.
        beside: other bags that say something of each of its ids, place by place (a list of categories beside a list of
            items); where they are not as long as it is, the row is quarantined.
        of_item: as in ``Number``.
    """

    name: str
    rows: int | None = None
    dtype: type[int] | type[str] = int
    of: str | None = None
    pooling: Literal["mean", "sum", "attention"] = "mean"
    target: str | None = None
    length: int = 50
    beside: tuple[str, ...] = ()
    of_item: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"Bag({self.name})"
        int_or_str(f"{where}.dtype", self.dtype)
        if (self.rows is None) == (self.of is None):
            raise DeclarationError(
                f"{where}.rows: {self.rows!r} beside of={self.of!r}: use rows for embeddings of its own, or of to "
                "share a column's"
            )
        if self.rows is not None:
            at_least(f"{where}.rows", self.rows, 2)
        at_least(f"{where}.length", self.length, 1)
        at_most(f"{where}.length", self.length, LONGEST_BAG)
        unique(f"{where}.beside", self.beside)
        if self.target is not None and self.pooling != "attention":
            raise DeclarationError(
                f"{where}.target: {self.target!r} is looked at by attention alone, and pooling is {self.pooling!r}: "
                "use pooling='attention', or drop it"
            )

    @field_serializer("dtype")
    def _written_dtype(self, dtype: type) -> str:
        return dtype.__name__

    def encoding_among(self, dtypes: Mapping[str, type]) -> Encoding:
        """As in ``Number``; ``dtypes`` are those of the log's id columns."""
        shared = FeatureColumn.named(self.of) if self.of else self.name
        return list_encoding(shared, dtypes.get(shared, self.dtype), self.length)


@declaration
class Cross(Declaration):
    """The combination of several ids as one: ``Cross(name="user_campaign", of=("user_id", "campaign"), rows=100_000)``.

    A factorisation learns a cross only as far as its embeddings allow; this one has rows of its own. It is made when
    inputs are read, in training and serving alike, so no table keeps it.

    Args:
        of: categorical columns of the log or of the calendar.
        rows: embedding rows that the combinations share.
    """

    name: str
    of: tuple[str, ...]
    rows: int

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"Cross({self.name})"
        at_least(f"{where}.rows", self.rows, 2)
        unique(f"{where}.of", self.of)
        if len(self.of) < 2:
            raise DeclarationError(f"{where}.of: {self.of!r} crosses nothing: name two columns or more")

    def encoding_among(self, dtypes: Mapping[str, type]) -> Encoding:
        """As in ``Number``."""
        return cross_encoding(self.name, self.of)

    def check(self, ids: tuple[str, ...], numbers: tuple[str, ...]) -> None:
        """Refuse columns that are no ids.

        Raises:
            DeclarationError: for the first.
        """
        for name in self.of:
            choose_from(f"Cross({self.name}).of", name, ids, what="categorical column")


@declaration
class Bucket(Declaration):
    """A number as one id, by which of some ranges it lies in: what is not smooth in it is learnt range by range.

    Bucket 0 is below the first edge, bucket i is [edge i - 1, edge i). Null and NaN have a bucket of their own.

    Args:
        of: a ``Number`` of the log.
        edges: ascending.
        quantiles: instead of edges, into how many ranges of equally many rows: each model keeps their edges, a running
            mean over about the last 20 slices that it learnt from, in its checkpoint.
    """

    name: str
    of: str
    edges: tuple[float, ...] = ()
    quantiles: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"Bucket({self.name})"
        if self.quantiles is None:
            not_empty(f"{where}.edges", self.edges, what="edge")
        else:
            at_least(f"{where}.quantiles", self.quantiles, 2)
            at_most(f"{where}.quantiles", self.quantiles, MOST_QUANTILES)
        if self.quantiles is not None and self.edges:
            raise DeclarationError(
                f"{where}.quantiles: {self.quantiles} beside {len(self.edges)} edges: drop one, edges are declared or "
                "follow the stream"
            )
        for before, after in pairwise(self.edges):
            if not before < after:
                raise DeclarationError(f"{where}.edges: {after!r} comes after {before!r}: write them ascending")

    @property
    def rows(self) -> int:
        """Embedding rows: hashes of so few buckets hardly ever share one; of quantiles one each."""
        return self.quantiles + 1 if self.quantiles is not None else 8 * (len(self.edges) + 2)

    def encoding_among(self, dtypes: Mapping[str, type]) -> Encoding:
        """As in ``Number``."""
        if self.quantiles is not None:
            return quantile_encoding(self.of)
        return bucket_encoding(self.name, self.of, self.edges)

    def check(self, ids: tuple[str, ...], numbers: tuple[str, ...]) -> None:
        """Refuse what is no number.

        Raises:
            DeclarationError: if it is none.
        """
        choose_from(f"Bucket({self.name}).of", self.of, numbers, what="number of the log")


def check_beside(bags: Iterable[Bag]) -> None:
    """Refuse bags that can't stand beside others.

    Raises:
        DeclarationError: for the first: one that is not there, is cut otherwise, or stands beside two.
    """
    known = {bag.name: bag for bag in bags}
    stands: dict[str, str] = {}
    for bag in known.values():
        for name in bag.beside:
            where = f"Bag({bag.name}).beside"
            choose_from(where, name, (other for other in known if other != bag.name), what="bag")
            beside = known[name]
            if beside.beside or name in stands:
                other = f"beside {stands[name]!r} already" if name in stands else "a list with others beside it"
                raise DeclarationError(f"{where}: {name!r} is {other}: drop one of them")
            if beside.length != bag.length:
                raise DeclarationError(
                    f"Bag({name}).length: {beside.length} is not that of {bag.name!r}, beside which it stands: "
                    f"use {bag.length}"
                )
            stands[name] = bag.name


LogInput = Number | Vector | Bag | Cross | Bucket
