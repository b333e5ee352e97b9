"""The columns of a table that have no part of their own: each as an input of models, or left out with the reason.

Belongs here: a table's inputs, as the text of a declaration has them. Not here: the guess for one column (kinds.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import duckdb

from pipeline.drafting.kinds import Kind, kind_of, kind_of_series
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import series_of
from pipeline.drafting.naming import snake
from pipeline.drafting.roles import is_afterwards, is_row_number
from pipeline.drafting.sampling import Origin
from pipeline.drafting.syntax import Argument, Node, Plain, call, listing, text_of

AFTER = "it looks like what came of the impression, and is known only afterwards: no input"


@dataclass
class Inputs:
    """Inputs of a table.

    Args:
        columns, numbers, vectors, bags: their declarations, with comments.
        froms: where they come from, if the files call them otherwise.
        read: how models name them.
        left_out: columns that are no input -> why.
    """

    columns: list[Argument] = field(default_factory=list)
    numbers: list[Argument] = field(default_factory=list)
    vectors: list[Argument] = field(default_factory=list)
    bags: list[Argument] = field(default_factory=list)
    froms: list[Argument] = field(default_factory=list)
    read: list[Node] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    counted: int = 0

    def all(self) -> list[Argument]:
        """Every declaration."""
        return [*self.columns, *self.numbers, *self.vectors, *self.bags]


def origin_of(name: str, origin: Origin, split: str | None = None) -> Argument | None:
    """``From`` of a column; ``None`` where the files call it the same."""
    if origin.of == name and split is None:
        return None
    return Argument(call("From", name=name, of=origin.of, sql=origin.sql, split=split))


def inputs_of(
    connection: duckdb.DuckDBPyConnection,
    looked: Looked,
    names: dict[str, str],
    besides: Iterable[str],
    *,
    of_item: bool = False,
    leaks: Mapping[str, str] = MappingProxyType({}),
) -> Inputs:
    """Guess what the columns of a table are to models.

    Args:
        names: each column's identifier.
        besides: columns that have a part of their own.
        leaks: columns that are known only afterwards -> why it seems so.
        of_item: whether the table says something of items.
    """
    made, taken = Inputs(), {*besides}
    rest = [each for each in looked.profiles.values() if each.name not in taken]
    kinds: dict[str, Kind] = {}
    for each in rest:
        if is_row_number(each):
            made.left_out[each.name] = "it counts lines"
        elif is_afterwards(each):
            made.left_out[each.name] = AFTER
        elif each.name in leaks:
            made.left_out[each.name] = leaks[each.name]
        else:
            kinds[each.name] = kind_of(connection, looked, each)
    for start, listed in series_of(kinds).items():
        kind = kind_of_series(looked, listed, kinds)
        if kind is not None and _series(made, start, listed, kind, names, of_item=of_item):
            kinds = {name: each for name, each in kinds.items() if name not in listed}
    for name, kind in kinds.items():
        _single(made, looked, name, kind, names[name], of_item=of_item)
    return made


def _single(made: Inputs, looked: Looked, name: str, kind: Kind, identifier: str, *, of_item: bool) -> None:
    if kind.what == "out":
        made.left_out[name] = kind.why
        return
    of = True if of_item else None
    if kind.what == "column":
        dtype = str if kind.dtype is str else None
        made.columns.append(Argument(call("Column", name=identifier, rows=kind.rows, dtype=dtype), note=kind.why))
    elif kind.what == "number":
        treatment = kind.treatment if kind.treatment != "none" else None
        node = call("Number", name=identifier, treatment=treatment, of_item=of)
        made.numbers.append(Argument(node, note=kind.why))
    elif kind.what == "vector":
        made.vectors.append(Argument(call("Vector", name=identifier, width=kind.width, of_item=of), note=kind.why))
    else:
        dtype = str if kind.dtype is str else None
        node = call("Bag", name=identifier, rows=kind.rows, dtype=dtype, of_item=of)
        made.bags.append(Argument(node, note=kind.why))
    if (origin := origin_of(identifier, looked.profiles[name].origin, kind.split)) is not None:
        made.froms.append(origin)
    made.read.append(identifier)
    made.used.append(identifier)


def _series(made: Inputs, start: str, listed: list[str], kind: Kind, names: dict[str, str], *, of_item: bool) -> bool:
    """Declare columns that count up together, if their names can be written as one."""
    if re.search(r"[{}\"\\*\n\r\t]", start):
        return False
    of = True if of_item else None
    if kind.what == "vector":
        name = snake(start)
        name = f"{name}_vector" if name in {*names.values(), *made.used} else name
        made.vectors.append(Argument(call("Vector", name=name, width=kind.width, of_item=of), note=kind.why))
        made.froms.append(Argument(call("From", name=name, of=listing([f"{start}*"]))))
        made.read.append(name)
        made.used.append(name)
        return True
    numbers = [int(name.removeprefix(start)) for name in listed]
    before = names[listed[0]].removesuffix(str(numbers[0]))
    if any(names[name] != f"{before}{number}" for name, number in zip(listed, numbers, strict=True)):
        return False
    counted = f"range({len(numbers)})" if numbers[0] == 0 else f"range({numbers[0]}, {numbers[-1] + 1})"
    said = ", of_item=True" if of_item else ""
    made.numbers.append(Argument(Plain(f'*(Number(name=f"{before}{{k}}"{said}) for k in {counted})'), note=kind.why))
    if before != start:
        made.froms.append(
            Argument(Plain(f'*(From(name=f"{before}{{k}}", of=f{text_of(start)[:-1]}{{k}}") for k in {counted})'))
        )
    made.read.append(Plain(f'*(f"{before}{{k}}" for k in {counted})'))
    made.used += [names[name] for name in listed]
    return True
