"""The index: of many vectors those with the largest products with one.

Belongs here: which kind of index, how it is searched. Not here: whose vectors they are (retrievers.py).

Up to ``EXACT`` vectors all are multiplied, which takes less than a millisecond and misses none. Of more, each number is
kept in 4 bits first, which 16 vectors at a time are compared by, and ``REFINED`` times as many as are asked for are
multiplied then. A graph of neighbours (HNSW) is no help: neighbours are near in distance, which of products says
little, so it finds fewer and takes long to build.
"""

from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

EXACT, REFINED, TRAINED_ON = 50_000, 20, 100_000


class ItemIndex:
    """Vectors by their places; it is not changed once it is made, so threads may share it.

    Args:
        vectors: (N, H) float32, finite.
        exact: up to how many all are multiplied.
    """

    def __init__(self, vectors: NDArray[np.float32], exact: int = EXACT) -> None:
        faiss.omp_set_num_threads(1)  # of this thread: it is not to take the processors of answers
        self.size, width = vectors.shape
        self.is_exact = self.size <= exact
        kind = "Flat" if self.is_exact else f"PQ{width}x4fs,RFlat"
        self._index = cast(Any, faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT))
        if not self.is_exact:
            self._index.k_factor = REFINED
            step = -(-self.size // TRAINED_ON)
            self._index.train(np.ascontiguousarray(vectors[::step]))
        self._index.add(np.ascontiguousarray(vectors))

    def search(self, vector: NDArray[np.float32], most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Places of the largest products with a vector (1, H), and those, largest first."""
        faiss.omp_set_num_threads(1)
        products, places = self._index.search(np.ascontiguousarray(vector), min(most, self.size))
        found = places[0] >= 0
        return places[0][found], products[0][found]
