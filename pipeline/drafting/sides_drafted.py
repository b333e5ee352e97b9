"""Side tables of a draft: profiles, catalogues, as source views of files.

Belongs here: nodes of ``SourceView``. Not here: which files they are (tables.py).
"""

from dataclasses import dataclass

import duckdb

from pipeline.drafting.file_names import Apart
from pipeline.drafting.inputs import inputs_of, origin_of
from pipeline.drafting.log_drafted import expression_of, files_node
from pipeline.drafting.moments import Moment
from pipeline.drafting.naming import TAKEN, identifiers, words
from pipeline.drafting.syntax import Argument, call, listing
from pipeline.drafting.tables import SideFiles, Tables
from pipeline.drafting.words import KNOWN_SINCE

STATIC = "rows have no time, so values may tell of the future: they are as they were when the file was written"


@dataclass(frozen=True)
class Side:
    """A side table as a view, or why it is none."""

    what: str
    title: str
    why: str
    name: str = ""
    view: Argument | None = None


def side_views(
    connection: duckdb.DuckDBPyConnection,
    tables: Tables,
    names: dict[str, str],
    taken: set[str],
    local: tuple[Apart, str] | None,
    keys: set[str],
) -> list[Side]:
    """A view of each side table.

    Args:
        names: identifiers of the log's columns. ``keys``: those that a view can be keyed by.
        local: by what ids of items are told apart.
    """
    made: list[Side] = []
    used = {*taken, *TAKEN}
    for side in tables.sides:
        title = side.looked.title
        if side.of not in keys:
            made.append(Side("not used", title, f"its key {side.of!r} is no id of the log's that models read"))
            continue
        view = _view(connection, side, names, used, local if side.of in tables.item.names else None,
                     of_item=side.of in tables.item.names)  # fmt: skip
        if view.view is not None:
            used.add(view.name)
        made.append(view)
    return made


def _view(
    connection: duckdb.DuckDBPyConnection,
    side: SideFiles,
    names: dict[str, str],
    used: set[str],
    local: tuple[Apart, str] | None,
    *,
    of_item: bool,
) -> Side:
    looked, entity = side.looked, names[side.of]
    time = _since(side)
    besides = {side.key.name, *(time.used if time is not None else ())}
    own = identifiers(looked.profiles)
    for name, identifier in own.items():
        if identifier == entity and name != side.key.name:
            own[name] = f"{identifier}_of_file"
    inputs = inputs_of(connection, looked, own, besides, of_item=of_item)
    if not inputs.all():
        return Side("not used", looked.title, "none of its columns is an input")
    if local is not None:
        sql = f"{local[0].sql} || '-' || {expression_of(side.key)}"
        key = [Argument(call("From", name=entity, sql=sql), note="as in the log")]
    else:
        origin = origin_of(entity, side.key.origin)
        key = [] if origin is None else [origin]
    name = _name(side, used)
    why = f"{side.why}; " + (STATIC if time is None else "each holds from its time on")
    left = [f"{column}: {told}" for column, told in inputs.left_out.items()]
    note = why + (f". Left out: {'; '.join(left)}" if left else "")
    node = call(
        "SourceView",
        name=name,
        entities=listing([entity]),
        inputs=listing([Argument(each.value, note=each.note) for each in inputs.all()]),
        files=files_node(looked, time, [*key, *inputs.froms]),
    )
    return Side("side table", looked.title, why, name, Argument(node, note=note))


def _since(side: SideFiles) -> Moment | None:
    """From when a row holds, where a column says just that."""
    for moment in side.looked.moments:
        if all("".join(words(name)) in KNOWN_SINCE for name in moment.used):
            return moment
    key = side.key
    if key.distinct < key.known and len(side.looked.moments) == 1:
        return side.looked.moments[0]  # several rows of one key: what tells them apart is from when they hold
    return None


def _name(side: SideFiles, used: set[str]) -> str:
    """What the files' names have in common."""
    first, *others = [_words(source.name) for source in side.looked.shape.sources]
    common = [word for word in first if all(word in other for other in others) and word.isalpha()]
    name = "_".join(common) or "side_table"
    number = 2
    chosen = name if name not in used else f"{name}_table"
    while chosen in used:
        chosen, number = f"{name}_{number}", number + 1
    return chosen


def _words(name: str) -> list[str]:
    parts = [part for part in name.split("/") if "=" not in part]
    bare = parts[-1].partition(".")[0]
    listed = list(words(bare))
    return listed if any(word.isalpha() and word not in ("part", "data") for word in listed) else list(words(parts[0]))
