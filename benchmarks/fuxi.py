"""The peer of the training benchmark: FuxiCTR's own layers and training step around the same DCNv2.

Belongs here: how FuxiCTR is configured. Not here: anything timed (training_arms.py).
"""

import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from benchmarks.synthetic import Sizes
from exfm.networks import DCNv2
from models.batch import SliceTensors

LEARNING_RATE = 1e-3
Batch = dict[str, Tensor]


class Peer(BaseModel):  # type: ignore[misc]
    """Crosses, then layers, then a head: FuxiCTR's ``stacked`` DCNv2 from its public layers, Adam for everything."""

    def __init__(self, features: FeatureMap, network: DCNv2, folder: str) -> None:
        super().__init__(features, model_id="peer", gpu=-1, verbose=0, metrics=["AUC"], model_root=folder)
        width = features.sum_emb_out_dim()
        self.embedding_layer = FeatureEmbedding(features, network.embedding)
        self.crossnet = CrossNetV2(width, network.cross)
        self.layers = MLP_Block(input_dim=width, hidden_units=list(network.hidden), output_dim=None)
        self.fc = nn.Linear(network.hidden[-1], 1)
        self.compile("adam", "binary_crossentropy", LEARNING_RATE)
        self.reset_parameters()

    def forward(self, inputs: Batch) -> dict[str, Tensor]:
        fields = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.fc(self.layers(self.crossnet(fields))))}


def peer(sizes: Sizes, network: DCNv2, seed: int) -> Peer:
    """An untrained model of these columns."""
    torch.manual_seed(seed)
    folder = tempfile.gettempdir()  # where it would save, which it never does here
    features = FeatureMap("synthetic", folder)
    for name, rows in sizes.id_columns:
        features.features[name] = {"type": "categorical", "source": "", "vocab_size": rows}
    features.labels, features.default_emb_dim = ["click"], network.embedding
    return Peer(features, network, folder)


class Resident:
    """Shuffled batches of a slice that lies in memory: FuxiCTR is spared its own loader's time."""

    def __init__(self, slice_: SliceTensors, batch_size: int, seed: int | None) -> None:
        # A column is contiguous, so that a batch is one gather a column.
        self._columns = {name: slice_.ids[:, index].contiguous() for index, name in enumerate(slice_.id_names)}
        self._columns["click"] = slice_.labels[:, 0].contiguous()
        self._rows, self._batch, self._seed = len(slice_), batch_size, seed

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.arange(self._rows)
        if self._seed is not None:
            order = torch.randperm(self._rows, generator=torch.Generator().manual_seed(self._seed))
        for rows in order.split(self._batch):
            yield {name: column[rows] for name, column in self._columns.items()}


def train(model: Peer, batches: Resident) -> None:
    """One epoch of FuxiCTR's own loop, without its evaluation at the end."""
    model._max_gradient_norm = 10.0  # what its ``fit`` sets before an epoch
    model._total_steps, model._eval_steps, model._stop_training = 0, len(batches) + 1, False
    model.train_epoch(batches)


def scores(model: Peer, batches: Resident) -> np.ndarray:
    """(N,) probabilities."""
    return np.asarray(model.predict(batches))
