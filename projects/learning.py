"""Teachers and students: networks, training, distillation, gates.

Belongs here: what is learned from what, with which knobs. Not here: how (models/), when (exfm_assets/).
The losses and their symbols follow docs/method.md.
"""

from dataclasses import dataclass
from datetime import timedelta

from projects.errors import DeclarationError, at_least, identifier, not_empty, positive, unique


@dataclass(frozen=True, kw_only=True)
class Network:
    """A DCN-v2 network over embedded ids and normalised numbers.

    Args:
        embedding: width of an id's embedding.
        cross: cross layers over the flattened input, 0 for none.
        cross_rank: factor of their weights (``None``: full).
        hidden: widths of the layers above; the last one is the backbone's output.
        experts: gated experts per task and surface (MMoE), 1 for one shared trunk.
    """

    embedding: int = 8
    cross: int = 1
    cross_rank: int | None = None
    hidden: tuple[int, ...] = (64,)
    experts: int = 1

    def __post_init__(self) -> None:
        not_empty("Network.hidden", self.hidden, what="layer")
        at_least("Network.embedding", self.embedding, 1)
        at_least("Network.cross", self.cross, 0)
        at_least("Network.experts", self.experts, 1)
        at_least("Network.hidden", min(self.hidden), 1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One pass over each slice, in seeded random order.

    Args:
        batch_size: rows a step.
        learning_rate: Adam's, for everything but the embedding table.
        table_learning_rate: row-wise Adagrad's, for the embedding table.
        seed: of initialisation and order; a control uses its student's.
    """

    batch_size: int = 512
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("Training.batch_size", self.batch_size, 1)
        for name in ("learning_rate", "table_learning_rate"):
            if not getattr(self, name) > 0:
                raise DeclarationError(f"Training.{name}: {getattr(self, name)!r} is not positive: use one above 0")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A large network over all surfaces that scores each impression once.

    Args:
        tasks: the stream's tasks that it predicts.
        inputs: columns of the log, feature views, or single ``view:feature`` references.
        lag: slice t is scored by the checkpoint that trained last on t - lag (at least 1: it never saw t).
        publish_every: only every so many slices a new checkpoint is published to the scorer.
    """

    name: str
    tasks: tuple[str, ...]
    inputs: tuple[str, ...]
    network: Network
    training: Training = Training()
    lag: int = 1
    publish_every: int = 1

    def __post_init__(self) -> None:
        identifier("Teacher.name", self.name)
        not_empty(f"Teacher({self.name}).tasks", self.tasks, what="task")
        not_empty(f"Teacher({self.name}).inputs", self.inputs, what="input")
        unique(f"Teacher({self.name}).tasks", self.tasks)
        at_least(f"Teacher({self.name}).lag", self.lag, 1)
        at_least(f"Teacher({self.name}).publish_every", self.publish_every, 1)

    @property
    def view(self) -> str:
        """Name of the Feast view that keeps its predictions."""
        return f"teacher_{self.name}"

    def scorer_of(self, index: int) -> int:
        """Place of the slice whose checkpoint scores slice ``index``; negative: the untrained network."""
        newest = index - self.lag
        return (newest + 1) // self.publish_every * self.publish_every - 1


@dataclass(frozen=True, kw_only=True)
class KnowledgeDistillation:
    """Plain KD on the served head: h(y_S, y) + weight * h(y_S, p)."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        at_least("KnowledgeDistillation.weight", self.weight, 0)


@dataclass(frozen=True, kw_only=True)
class StudentAdapter:
    """A small MLP g on the teacher's logit, fitted to fresh labels; a second head learns from SG(g(p)).

    Args:
        hidden: width of g's one hidden layer.
        learning_rate: of g's own Adam.
        weight: of the second head's loss.
    """

    hidden: int = 8
    learning_rate: float = 1e-2
    weight: float = 1.0

    def __post_init__(self) -> None:
        at_least("StudentAdapter.hidden", self.hidden, 1)
        at_least("StudentAdapter.weight", self.weight, 0)
        if not self.learning_rate > 0:
            raise DeclarationError(
                f"StudentAdapter.learning_rate: {self.learning_rate!r} is not positive: use one above 0"
            )


@dataclass(frozen=True, kw_only=True)
class AuxiliaryHead:
    """h(y_S, y) + weight * h(y_D, min(label_scale * p, 1)); its gradient into the backbone is times ``gradient_scale``.

    Args:
        weight: w, loss weighting.
        gradient_scale: beta, gradient scaling.
        label_scale: alpha, label scaling; above 1 only where rates are tiny.
        adapter: the student adapter, ``None`` for none.
    """

    weight: float = 1.0
    gradient_scale: float = 1.0
    label_scale: float = 1.0
    adapter: StudentAdapter | None = None

    def __post_init__(self) -> None:
        at_least("AuxiliaryHead.weight", self.weight, 0)
        at_least("AuxiliaryHead.gradient_scale", self.gradient_scale, 0)
        if not self.label_scale > 0:
            raise DeclarationError(f"AuxiliaryHead.label_scale: {self.label_scale!r} is not positive: use 1.0 for none")


Distillation = KnowledgeDistillation | AuxiliaryHead | None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """When a checkpoint may be released: over its last ``slices`` evaluated slices the student must not be worse
    than its labels-only control by more than ``tolerance`` (relative NE)."""

    slices: int = 3
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        at_least("Gate.slices", self.slices, 1)


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """Age of the release at which the machine refreshes it (``warn``) and at which the promise is broken (``fail``)."""

    warn: timedelta = timedelta(days=1)
    fail: timedelta = timedelta(days=2)

    def __post_init__(self) -> None:
        positive("Freshness.warn", self.warn - timedelta(seconds=59))
        if self.warn >= self.fail:
            raise DeclarationError(f"Freshness.warn: {self.warn} is not before fail={self.fail}: use a shorter one")


@dataclass(frozen=True, kw_only=True)
class Student:
    """A small served network for one surface and one task, with its labels-only control twin.

    Args:
        surface: one value of the stream's surface column, or ``None`` for all.
        task: the stream's task that it serves.
        inputs: as a teacher's; never a teacher's predictions (those are supervision).
        teacher: whose predictions supervise it; ``None`` only with ``distillation=None``.
        distillation: how they do; ``None`` learns from labels alone.
    """

    name: str
    surface: int | str | None
    task: str
    inputs: tuple[str, ...]
    network: Network
    teacher: str | None = None
    distillation: Distillation = None
    training: Training = Training()
    gate: Gate = Gate()
    freshness: Freshness = Freshness()

    def __post_init__(self) -> None:
        identifier("Student.name", self.name)
        not_empty(f"Student({self.name}).inputs", self.inputs, what="input")
        if self.distillation is not None and self.teacher is None:
            raise DeclarationError(
                f"Student({self.name}).teacher: None can't supervise {type(self.distillation).__name__}: name a teacher"
            )
        if self.network.experts > 1:
            raise DeclarationError(
                f"Student({self.name}).network: experts={self.network.experts} is for teachers: use experts=1"
            )
