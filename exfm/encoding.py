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
        kind: ``id`` (one category), ``ids`` (a list of them), ``count`` or ``number``.
        treatment: ``hash`` (to 64 bits), ``log1p`` or ``none``.
        null: what a missing value is: an ``id`` of its own, an ``empty`` list, ``zero``, or ``unknown`` (NaN).
        salt: of the hash: the log's column whose ids these are.
        dtype: ``int`` or ``str``, of ids.
    """

    kind: Literal["id", "ids", "count", "number"]
    treatment: Literal["hash", "log1p", "none"]
    null: Literal["id", "empty", "zero", "unknown"]
    salt: str | None = None
    dtype: Literal["int", "str"] | None = None


COUNT = Encoding(kind="count", treatment="log1p", null="zero")
NUMBER = Encoding(kind="number", treatment="none", null="unknown")


def id_encoding(column: str, dtype: type) -> Encoding:
    """Of a categorical column of the log."""
    return Encoding(kind="id", treatment="hash", null="id", salt=column, dtype="str" if dtype is str else "int")


def list_encoding(column: str, dtype: type) -> Encoding:
    """Of a list of such a column's ids."""
    return Encoding(kind="ids", treatment="hash", null="empty", salt=column, dtype="str" if dtype is str else "int")
