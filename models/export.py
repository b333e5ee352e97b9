"""A release for runtimes without torch: the graph that serves as ONNX, and what is to be put into it.

Belongs here: writing both. Not here: the network (serving_network.py), answering with it (serving/).
"""

import io
import json
import warnings
from copy import deepcopy
from dataclasses import asdict
from hashlib import sha256
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning
from torch.onnx import symbolic_helper
from torch.onnx.utils import register_custom_op_symbolic

from exfm.declaration import adapter
from exfm.encoding import Encoding
from models.learner import Learner
from models.manifest import Manifest
from models.parts import GRAPH, SIGNATURE, TOWERS
from models.serving_network import ServingNetwork
from models.towers import TowerInputs, joined_by, offset_of, towers_of

OPSET = 17  # the first with layer norms; onnxruntime 1.13, TensorRT 8.6 and their Triton backends read it
FORMAT = 1  # of the signature


class _Answer(nn.Module):
    """Logits and probabilities."""

    def __init__(self, network: ServingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(*inputs)
        return logits, torch.sigmoid(logits)


def _triu_indices(graph: Any, rows: Any, columns: Any, offset: Any, *_: Any) -> Any:
    """Positions of pairs, as a constant: how many fields there are is known."""
    sizes = [symbolic_helper._maybe_get_const(each, "i") for each in (rows, columns, offset)]
    return graph.op("Constant", value_t=torch.triu_indices(sizes[0], sizes[1], offset=sizes[2]))


def graph_of(learner: Learner) -> bytes:
    """The ONNX model of a learner's first member: its backbone and serving head, nothing of distillation."""
    network = ServingNetwork(learner)
    return _exported(_Answer(network), dict(network.names()), ["logits", "probabilities"])


def _exported(network: nn.Module, shapes: dict[str, list[str | int]], outputs: list[str]) -> bytes:
    network = deepcopy(network).cpu().float().eval()
    dynamic = {
        name: {at: size for at, size in enumerate(shape) if isinstance(size, str)} for name, shape in shapes.items()
    }
    register_custom_op_symbolic("aten::triu_indices", _triu_indices, OPSET)
    written = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that follows a trace: it needs no more than `onnx`, and a fiftieth of the other one's time.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        torch.onnx.export(
            network, tuple(_example(name, shape) for name, shape in shapes.items()), cast(Any, written),
            input_names=list(shapes), output_names=outputs, opset_version=OPSET, dynamo=False,
            dynamic_axes={**dynamic, **{name: {0: "rows"} for name in outputs}},
        )  # fmt: skip
    return written.getvalue()


def _example(name: str, shape: list[str | int]) -> Tensor:
    """Of an input, to trace with: three rows, two places."""
    sizes = [(2 if size.startswith("places") else 3) if isinstance(size, str) else size for size in shape]
    return torch.full(sizes, 1, dtype=torch.int64) if name.startswith("length:") else torch.rand(sizes)


def exported_files(learner: Learner, manifest: Manifest) -> dict[str, bytes]:
    """All files by name; none where the manifest, of an early exfm, does not say how columns are encoded."""
    spec = manifest.spec
    read = {*spec.id_names, *spec.numbers, *(name for name, _ in (*spec.lists, *spec.vectors))}
    if not read <= manifest.encoder.keys():
        return {}
    graph = graph_of(learner)
    towers, about = _towers(learner, manifest)
    signature = {**signature_of(learner, manifest), **about, "graph": sha256(graph).hexdigest()}
    return {GRAPH: graph, **towers, SIGNATURE: json.dumps(signature, indent=1).encode()}


def _towers(learner: Learner, manifest: Manifest) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Both towers of a network that has two, and what a server needs to know of them; why it has none, if so.

    ``probability = 1 / (1 + exp(-(user . item + offset)))``, which rises with the product: the order of items by their
    product is that by their score, whoever asks.
    """
    if not learner.spec.network.two_sided:
        return {}, {}
    if (joined := joined_by(learner.spec, manifest.encoder)) is not None:
        return {}, {"towers": {"joined_by": joined}}
    graphs = {side: _exported(tower, dict(tower.names), ["vectors"]) for side, tower in towers_of(learner).items()}
    sides = {
        side: {"graph": sha256(graph).hexdigest(), **asdict(TowerInputs.of(learner.spec, side))}
        for side, graph in graphs.items()
    }
    about = {"width": learner.spec.network.output_width, "offset": offset_of(learner), **sides}
    return {TOWERS[side]: graph for side, graph in graphs.items()}, {"towers": about}


def signature_of(learner: Learner, manifest: Manifest) -> dict[str, Any]:
    """What a server has to know to put raw features into the graph, as plain JSON.

    Of each id column and list: how its ids are encoded, and its rows in the table (``table.weight`` of the release's
    safetensors); of each number its encoding; of an id that is a number's range between quantiles its edges. All are
    in the order of the graph's inputs.
    """
    spec, rows = learner.spec, dict(learner.spec.table)
    first = dict(zip(rows, learner.table.offsets.tolist(), strict=True))
    encodings = {name: adapter(Encoding).dump_python(each, mode="json") for name, each in manifest.encoder.items()}
    quantiles = {
        name: edges.tolist() if int(learner.quantiles.seen[name]) else None
        for name, edges in learner.quantiles.edges.items()
    }
    parts = {part for name in spec.id_names for part in manifest.encoder[name].of}

    def with_rows(name: str, of: str) -> dict[str, Any]:
        return {"name": name, "encoding": encodings[name], "first": first[of], "rows": rows[of]}

    return {
        "format": FORMAT,
        "version": manifest.version,
        "tasks": list(spec.tasks),
        "ids": [with_rows(name, name) for name in spec.id_names],
        "numbers": [{"name": name, "encoding": encodings[name]} for name in spec.numbers],
        "vectors": [{"name": name, "encoding": encodings[name]} for name, _ in spec.vectors],
        "lists": [with_rows(name, of) for name, of in spec.lists],
        "pooled": list(spec.pooled),
        "sides": {side.name: side.list for side in spec.sides},
        "quantiles": quantiles,
        "parts": {name: encodings[name] for name in sorted(parts) if name in encodings},
    }
