"""The ``Log`` of a draft: which files are which table, and where their columns come from.

Belongs here: nodes of ``Log``, ``Files``, ``EventTime`` and ``From``. Not here: the stream (assembling.py).
"""

import re
from dataclasses import dataclass

from exfm.log_files import EventTime
from pipeline.drafting.inputs import origin_of
from pipeline.drafting.looked import Looked
from pipeline.drafting.looking import Profile
from pipeline.drafting.moments import BY_OPTION, Moment
from pipeline.drafting.naming import snake
from pipeline.drafting.syntax import Argument, Call, Node, call, listing
from pipeline.drafting.tables import OutcomeFiles
from pipeline.imports.reading import literal, quoted

LEFT_OUT = "rows that are no part of the table, for the others say nothing: they are counted"


def bare(name: str) -> str:
    """A name as SQL has it, without quotes where it needs none."""
    return name if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", name) else quoted(name)


def expression_of(each: Profile) -> str:
    """A column as an expression over the files' columns."""
    return each.origin.sql or bare(str(each.origin.of))


def time_node(time: EventTime) -> Call:
    unit, zone = time.unit if time.unit != "iso" else None, time.zone if time.zone != "UTC" else None
    return call("EventTime", of=time.of, sql=time.sql, unit=unit, format=time.format, zone=zone)


def files_node(
    looked: Looked, time: Moment | None, columns: list[Argument], id_: Node | None = None, where: str | None = None
) -> Call:
    """``Files`` of a shape."""
    files = looked.shape.files
    paths: list[Node] = list(files.paths)
    return call(
        "Files",
        paths=listing(paths),
        time=None if time is None else Argument(time_node(time.time), "time", time.why.replace(BY_OPTION, "")),
        columns=listing(columns) if columns else None,
        id=id_,
        where=None if where is None else Argument(where, "where", LEFT_OUT),
        kind=files.kind,
        separator=files.separator,
        nulls=listing(list(looked.nulls)) if looked.nulls != ("",) else None,
        encoding=files.encoding if files.encoding != "utf-8" else None,
    )


@dataclass(frozen=True)
class Named:
    """A column of the log with a part of its own.

    Args:
        origin: ``From``, where the files call it otherwise.
        expression: of it, over the files' columns.
        note: why it is so.
    """

    name: str
    origin: Argument | None
    expression: str
    dtype: type
    note: str


def named(name: str, each: Profile, dtype: type, note: str) -> Named:
    """A column that is one of the files."""
    origin = origin_of(name, each.origin)
    return Named(name, origin, each.origin.sql or quoted(str(each.origin.of)), dtype, note)


def made(name: str, sql: str, note: str) -> Named:
    """A column that an expression makes; it is a text."""
    return Named(name, Argument(call("From", name=name, sql=sql), note=note), sql, str, note)


def joined(name: str, profiles: list[Profile], pattern: tuple[str, ...], note: str) -> Named:
    """A column that several are joined to."""
    of: list[Node] = list(pattern)
    sql = "concat_ws('-', " + ", ".join(f"({quoted(each.name)})::VARCHAR" for each in profiles) + ")"
    return Named(name, Argument(call("From", name=name, of=listing(of)), note=note), sql, str, note)


def task_of(files: OutcomeFiles) -> str:
    """An expression of the task of outcomes."""
    if files.task is None:
        return literal(files.tasks[0])
    if _are_names(files):
        return quoted(str(files.task.origin.of)) if files.task.origin.of else expression_of(files.task)
    cases = " ".join(
        f"WHEN {literal(value)} THEN {literal(snake(value))}"
        for value in files.task.examples
        if value not in files.left_out
    )
    return f"CASE {expression_of(files.task)} {cases} END"


def _are_names(files: OutcomeFiles) -> bool:
    """Are the values of the column of tasks names of tasks as they are?"""
    assert files.task is not None
    return all(value == snake(value) for value in files.task.examples if value not in files.left_out)


def outcome_files(files: OutcomeFiles, time: Moment) -> Call:
    """``Files`` of outcomes."""
    where, origin = None, Argument(call("From", name="task", sql=task_of(files)))
    if files.task is None:
        return files_node(files.looked, time, [origin], files.id.name)
    if files.left_out:
        where = f"{expression_of(files.task)} NOT IN ({', '.join(map(literal, files.left_out))})"
    columns: list[Argument] = [origin]
    if _are_names(files):
        named_so = origin_of("task", files.task.origin)
        columns = [] if named_so is None else [named_so]
    return files_node(files.looked, time, columns, files.id.name, where)


def log_node(impressions: Call, outcomes: list[Argument], interactions: list[Argument], note: str) -> Call:
    """``Log``."""
    return call(
        "Log",
        impressions=Argument(listing([Argument(impressions, note=note)]), "impressions"),
        outcomes=listing(outcomes) if outcomes else None,
        interactions=listing(interactions) if interactions else None,
    )
