"""Graphs and files of a release, opened with suspicion.

Belongs here: onnxruntime, digests. Not here: what goes into a graph (encoder.py), which graphs a release has (model.py,
towers.py).
"""

from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.errors import ReleaseError


class Graph:
    """A graph that threads may share.

    Args:
        threads: of one call.

    Raises:
        ReleaseError: if it is missing, or not what was released.
    """

    def __init__(self, path: Path, digest: object, threads: int) -> None:
        check_digest(path, digest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class for each of a dozen reasons
            raise ReleaseError(f"{path}: onnxruntime can't read it ({error}): release it again") from error
        self._reads = {each.name for each in self.session.get_inputs()}

    def run(self, output: str, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """One of its outputs."""
        given = {name: value for name, value in arrays.items() if name in self._reads}  # a family may ignore one
        (answered,) = self.session.run([output], given)
        numbers: NDArray[np.float32] = answered
        return numbers


def check_digest(path: Path, expected: object) -> None:
    """Is a file what was released?

    Raises:
        ReleaseError: if not.
    """
    try:
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReleaseError(f"{path} can't be read ({error}): release it again") from error
    if digest != expected:
        raise ReleaseError(f"{path} is damaged: it is not what was released: release it again")
