"""How a student is served: who gets a new release first, what is scored beside it, what is drawn by chance.

Belongs here: what can be declared of answers. Not here: giving them (serving/), which release they are of
(pipeline/releases/).

Nothing of it says what a checkpoint is made of: it is left out of the digests of checkpoints.
"""

from exfm.clocks import MOST_SLICES
from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, at_least, at_most, share


@declaration
class Serving(Declaration):
    """How requests to a student are answered.

    Args:
        canary: the share of users who get a release that has passed its gate first; 0: all get it at once. What served
            before goes on answering the others until the canary is judged on slices that came since.
        canary_slices: closed slices that a canary is judged on, with at least ``Gate.judged_rows`` labelled rows.
        shadow: another student of the same task that scores each request of this one; its scores are logged, never
            returned.
        exploration: the share of requests whose candidates come back in an order drawn by chance, each order alike.
            The log says of each candidate with which probability it stood where it stood.
    """

    canary: float = 0.0
    canary_slices: int = 1
    shadow: str | None = None
    exploration: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        share("Serving.canary", self.canary)
        if self.canary == 1:
            raise DeclarationError("Serving.canary: 1.0 leaves nobody to compare with: use less, or 0 for no canary")
        at_least("Serving.canary_slices", self.canary_slices, 1)
        at_most("Serving.canary_slices", self.canary_slices, MOST_SLICES)
        share("Serving.exploration", self.exploration)
