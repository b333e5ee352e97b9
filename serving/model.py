"""A release as it answers: its graph in onnxruntime, its embedding rows mapped from the file.

Belongs here: loading a release's folder, and scoring. Not here: raw features (encoder.py), which release is served
(releases.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.declaration import adapter
from exfm.encoding import Encoding
from serving.encoder import Arrays, Column, Encoder, IdInput, Signature
from serving.errors import ReleaseError
from serving.graphs import Graph, check_digest
from serving.tables import mapped
from serving.towers import Towers, towers_of

SIGNATURE, GRAPH, WEIGHTS, MANIFEST = "signature.json", "model.onnx", "serving.safetensors", "manifest.json"
FORMAT = 1  # of signatures that this exfm reads
TABLE = "table.weight"


class ServedModel:
    """A release that scores; it is not changed once it is loaded, so threads may share it.

    Args:
        folder: of the release.
        threads: of one call.

    Attributes:
        towers: of a network that has two; else why there are none, in a few words.

    Raises:
        ReleaseError: if a file is missing or damaged.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, plain = folder, _plain(folder)
        self.signature = signature_of(folder, plain)
        check_digest(folder / WEIGHTS, _json(folder / MANIFEST).get("weights"))
        table = mapped(folder / WEIGHTS, TABLE)
        self.encoder, self.graph = Encoder(self.signature, table), Graph(folder / GRAPH, plain["graph"], threads)
        self.towers = towers_of(folder, plain, self.signature, table, threads)

    @property
    def version(self) -> str:
        return self.signature.version

    def score(self, columns: Mapping[str, Column], rows: int, now: float) -> NDArray[np.float32]:
        """Calibrated probabilities of the first task, (N,).

        Args:
            columns: raw features by name, each of N values or of one; as in ``Encoder.inputs``.
        """
        scores: NDArray[np.float32] = self.run(self.encoder.inputs(columns, rows, now))[:, 0]
        return scores

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """Probabilities of every task, (N, T), from the graph's inputs."""
        return self.graph.run("probabilities", arrays)

    def warm(self) -> None:
        """Score unknown ids once, so that the first request does not pay for what is made at the first run.

        Raises:
            ReleaseError: if they get no numbers.
        """
        for rows in (1, 100):
            columns = {name: [None] for name in self.signature.columns}
            if not np.isfinite(self.score(columns, rows, 0.0)).all():
                raise ReleaseError(f"{self.folder}: it scores unknown ids with no number: roll back, or release again")
        if isinstance(self.towers, Towers):
            self.towers.warm()


def signature_of(folder: Path, plain: Mapping[str, Any] | None = None) -> Signature:
    """Of a release's folder.

    Raises:
        ReleaseError: if it has none, or one that can't be read.
    """
    plain = _plain(folder) if plain is None else plain

    def encoding(of: Any) -> Encoding:
        read: Encoding = adapter(Encoding).validate_json(json.dumps(of))
        return read

    def with_rows(name: str) -> tuple[IdInput, ...]:
        return tuple(
            IdInput(each["name"], encoding(each["encoding"]), int(each["first"]), int(each["rows"]))
            for each in plain[name]
        )

    try:
        return Signature(
            version=plain["version"],
            tasks=tuple(plain["tasks"]),
            ids=with_rows("ids"),
            numbers={each["name"]: encoding(each["encoding"]) for each in plain["numbers"]},
            vectors={each["name"]: encoding(each["encoding"]) for each in plain["vectors"]},
            lists=with_rows("lists"),
            pooled=tuple(plain["pooled"]),
            sides=dict(plain["sides"]),
            quantiles={
                name: None if edges is None else np.asarray(edges, dtype=np.float64)
                for name, edges in plain["quantiles"].items()
            },
            parts={name: encoding(each) for name, each in plain["parts"].items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"{folder / SIGNATURE} can't be read ({error}): release it again") from error


def _plain(folder: Path) -> dict[str, Any]:
    if not (folder / SIGNATURE).exists():
        raise ReleaseError(
            f"{folder} has no {SIGNATURE}, as an earlier exfm released it: `exfm serve` adds it when it starts"
        )
    plain = _json(folder / SIGNATURE)
    if plain.get("format") != FORMAT or "graph" not in plain:
        raise ReleaseError(f"{folder / SIGNATURE} is of format {plain.get('format')!r}, not {FORMAT}: update exfm here")
    return plain


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(f"{path} is missing or damaged ({error}): release it again") from error
