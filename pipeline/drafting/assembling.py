"""A draft made of guesses: the log, the stream, the views and the models of a project.

Belongs here: one guess after another, in the order in which they depend on each other. Not here: each guess (roles.py,
tables.py, kinds.py, moments.py, slices.py), the text (writing.py).
"""

import tempfile
from pathlib import Path

import duckdb

from pipeline.drafting.drafted import Draft, Guess
from pipeline.drafting.given import NOTHING, Given
from pipeline.drafting.looked import Looked, look
from pipeline.drafting.shapes import base_of, find_shapes, may_be_about
from pipeline.drafting.stream_drafted import Drafting
from pipeline.drafting.tables import tables_of
from pipeline.imports.connection import connected
from pipeline.tables import DataError


def draft_of(given: list[Path], name: str | None = None, roles: Given = NOTHING) -> Draft:
    """Look at files, and draft a declaration of them.

    Args:
        name: of the project; ``None``: as their folder is called.
        roles: columns that a person named.

    Raises:
        DataError: if they can't be a log, in one sentence with what to do.
    """
    folder = base_of(given)
    with tempfile.TemporaryDirectory() as aside, connected(Path(aside)) as connection:
        looked, unread = _look(connection, given, folder, Path(aside), roles)
        tables = tables_of(connection, looked)
        drafting = Drafting(connection, tables, folder, name)
        draft = drafting.draft()
    for title, why in tables.unused.items():
        draft.guesses.append(Guess("not used", title, why))
    if unread:
        shown = ", ".join(unread[:3]) + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
        draft.guesses.append(
            Guess("not read", shown, "no table, as far as ending and first lines say; Files.kind says it otherwise")
        )
    files = sum(len(each.shape.sources) for each in looked)
    rows = sum(each.sample.rows for each in looked)
    whole = (
        "all"
        if all(each.sample.rows >= each.sample.estimated for each in looked)
        else "from the beginning, middle and end"
    )
    draft.seen = f"{rows:,} rows of {files:,} file{'s' if files > 1 else ''} were looked at, {whole}"
    return draft


def _look(
    connection: duckdb.DuckDBPyConnection, given: list[Path], folder: Path, aside: Path, roles: Given
) -> tuple[list[Looked], list[str]]:
    shapes, unread = find_shapes(connection, given, folder)
    roles.check(shape.names for shape in shapes)
    if roles.impressions is not None and not any(roles.are_impressions(shape.sources) for shape in shapes):
        told = ", ".join(shape.title for shape in shapes[:6])
        raise DataError(f"--impressions: {roles.impressions} is none of the tables that were found: {told}")
    looked = []
    for number, shape in enumerate(shapes):
        try:
            looked.append(look(connection, shape, number, aside / "pieces", roles))
        except DataError:
            asked = {*roles.named.values()} & {*shape.names} or roles.are_impressions(shape.sources)
            if len(shapes) == 1 or asked or not may_be_about(shape.sources[0].name):
                raise
            unread += [source.name for source in shape.sources]
    return looked, unread
