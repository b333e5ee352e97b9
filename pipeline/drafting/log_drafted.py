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
    unit = time.unit if time.unit != "iso" else None
    return call("EventTime", of=time.of, sql=time.sql, unit=unit, format=time.format)


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


def outcome_files(files: OutcomeFiles) -> tuple[Call, str]:
    """``Files`` of outcomes; and an expression of their task."""
    if files.task is None:
        sql = literal(files.tasks[0])
        origin = Argument(call("From", name="task", sql=sql))
        return files_node(files.looked, files.looked.outcome_moment, [origin], files.id.name), sql
    task, where = expression_of(files.task), None
    if files.left_out:
        where = f"{task} NOT IN ({', '.join(map(literal, files.left_out))})"
    if all(value == snake(value) for value in files.task.examples if value not in files.left_out):
        origin_or_none = origin_of("task", files.task.origin)
        columns = [] if origin_or_none is None else [origin_or_none]
        sql = quoted(str(files.task.origin.of)) if files.task.origin.of else task
    else:
        cases = " ".join(
            f"WHEN {literal(value)} THEN {literal(snake(value))}"
            for value in files.task.examples
            if value not in files.left_out
        )
        sql = f"CASE {task} {cases} END"
        columns = [Argument(call("From", name="task", sql=sql))]
    return files_node(files.looked, files.looked.outcome_moment, columns, files.id.name, where), sql


def log_node(impressions: Call, outcomes: list[Argument], interactions: list[Argument], note: str) -> Call:
    """``Log``."""
    return call(
        "Log",
        impressions=Argument(listing([Argument(impressions, note=note)]), "impressions"),
        outcomes=listing(outcomes) if outcomes else None,
        interactions=listing(interactions) if interactions else None,
    )
