"""A fixed split: rows for training and for testing that say no time, as public benchmarks publish them.

Belongs here: what can be declared of one. Not here: reading and training it (pipeline/bars/), streams (stream.py).
"""

from exfm.columns import Columns
from exfm.declaration import Declaration, declaration
from exfm.encoding import Encoding, id_encoding
from exfm.errors import DeclarationError, at_least, choose_from, identifier, not_empty, unique
from exfm.inputs import Bag, Number, Vector
from exfm.learning import Training
from exfm.log_columns import Column
from exfm.log_files import Files
from exfm.networks import Network


@declaration
class Published(Declaration):
    """Figures that somebody published of a model on the test rows of a split."""

    model: str
    auc: float
    gauc: float | None = None
    log_loss: float | None = None


@declaration
class SideTable(Declaration):
    """A table beside the rows that says more of a key: vectors of items.

    Args:
        files: where it is.
        key: a column of the split, and of the table.
        inputs: what is read of it. A row whose key it lacks has null.
        made_by: a command that makes the files, where they don't come with the set; said where they are not there.
    """

    files: Files
    key: str
    inputs: tuple[Number | Vector, ...]
    made_by: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        not_empty("SideTable.inputs", self.inputs, what="input")


@declaration
class FixedSplit(Declaration):
    """Rows for training and for testing, with no time in them.

    It is no stream: nothing of it can say what was known when, so no view, teacher or release is made of it.
    ``exfm bars NAME`` trains a network on it and compares with what was published.

    Ids are hashed into the rows of their column. A benchmark's ``min_categr_count``, by which rare ids become one, has
    no part here: rare ids share rows with others by their hash.

    Args:
        train, test, valid: their files, without ``Files.time``. Where there is no ``valid``, the last tenth of the
            training rows is held back: the test rows choose nothing.
        label: a column of 0 and 1.
        columns, numbers, bags: what networks read. A bag with ``of`` shares that column's rows; pooled by attention it
            is attended with that column's id, or with ``target``'s.
        tables: more inputs, by a key.
        group: the column in whose groups gAUC is counted (mostly the user); one that is not among ``columns`` is not
            read by networks.
        epochs: passes over the training rows, at the most.
        patience: so many epochs without a better figure on the validation rows end the training.
        published: what it is compared with; ``source`` says where that stands, and of which protocol it is.
    """

    name: str
    train: Files
    test: Files
    label: str
    columns: tuple[Column, ...]
    network: Network
    valid: Files | None = None
    numbers: tuple[Number, ...] = ()
    bags: tuple[Bag, ...] = ()
    tables: tuple[SideTable, ...] = ()
    group: str | None = None
    training: Training = Training()
    epochs: int = 100
    patience: int = 2
    published: tuple[Published, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where
        not_empty(f"{where}.columns", self.columns, what="categorical column")
        identifier(f"{where}.label", self.label)
        at_least(f"{where}.epochs", self.epochs, 1)
        at_least(f"{where}.patience", self.patience, 1)
        of_tables = (each for table in self.tables for each in table.inputs)
        names = [each.name for each in (*self.columns, *self.numbers, *self.bags, *of_tables)]
        unique(f"{where}.columns", (self.label, *names))
        for part, files in self.parts.items():
            self._check_files(part, files, {self.label, *names, self.group or self.label})
        for table in self.tables:
            choose_from(f"{where}.tables", table.key, self.ids, what="categorical column")
            if table.files.time is not None:
                raise DeclarationError(f"{where}.tables: Files.time: a fixed split has no time: drop it")
        for bag in self.bags:
            self._check_bag(bag)
        if self.network.two_sided:
            raise DeclarationError(
                f"{where}.network: a {type(self.network).__name__} is for retrieval from a stream: use another"
            )

    def _check_files(self, part: str, files: Files, names: set[str]) -> None:
        for field in ("time", "id"):
            if getattr(files, field) is not None:
                raise DeclarationError(
                    f"{self._where}.{part}: Files.{field}: a fixed split has no {field}, only rows: drop it"
                )
        for column in files.columns:
            choose_from(f"{self._where}.{part}: From.name", column.name, sorted(names), what="column of the split")

    def _check_bag(self, bag: Bag) -> None:
        where = f"Bag({bag.name})"
        for field, name in (("of", bag.of), ("target", bag.target)):
            if name is not None:
                choose_from(f"{where}.{field}", name, self.ids, what="categorical column of the split")
        if bag.pooling == "attention" and bag.of is None and bag.target is None:
            raise DeclarationError(f"{where}.pooling: 'attention' has no id to look at: give of, or use 'mean'")
        if bag.beside:
            raise DeclarationError(f"{where}.beside: {bag.beside[0]!r}: not supported in a fixed split: drop it")

    @property
    def parts(self) -> dict[str, Files]:
        """The files of each part that has some."""
        given = {"train": self.train, "valid": self.valid, "test": self.test}
        return {part: files for part, files in given.items() if files is not None}

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Those of side tables."""
        return tuple(each for table in self.tables for each in table.inputs if isinstance(each, Vector))

    @property
    def all_numbers(self) -> tuple[Number, ...]:
        """Those of the rows, then those of side tables."""
        more = (each for table in self.tables for each in table.inputs if isinstance(each, Number))
        return (*self.numbers, *more)

    @property
    def inputs(self) -> Columns:
        """What networks read, by kind."""
        return Columns(
            ids=self.ids,
            features=(),
            numbers=tuple(each.name for each in self.all_numbers),
            vectors=tuple(each.name for each in self.vectors),
            bags=tuple(each.name for each in self.bags),
        )

    @property
    def encoder(self) -> dict[str, Encoding]:
        """How each column becomes an input of networks."""
        dtypes: dict[str, type] = {column.name: column.dtype for column in self.columns}
        others: tuple[Number | Vector | Bag, ...] = (*self.all_numbers, *self.vectors, *self.bags)
        return {
            **{name: id_encoding(name, dtype) for name, dtype in dtypes.items()},
            **{each.name: each.encoding_among(dtypes) for each in others},
        }
