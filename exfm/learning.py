"""Teachers and students: what is learned from what, how it is trained, when it is released.

Belongs here: models, training, gates. Not here: networks (networks.py), distillation (distillation.py), how any of it
is computed (models/), when (exfm_assets/).
"""

from exfm.clocks import MOST_SLICES
from exfm.declaration import Declaration, declaration
from exfm.distillation import Distillation, LeadAware
from exfm.errors import DeclarationError, above_zero, at_least, at_most, choose_from, not_empty, unique
from exfm.freshness import Freshness
from exfm.networks import Network, student_network
from exfm.serving import Serving


@declaration
class Training(Declaration):
    """One pass over each slice, in seeded random order. Its ``code_version`` is that of the loop (models/learner.py).

    Args:
        batch_size: rows a step.
        learning_rate: Adam's, for everything but the embedding table.
        table_learning_rate: row-wise Adagrad's, for the embedding table.
        seed: of initialisation and order; a control uses its student's.
        precision: ``auto`` (bf16 autocast on a GPU, fp32 elsewhere), ``bf16`` or ``fp32``.
        compile: ``torch.compile`` for the dense part; pays off on a GPU with large networks.
        cuda_graphs: the compiled part is also recorded and replayed as CUDA graphs, for networks so small that a GPU
            waits for launches; a CPU has no launches to save, and ignores it.
        deterministic: the same bits in every run on a GPU too, at some speed; a CPU always gives them.
        negatives: the share of rows without a positive label that are learnt from, anew drawn in each slice; each then
            counts 1 / share, so that logits stay calibrated to all rows. A model may have another one than its teacher.
        warm_start: whether a model that gets more inputs goes on from what it has learnt; its checkpoints stand as they
            are. ``False`` trains it from the first slice again. It says what is done with weights: what a checkpoint is
            made of does not depend on it.
    """

    batch_size: int = 512
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.1
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    deterministic: bool = False
    negatives: float = 1.0
    warm_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Training.batch_size", self.batch_size, 1)
        at_least("Training.seed", self.seed, 0)
        choose_from("Training.precision", self.precision, ("auto", "bf16", "fp32"), what="precision")
        if not 0 < self.negatives <= 1:
            raise DeclarationError(f"Training.negatives: {self.negatives!r} is not a share of rows: use one in (0, 1]")
        if self.cuda_graphs and not self.compile:
            raise DeclarationError("Training.cuda_graphs: True replays what was compiled: set compile=True, or drop it")
        for name in ("learning_rate", "table_learning_rate"):
            above_zero(f"Training.{name}", getattr(self, name))


@declaration
class Succession(Declaration):
    """When a teacher takes over from another one: its students then learn from the new one's predictions.

    Both are trained and score beside each other. The new one's lead is proven when, on the newest slices with labels
    that both have scored, its NE is shown to be lower on a task of the old one, and on no task shown to be higher.
    From the slice under way on it then teaches whoever names the old one; slices before keep what they learnt from.

    Args:
        teacher: whom it takes over from.
        slices: how many of the newest closed slices are judged.
        rows: labelled rows in them, at the least.
        lead: by how much its NE must be shown to be lower (relative).
        confidence: of the one-sided intervals, which several tasks share. It is asked at each new slice, so it should
            be higher than for a question that is asked once.
        by: what is resampled for them: ``user`` (a user's impressions are alike) or ``row``.
    """

    teacher: str
    slices: int = 6
    rows: int = 1000
    lead: float = 0.0
    confidence: float = 0.99
    by: str = "user"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Succession.slices", self.slices, 1)
        at_most("Succession.slices", self.slices, MOST_SLICES)
        at_least("Succession.rows", self.rows, 1)
        choose_from("Succession.by", self.by, ("user", "row"), what="unit")
        if not 0 <= self.lead < 1:
            raise DeclarationError(f"Succession.lead: {self.lead!r} is no share of NE: use one from 0 to below 1")
        if not 0.5 <= self.confidence < 1:
            raise DeclarationError(
                f"Succession.confidence: {self.confidence!r} is no level: use one from 0.5 to below 1"
            )


@declaration
class Teacher(Declaration):
    """A large network over all surfaces that scores each impression once.

    Args:
        tasks: the stream's tasks that it predicts.
        inputs: columns of the log, feature views, or single ``view:feature`` references.
        lag: slice t is scored by the checkpoint that trained last on t - lag (at least 1: it never saw t).
        publish_every: only every so many slices a new checkpoint is published to the scorer.
        freshness: how old the data may be that its newest checkpoint, and its newest predictions, are of.
        succeeds: the teacher that it takes over from when its lead is proven; ``None``: it teaches who names it.
    """

    name: str
    tasks: tuple[str, ...]
    inputs: tuple[str, ...]
    network: Network
    training: Training = Training()
    lag: int = 1
    publish_every: int = 1
    freshness: Freshness = Freshness()
    succeeds: Succession | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
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


@declaration
class Gate(Declaration):
    """When a checkpoint may serve, and when one may be released.

    The candidate is the newest checkpoint after which enough closed slices have come. It, its labels-only control and
    what serves now score the same rows of those slices, which none of them has learnt from. It is refused if it is
    shown to be worse than either, not if it may be: ties pass.

    Args:
        slices: closed slices with labelled rows that the candidate is judged on, at the least.
        judged_rows: labelled rows that it is judged on, at the least: where slices are short, more of them are taken.
            A surface, or users that are new, are judged apart where there are as many rows of theirs.
        tolerance: how much worse than its control it may be (relative NE); below 0 it must be better by as much. What
            serves now it may miss by as much, but never has to beat.
        confidence: of the one-sided intervals of differences. Parts that are judged apart share what is left to 1.
        by: what is resampled for them: ``user`` (a user's impressions are alike) or ``row``.
        calibration: how far mean prediction over mean label may be from 1, as far as the rows can tell.
        rows: labelled rows, over all slices, that a checkpoint must have learnt from before it serves. One that learnt
            from fewer is served to nobody, so it is not judged either.
    """

    slices: int = 1
    judged_rows: int = 1000
    tolerance: float = 0.0
    confidence: float = 0.95
    by: str = "user"
    calibration: float = 0.25
    rows: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("Gate.slices", self.slices, 1)
        at_most("Gate.slices", self.slices, MOST_SLICES)
        at_least("Gate.judged_rows", self.judged_rows, 1)
        at_least("Gate.rows", self.rows, 0)
        choose_from("Gate.by", self.by, ("user", "row"), what="unit")
        above_zero("Gate.calibration", self.calibration)
        if self.tolerance <= -1:
            raise DeclarationError(f"Gate.tolerance: {self.tolerance!r} asks for an NE below 0: use one above -1")
        if not 0.5 <= self.confidence < 1:
            raise DeclarationError(f"Gate.confidence: {self.confidence!r} is no level: use one from 0.5 to below 1")


@declaration
class Student(Declaration):
    """A small served network for one surface and one task, with its labels-only control twin.

    Args:
        surface: one value of the stream's surface column, or ``None`` for all.
        task: the stream's task that it serves.
        inputs: as a teacher's, and prediction views; never a teacher's prediction of the impression itself.
        teacher: whose predictions supervise it, one name or several; ``None`` only with ``distillation=None``.
        distillation: how they do; ``None`` learns from labels alone. Each of several teachers has its own term.
        lead: distil as much as the teacher's measured lead deserves; ``None`` always distils whole.
        freshness: how old the data may be that the served checkpoint learnt from.
        serving: how its releases are kept, and requests answered: table, canary, shadow, exploration.
    """

    name: str
    surface: int | str | None
    task: str
    inputs: tuple[str, ...]
    network: Network
    teacher: str | tuple[str, ...] | None = None
    distillation: Distillation = None
    lead: LeadAware | None = None
    training: Training = Training()
    gate: Gate = Gate()
    freshness: Freshness = Freshness()
    serving: Serving = Serving()

    def __post_init__(self) -> None:
        super().__post_init__()
        not_empty(f"Student({self.name}).inputs", self.inputs, what="input")
        if self.teacher is not None:
            not_empty(f"Student({self.name}).teacher", self.teachers, what="teacher")
            if self.distillation is None:
                raise DeclarationError(
                    f"Student({self.name}).distillation: None learns nothing from teacher {self.teacher!r}: "
                    "declare one, for example AuxiliaryHead(), or drop the teacher"
                )
        if self.distillation is not None and not self.teachers:
            raise DeclarationError(
                f"Student({self.name}).teacher: None can't supervise {type(self.distillation).__name__}: name a teacher"
            )
        if self.lead is not None and self.distillation is None:
            raise DeclarationError(
                f"Student({self.name}).lead: {self.lead} has no distillation to weigh: declare one, or drop it"
            )
        unique(f"Student({self.name}).teacher", self.teachers)
        student_network(f"Student({self.name}).network", self.network)

    @property
    def is_taught(self) -> bool:
        """Does it learn from teachers, or from labels alone? Asked here and nowhere else."""
        return self.distillation is not None

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of its teachers; none where it learns from labels alone."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher
