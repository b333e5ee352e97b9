"""A network trained on a fixed split, and its figures on the test rows.

Belongs here: epochs, when they end, what is kept. Not here: steps (models/learner.py), reading (reading.py).
"""

import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exfm.errors import choose_from
from exfm.fixed_split import FixedSplit
from exfm.networks import DLRM, DCNv2, DeepFM, Network, Wukong
from models.learner import Learner
from models.metrics import auc, log_loss
from models.network_spec import BagSpec, NetworkSpec
from models.ranking import gauc
from models.state import load_states, serving_state
from pipeline.bars.reading import FileAccount, SplitReader, Tell
from pipeline.bars.shards import Shards, group_codes

FAMILIES: dict[str, type[Network]] = {kind.__name__: kind for kind in (DCNv2, DeepFM, DLRM, Wukong)}


@dataclass(frozen=True)
class Figures:
    """Of a model on some rows; ``gauc`` is NaN where the split declares no group."""

    auc: float
    gauc: float
    log_loss: float
    rows: int

    @property
    def monitored(self) -> float:
        """What decides when to stop, as in BARS: AUC, with gAUC where there is one; NaN counts as nothing."""
        return float(np.nan_to_num(self.auc) + np.nan_to_num(self.gauc))


@dataclass(frozen=True)
class Scores:
    """Logits and labels of N rows, in the order of shards; groups where the split has some."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None

    @property
    def figures(self) -> Figures:
        by_group = float("nan") if self.groups is None else gauc(self.logits, self.labels, self.groups)
        return Figures(auc(self.logits, self.labels), by_group, log_loss(self.logits, self.labels), len(self.labels))


@dataclass(frozen=True)
class Trained:
    """What training on a split came to.

    Args:
        best: the epoch whose weights were kept, from 1; ``epochs``: how many there were.
        held_back: whether the validation rows were cut from the training rows.
        train_rows: those that it learnt from.
    """

    model: str
    seed: int
    test: Figures
    valid: Figures
    best: int
    epochs: int
    held_back: bool
    train_rows: int
    seconds: float
    files: tuple[FileAccount, ...]
    scores: Scores


def network_of(split: FixedSplit, model: str | None) -> Network:
    """The declared network, or another family of its sizes.

    Raises:
        DeclarationError: if there is no such family.
    """
    if model is None or model == type(split.network).__name__:
        return split.network
    choose_from("--model", model, FAMILIES, what="model")
    declared = split.network
    return FAMILIES[model](embedding=declared.embedding, hidden=declared.hidden, attention=declared.attention)


def spec_of(split: FixedSplit, network: Network) -> NetworkSpec:
    """All that building the network needs."""
    return NetworkSpec(
        ids=tuple((column.name, column.rows) for column in split.columns),
        numbers=tuple(each.name for each in split.all_numbers),
        tasks=(split.label,),
        network=network,
        surface=split.ids[0],
        bags=tuple(
            BagSpec(
                name=bag.name, of=bag.of, rows=bag.rows or 0, pooling=bag.pooling,
                target=(bag.target or bag.of) if bag.pooling == "attention" else None,
            )
            for bag in split.bags
        ),
        vectors=tuple((each.name, each.width) for each in split.vectors),
        unbounded=tuple(each.name for each in split.all_numbers),
    )  # fmt: skip


def train(
    split: FixedSplit,
    data: Path,
    work: Path,
    model: str | None = None,
    seed: int | None = None,
    tell: Tell = lambda words: None,
) -> Trained:
    """Train until the validation rows say that it gets no better, keep the best epoch, and judge it on the test rows.

    The test rows are opened when all that is decided: before, only the file's first line is.

    Args:
        data: the folder of the set's files; ``work``: where shards may lie meanwhile.
        model: a family of networks instead of the declared one; ``seed``: instead of the declared one.

    Raises:
        DataError: if a file or a column is missing, or no row can be used.
        DeclarationError: if there is no such model.
        LearningError: if the loss is not finite.
    """
    started, network = time.perf_counter(), network_of(split, model)
    training = split.training if seed is None else replace(split.training, seed=seed)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as aside:
        reader = SplitReader(split, data, Path(aside), tell)
        reader.check()
        learnt, judged = reader.read_train()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        run = _Run(reader, Learner.create(spec_of(split, network), training, None, device), device, tell)
        best, epochs, valid = run.epochs(learnt, judged)
        scores = run.scores(reader.read_test(), "test")
    return Trained(
        type(network).__name__, training.seed, scores.figures, valid, best, epochs, split.valid is None, learnt.rows,
        time.perf_counter() - started, tuple(reader.accounts), scores,
    )  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """One learner over the shards of a split."""

    reader: SplitReader
    learner: Learner
    device: str
    tell: Tell

    def epochs(self, train: Shards, valid: Shards) -> tuple[int, int, Figures]:
        """Train; gives the best epoch, whose weights the learner then has, how many there were, and its figures."""
        split, kept = self.reader.split, self.reader.aside / "best.safetensors"
        best, found = 0, None
        for epoch in range(1, split.epochs + 1):
            self._epoch(train, epoch)
            figures = self.scores(valid, f"validation after epoch {epoch}").figures
            self.tell(f"epoch {epoch}: AUC {figures.auc:.4f}, LogLoss {figures.log_loss:.4f} on validation rows")
            if found is None or figures.monitored > found.monitored:
                best, found = epoch, figures
                save_file({name: each.contiguous().cpu() for name, each in serving_state(self.learner).items()}, kept)
            if epoch - best >= split.patience:
                break
        assert found is not None
        load_states(self.learner, [load_file(kept, device=self.device)], "the best epoch")
        return best, epoch, found

    def _epoch(self, train: Shards, epoch: int) -> None:
        """All shards once, in an order of the epoch's own."""
        seed = self.learner.training.seed
        order = train.used
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for number, shard in enumerate(order):
            tensors = train.read(shard).tensors
            report = self.learner.fit(tensors.to(self.device), f"{epoch}/{shard}")
            self.tell(
                f"epoch {epoch}: shard {number + 1} of {len(order)}, loss {report.loss or float('nan'):.4f}, "
                f"{report.examples_per_second:,.0f} rows/s"
            )

    def scores(self, shards: Shards, what: str) -> Scores:
        """Logits of all rows, by the weights that the learner has now."""
        logits, labels = [], []
        groups: list[Tensor] = []
        for shard in shards.used:
            self.tell(f"scoring {what}: shard {shard + 1} of {shards.count}")
            read = shards.read(shard)
            logits.append(self.learner.predict(read.tensors.to(self.device))[:, 0].cpu().numpy())
            labels.append(read.tensors.labels[:, 0].numpy())
            groups += [] if read.groups is None else [read.groups]
        codes = group_codes(groups) if groups else None
        return Scores(np.concatenate(logits), np.concatenate(labels), codes)
