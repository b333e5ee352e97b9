"""Served inputs: whether models learn from features as they were served, where a server answered.

Belongs here: what can be declared of it. Not here: the request log (serving/), reading it (pipeline/served/).

What of a slice was served stands in what the slice is made of, so declaring it otherwise makes again only slices with
impressions that a server answered.
"""

from datetime import timedelta

from exfm.declaration import Declaration, declaration
from exfm.errors import positive, share


@declaration
class ServedInputs(Declaration):
    """Impressions that ``exfm serve`` answered are learnt from with the features that it used, by its request log.

    An impression is known by its ``impression_id``, which the answer brought for each candidate. Columns that the
    release did not read, and impressions that no server answered, are joined as of the impression, as ever.

    Args:
        within: how long after its request a candidate may have been shown.
        skew: share of rows in which a column may have been served otherwise than it is joined, before the check
            ``served_skew`` warns.
    """

    within: timedelta = timedelta(hours=1)
    skew: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("ServedInputs.within", self.within)
        share("ServedInputs.skew", self.skew)
