"""Encodings: how a column of a table becomes what a network reads; the same when training and when serving.

Belongs here: kinds, treatments, null rules. Not here: applying them (pipeline/transforms/inputs.py).

A column's encoding is declared (by the log's column, or by the view whose feature it is) and kept in every manifest. It
is never guessed from a table's types: a count that pandas turned into a float is a count.
"""

from typing import Literal

from exfm.declaration import declaration


@declaration
class Encoding:
    """What is done to a column.

    Args:
        kind: ``id`` (one category), ``ids`` (a list of them), ``ages`` (a list of moments, in seconds since 1970, read
            as ids of how long they lie back), ``count``, ``number``, ``vector`` (a list of floats), or an id that is
            made of other columns when they are read: ``cross``, ``bucket``, ``quantile`` (a number, of which a network
            makes the range that it lies in).
        treatment: ``hash`` (to 64 bits), ``log1p``, ``signed_log1p`` (sign(x) log(1 + |x|)) or ``none``.
        null: what a missing value is: an ``id`` of its own, an ``empty`` list, ``zero``, or ``unknown`` (NaN).
        salt: of the hash: the log's column whose ids these are.
        dtype: ``int`` or ``str``, of ids.
        of: the columns that it is made of; of a list that stands beside another one, that one. ``edges``: between a
            bucket's ranges, ascending.
        width: of a vector; ``length``: at most so many ids of a list are read, the first ones.
    """

    kind: Literal["id", "ids", "ages", "count", "number", "vector", "cross", "bucket", "quantile"]
    treatment: Literal["hash", "log1p", "signed_log1p", "none"]
    null: Literal["id", "empty", "zero", "unknown"]
    salt: str | None = None
    dtype: Literal["int", "str"] | None = None
    of: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    width: int | None = None
    length: int | None = None

    @property
    def is_of_the_log(self) -> bool:
        """Is it of an input of exfm/inputs.py?"""
        return self.kind in ("vector", *DERIVED) or self.treatment == "signed_log1p" or self.length is not None

    @property
    def is_derived(self) -> bool:
        """Is it made when inputs are read, so that no table holds it?"""
        return self.kind in DERIVED


DERIVED = ("cross", "bucket", "quantile")  # kinds that no table holds
AGE_ROWS = 512  # embedding rows of ages: a century has 63 half octaves, and hashes of so few hardly ever share one
COUNT = Encoding(kind="count", treatment="log1p", null="zero")
NUMBER = Encoding(kind="number", treatment="none", null="unknown")


def id_encoding(column: str, dtype: type) -> Encoding:
    """Of a categorical column of the log."""
    return Encoding(kind="id", treatment="hash", null="id", salt=column, dtype="str" if dtype is str else "int")


def list_encoding(column: str, dtype: type, length: int | None = None) -> Encoding:
    """Of a list of such a column's ids, of which at most so many are read."""
    kind: Literal["str", "int"] = "str" if dtype is str else "int"
    return Encoding(kind="ids", treatment="hash", null="empty", salt=column, dtype=kind, length=length)


def ages_encoding(name: str) -> Encoding:
    """Of a list of moments: how long before the row's own they lie, in half octaves of a second."""
    return Encoding(kind="ages", treatment="hash", null="empty", salt=name)


def number_encoding(treatment: Literal["signed_log1p", "none"], null: Literal["unknown", "zero"]) -> Encoding:
    """Of a number of the log."""
    return Encoding(kind="number", treatment=treatment, null=null)


def vector_encoding(width: int) -> Encoding:
    """Of a list of so many floats."""
    return Encoding(kind="vector", treatment="none", null="unknown", width=width)


def cross_encoding(name: str, of: tuple[str, ...]) -> Encoding:
    """Of the combination of several ids."""
    return Encoding(kind="cross", treatment="hash", null="id", salt=name, of=of)


def bucket_encoding(name: str, of: str, edges: tuple[float, ...]) -> Encoding:
    """Of the range that a number lies in."""
    return Encoding(kind="bucket", treatment="hash", null="id", salt=name, of=(of,), edges=edges)


def quantile_encoding(of: str) -> Encoding:
    """Of the range that a number lies in, between edges that a network keeps."""
    return Encoding(kind="quantile", treatment="none", null="unknown", of=(of,))
