"""The exported graph: the same probabilities as torch's, of every family and every kind of input, and nothing else."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from exfm.distillation import AuxiliaryHead
from models.batch import SliceTensors
from models.export import graph_of
from models.jagged import Jagged
from models.learner import Learner
from models.learner_slice import inputs_of
from models.network_spec import NetworkSpec
from tests.models.test_growth import NETWORKS, TRAINING
from tests.models.test_lists_and_vectors import IMAGE, KIND, SEEN, TAGS, WHOSE, WORDS, world
from tests.models.test_lists_and_vectors import spec as spec_of

AGREE = 1e-4  # of logits


def padded(learner: Learner, lists: Jagged, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, L, E) and lengths (N,) of lists of rows of the table."""
    lengths = lists.offsets.diff()
    places = torch.arange(int(lengths.max()))
    given = places < lengths.unsqueeze(1)
    rows = torch.zeros(given.shape, dtype=torch.int64)
    rows[given] = lists.values
    keys = learner.table.lookup(rows) + 3.0 * (~given).unsqueeze(2)  # what stands behind a list's end is not read
    return keys.numpy(), lengths.numpy()


def inputs(learner: Learner, tensors: SliceTensors) -> dict[str, np.ndarray]:
    spec, width = learner.spec, learner.spec.network.embedding
    read = inputs_of(tensors, spec, learner.table, learner.quantiles)
    given = {"fields": learner.table.lookup(read.rows).numpy(), "numbers": read.numbers.numpy()}
    for (name, _), lists in zip(spec.lists, read.histories, strict=True):
        given[f"list:{name}"], lengths = padded(learner, lists, width)
        if name in spec.pooled:
            given[f"length:{name}"] = lengths
    return given


def session_of(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def answers(graph: bytes, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    session = session_of(graph)
    wanted = {each.name for each in session.get_inputs()}  # a family may leave an input unread
    logits, probabilities = session.run(["logits", "probabilities"], {k: v for k, v in given.items() if k in wanted})
    return logits, probabilities


def fitted(spec: NetworkSpec, tensors: SliceTensors) -> Learner:
    learner = Learner.create(spec, TRAINING, None, "cpu")
    for seed in range(3):
        learner.fit(tensors, f"slice {seed}")
    return learner


def check(learner: Learner, tensors: SliceTensors) -> None:
    graph = graph_of(learner)
    expected = learner.predict(tensors).numpy()
    logits, probabilities = answers(graph, inputs(learner, tensors))
    assert np.abs(logits - expected).max() < AGREE
    assert np.abs(probabilities - 1 / (1 + np.exp(-expected.astype(np.float64)))).max() < AGREE
    assert expected.std() > 0.01  # it has learnt something that can be compared


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_family_over_every_kind_of_input(name: str) -> None:
    tensors = world(signal="words")
    sides = () if name.startswith("TwoTower") else (KIND, WHOSE)
    spec = spec_of(name, TAGS, SEEN, WORDS, vectors=(IMAGE,))
    check(fitted(replace(spec, sides=sides), tensors), tensors)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_family_over_ids_alone_and_over_histories(name: str) -> None:
    tensors = world(signal="image")
    check(fitted(spec_of(name), tensors), tensors)
    histories = {"clicked": tensors.histories["seen"]}
    seen = replace(tensors, histories=histories)
    if not name.startswith("TwoTower"):
        check(fitted(replace(spec_of(name), histories=(("clicked", "item"),)), seen), seen)


def test_several_tasks_and_gated_experts() -> None:
    tensors = world()
    both = replace(tensors, labels=torch.cat([tensors.labels, 1 - tensors.labels], dim=1), task_names=("click", "buy"))
    for name in ("DCNv2", "Wukong"):
        experts = replace(NETWORKS[name], experts=3)  # type: ignore[call-arg]
        spec = replace(spec_of(name, WORDS), tasks=("click", "buy"), network=experts)
        check(fitted(spec, both), both)


def test_a_users_list_stands_once_for_all_candidates() -> None:
    tensors = world(signal="words")
    learner = fitted(replace(spec_of("DCNv2", TAGS, WORDS), sides=(KIND, WHOSE)), tensors)
    row = int((tensors.histories["words"].offsets.diff() >= 2).nonzero()[0])
    many = tensors.take(torch.full((40,), row))
    other = torch.randint(0, 12, (40,), generator=torch.Generator().manual_seed(5))
    many = replace(many, ids=torch.stack([many.ids[:, 0], other], dim=1))
    given = inputs(learner, many)
    once = {name: value[:1] if name.startswith(("list:", "length:")) else value for name, value in given.items()}
    graph = graph_of(learner)
    assert np.abs(answers(graph, once)[0] - learner.predict(many).numpy()).max() < AGREE
    assert np.ptp(answers(graph, once)[0]) > 0.01  # candidates differ


def test_empty_lists_and_one_row_are_read() -> None:
    tensors = world(signal="words")
    learner = fitted(spec_of("DeepFM", TAGS, SEEN, WORDS), tensors)
    empty = tensors.take((tensors.histories["words"].offsets.diff() == 0).nonzero()[:1, 0])
    given = inputs(learner, empty)
    assert given["list:words"].shape[1] == 0
    logits, _ = answers(graph_of(learner), given)
    assert np.isfinite(logits).all() and np.abs(logits - learner.predict(empty).numpy()).max() < AGREE


def test_nothing_of_distillation_is_in_the_graph() -> None:
    """And the graph with it is the size of the one without: what is learnt with costs nothing to serve."""
    tensors = replace(world(), teachers={"large": torch.randn(400, 1)})
    spec = replace(spec_of("DCNv2", WORDS), teachers=("large",))
    taught = Learner.create(spec, TRAINING, AuxiliaryHead(weight=1.0), "cpu")
    taught.fit(tensors, "slice")
    graphs = [
        onnx.load_from_string(graph_of(each)).graph for each in (taught, fitted(spec_of("DCNv2", WORDS), tensors))
    ]
    for graph in graphs:
        assert not [each.name for each in graph.initializer if "head" in each.name or "tower" in each.name]
        assert {each.name for each in graph.output} == {"logits", "probabilities"}
    shapes = [sorted(tuple(each.dims) for each in graph.initializer) for graph in graphs]
    operations = [[node.op_type for node in graph.node] for graph in graphs]
    assert shapes[0] == shapes[1] and operations[0] == operations[1]
