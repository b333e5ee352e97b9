"""The embedded registry's file: made whole or not at all, and its sources follow it when the state moves.

Belongs here: what must be true of the file before Feast opens it. Not here: finding it (embedded.py), its content
(project_views.py).
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from feast.infra.registry.sql import metadata
from feast.protos.feast.core.DataSource_pb2 import DataSource
from feast.protos.feast.core.FeatureView_pb2 import FeatureView
from sqlalchemy import create_engine

from exfm.atomic_write import unfinished_path
from exfm.state import State
from exfm.writing import StateError, unwritable

# Where a message that names files is kept: table, key, column, and the message.
_HELD = (
    ("data_sources", "data_source_proto", DataSource),
    ("feature_views", "feature_view_proto", FeatureView),
    ("feature_view_version_history", "feature_view_proto", FeatureView),
)
_OURS = re.compile(r"/tables/(features|predictions)/[^/]+$")


def make(path: Path) -> None:
    """Put an empty registry in place, with all its tables: two processes that begin at once never see half of one.

    Raises:
        StateError: if it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = unfinished_path(path)
        unfinished.unlink(missing_ok=True)
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(unfinished))
        metadata.create_all(engine)
        engine.dispose()
        unfinished.replace(path)
    except OSError as error:
        raise StateError(unwritable(path, error)) from error


def follow(path: Path) -> None:
    """Let sources name the folder that the registry lies in, if the state was copied or moved since they were applied.

    Feast keeps full paths, so a copy would answer from the folder that it was copied from.

    Raises:
        StateError: if the registry of a moved state can't be rewritten.
    """
    state = State(folder=path.parent.parent, log=path.parent.parent / "log")
    try:
        with closing(sqlite3.connect(path, timeout=30)) as registry:
            for table, column, kind in _HELD:
                _follow_in(registry, table, column, kind, state)
            registry.commit()
    except sqlite3.OperationalError as error:
        raise StateError(
            f"{path} names files of the folder that it was moved from and can't be rewritten ({error}): make it "
            "writable, or delete it and run `feast -c feature_repo apply`"
        ) from error


def _follow_in(registry: sqlite3.Connection, table: str, column: str, kind: Any, state: State) -> None:
    if not registry.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
        return
    for row, held in registry.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
        message = kind.FromString(held)
        moved = False
        for options in _file_options(message):
            ours = _OURS.search(options.uri)
            if ours and options.uri != f"{state.folder}{ours[0]}":
                options.uri, moved = f"{state.folder}{ours[0]}", True
        if moved:
            registry.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [message.SerializeToString(), row])


def _file_options(message: Any) -> Iterator[Any]:
    """The parts of a message that name files."""
    sources = [message] if isinstance(message, DataSource) else [message.spec.batch_source]
    yield from (source.file_options for source in sources if source.HasField("file_options"))
