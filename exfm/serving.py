"""How a student is served: how its releases are kept, who gets a new one first, what is scored beside it.

Belongs here: what can be declared of releases and answers. Not here: the gate before a release (learning.py), how old
one may be (freshness.py), the server (serving/), which release it answers with (pipeline/releases/).

Nothing of it says what a checkpoint is made of: it is left out of the digests of checkpoints, and trains nothing again.
"""

from exfm.clocks import MOST_SLICES
from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, at_least, at_most, choose_from, share

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
TABLES = (FLOAT32, BFLOAT16, INT8)


@declaration
class Serving(Declaration):
    """How a student's releases are kept, and how requests to it are answered.

    Args:
        table: numbers of the embedding table in a release: ``float32`` as it was learnt, ``bfloat16`` in half the
            bytes, ``int8`` with a scale a row in about a quarter. A checkpoint keeps float32, and the gate judges what
            would be released.
        canary: the share of users who get a release that has passed its gate first; 0: all get it at once. What served
            before goes on answering the others until the canary is judged on slices that came since.
        canary_slices: closed slices that a canary is judged on, with at least ``Gate.judged_rows`` labelled rows.
        shadow: another student of the same task that scores each request of this one; its scores are logged, never
            returned.
        exploration: the share of requests whose candidates come back in an order drawn by chance, each order alike.
            The log says of each candidate with which probability it stood where it stood.
    """

    table: str = FLOAT32
    canary: float = 0.0
    canary_slices: int = 1
    shadow: str | None = None
    exploration: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choose_from("Serving.table", self.table, TABLES, what="kind of table")
        share("Serving.canary", self.canary)
        if self.canary == 1:
            raise DeclarationError("Serving.canary: 1.0 leaves nobody to compare with: use less, or 0 for no canary")
        at_least("Serving.canary_slices", self.canary_slices, 1)
        at_most("Serving.canary_slices", self.canary_slices, MOST_SLICES)
        share("Serving.exploration", self.exploration)
