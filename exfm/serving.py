"""Serving: what a student's releases are made like, beside its network.

Belongs here: what can be declared of it. Not here: the gate before a release (learning.py), how old one may be
(freshness.py), the server (serving/).

A checkpoint does not depend on it: what is declared here changes what is released next, and trains nothing again.
"""

from exfm.declaration import Declaration, declaration
from exfm.errors import choose_from

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
TABLES = (FLOAT32, BFLOAT16, INT8)


@declaration
class Serving(Declaration):
    """How a student's releases are kept and served.

    Args:
        table: numbers of the embedding table in a release: ``float32`` as it was learnt, ``bfloat16`` in half the
            bytes, ``int8`` with a scale a row in about a quarter. A checkpoint keeps float32, and the gate judges what
            would be released.
    """

    table: str = FLOAT32

    def __post_init__(self) -> None:
        super().__post_init__()
        choose_from("Serving.table", self.table, TABLES, what="kind of table")
