"""The two towers of a release: a request's vector and items' vectors, each from its own columns.

Belongs here: opening both, vectors, the score of a product. Not here: the index of items (item_index.py), the whole
network (model.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.encoder import Column, Encoder, Signature
from serving.errors import ReleaseError
from serving.graphs import Graph
from serving.tables import Rows

GRAPHS = {"user": "user_tower.onnx", "item": "item_tower.onnx"}


@dataclass(frozen=True)
class Tower:
    """One of them.

    Args:
        signature: of the columns that it reads.
    """

    signature: Signature
    encoder: Encoder
    graph: Graph

    def vectors(self, columns: Mapping[str, Column], rows: int, now: float) -> NDArray[np.float32]:
        """(N, H), from columns as of ``Encoder.inputs``.

        Raises:
            RequestError: for a value that is of another type than the column's.
        """
        return self.graph.run("vectors", self.encoder.inputs(columns, rows, now))


@dataclass(frozen=True)
class Towers:
    """Both.

    Args:
        width: H.
        offset: what is added to the product of both vectors.
    """

    user: Tower
    item: Tower
    width: int
    offset: float

    def scores(self, products: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities, as the whole network gives them; they rise with the product."""
        logits = products.astype(np.float64) + self.offset
        return (1 / (1 + np.exp(-logits))).astype(np.float32)

    def warm(self) -> None:
        """Run both on unknown ids once.

        Raises:
            ReleaseError: if they give no vectors, or not of the width that is said.
        """
        for tower in (self.user, self.item):
            columns = {name: [None] for name in tower.signature.columns}
            vectors = tower.vectors(columns, 2, 0.0)
            if vectors.shape != (2, self.width) or not np.isfinite(vectors).all():
                raise ReleaseError(
                    f"towers: unknown ids have vectors {vectors.shape}, not (2, {self.width}): release it again"
                )


def towers_of(folder: Path, plain: Mapping[str, Any], signature: Signature, table: Rows, threads: int) -> Towers | str:
    """Of a release's folder, or why it has none, in a few words.

    Args:
        plain: its signature as JSON.

    Raises:
        ReleaseError: if a file is missing or damaged.
    """
    about = plain.get("towers")
    if about is None:
        return "its release holds no towers"
    try:
        if "joined_by" in about:
            return str(about["joined_by"])
        made = {}
        for side, name in GRAPHS.items():
            mine = _part(signature, about[side])
            made[side] = Tower(mine, Encoder(mine, table), Graph(folder / name, about[side]["graph"], threads))
        return Towers(made["user"], made["item"], int(about["width"]), float(about["offset"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ReleaseError):
            raise
        raise ReleaseError(f"{folder}: its towers can't be read ({error}): release it again") from error


def _part(signature: Signature, mine: Mapping[str, list[str]]) -> Signature:
    """What one tower reads of all that is read."""
    lists = {*mine["lists"]}
    return replace(
        signature,
        ids=tuple(each for each in signature.ids if each.name in mine["ids"]),
        numbers={name: of for name, of in signature.numbers.items() if name in mine["numbers"]},
        vectors={name: of for name, of in signature.vectors.items() if name in mine["vectors"]},
        lists=tuple(each for each in signature.lists if each.name in lists),
        pooled=tuple(mine["pooled"]),
        sides={side: of for side, of in signature.sides.items() if side in lists},
    )
