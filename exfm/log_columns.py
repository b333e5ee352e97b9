"""What a log's columns are to a project: categorical columns, tasks, and the request.

Belongs here: declarations of single columns. Not here: the stream that holds them (stream.py), columns that models read
as numbers or lists (inputs.py).
"""

from datetime import timedelta

from pydantic import field_serializer

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, at_least, identifier, int_or_str, positive


@declaration
class Column(Declaration):
    """A categorical column of the log.

    Args:
        rows: embedding rows that its ids share; more distinct ids than that collide.
        dtype: ``int`` (Int64) or ``str`` (String).
    """

    name: str
    rows: int
    dtype: type[int] | type[str] = int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(f"Column({self.name}).rows", self.rows, 2)
        int_or_str(f"Column({self.name}).dtype", self.dtype)

    @field_serializer("dtype")
    def _written_dtype(self, dtype: type) -> str:
        return dtype.__name__


@declaration
class Task(Declaration):
    """What is predicted: did an outcome of this name come within ``window`` after the impression (its end included)?

    Of a column of values it is whether the value is ``above`` a border, or with ``ceiling`` the expected value itself.

    Args:
        window: how long after the impression an outcome counts, and after which the label is known.
        label: a column of the impressions that holds the label, where the log has no outcomes of this task: 1 or true,
            0 or false, null where it is not known. What counts it in feature views knows it when the window ends.
        above: for a column of values (seconds watched, revenue): the label is whether the value is above this one.
        ceiling: for a column of values that are 0 or more: the label is the value as a share of this one, at most 1. A
            model's probability is then the expected share: times the ceiling, the expected value (a fractional
            regression; Papke and Wooldridge, Journal of Applied Econometrics 1996).
    """

    name: str
    window: timedelta
    label: str | None = None
    above: float | None = None
    ceiling: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"Task({self.name})"
        positive(f"{where}.window", self.window)
        if self.label is not None:
            identifier(f"{where}.label", self.label)
        for field, value in (("above", self.above), ("ceiling", self.ceiling)):
            if value is not None and self.label is None:
                raise DeclarationError(
                    f"{where}.{field}: {value} has no value to compare with: name its column, label='seconds'"
                )
        if self.ceiling is not None and self.ceiling <= 0:
            raise DeclarationError(f"{where}.ceiling: {self.ceiling} is no positive number: use one few values exceed")
        if self.ceiling is not None and self.above is not None:
            raise DeclarationError(
                f"{where}.ceiling: {self.ceiling} beside above={self.above}: the label is a value or whether it is "
                "above a border, drop one, or declare two tasks"
            )

    @property
    def reads_values(self) -> bool:
        """Does its column hold values, not 0 and 1?"""
        return self.above is not None or self.ceiling is not None


@declaration
class Request(Declaration):
    """A column of the impressions that names the request in which a row was shown: a page, a feed, an auction.

    Models don't read it. With it, evaluations say how well each request's rows are ordered (NDCG and recall).

    Args:
        dtype: ``int`` (Int64) or ``str`` (String).
        top: how many of a request's first places count.
    """

    name: str
    dtype: type[int] | type[str] = str
    top: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(f"Request({self.name}).top", self.top, 1)
        int_or_str(f"Request({self.name}).dtype", self.dtype)

    @field_serializer("dtype")
    def _written_dtype(self, dtype: type) -> str:
        return dtype.__name__
