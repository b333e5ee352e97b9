"""DuckDB as logs are read with it: in bounded memory, by the clock of UTC, watched, its errors in sentences.

Belongs here: connections. Not here: what is asked of them.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from pipeline.imports.finding import SourceFile
from pipeline.tables import DataError

MEMORY = "1GB"  # of DuckDB, beyond which it writes aside
WATCHED_SECONDS = 0.5


def refusal_of(error: duckdb.Error) -> OSError | None:
    """That there is no room to write aside, in an error of DuckDB's."""
    full = "No space left" in str(error) or "File too large" in str(error)
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else None


@contextmanager
def refusing(source: SourceFile) -> Iterator[None]:
    """What DuckDB can't do with a file's rows as a sentence that names it.

    Raises:
        DataError: with the error's first line.
        OSError: if there is no room.
    """
    try:
        yield
    except duckdb.Error as error:
        if (told := refusal_of(error)) is not None:
            raise told from error
        first = str(error).splitlines()[0]
        raise DataError(f"{source.name} can't be read as {source.table}: {first}: mend Files") from error


@contextmanager
def explained(source: SourceFile) -> Iterator[None]:
    """An expression of the declaration that DuckDB can't make sense of, as a sentence.

    Raises:
        DataError: naming the table and the file.
    """
    try:
        yield
    except (duckdb.BinderException, duckdb.ParserException, duckdb.ConversionException) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{source.table}: an expression of Files fails over {source.name}: {told}") from error


@contextmanager
def watched(connection: duckdb.DuckDBPyConnection, tell: Callable[[float], None]) -> Iterator[None]:
    """Tell now and then how far the query inside is."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCHED_SECONDS):
            tell(max(connection.query_progress(), 0.0) / 100)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def connected(aside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in bounded memory, by the clock of UTC.

    Args:
        aside: where it writes what does not fit.
    """
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(aside / "spilt"),
        "preserve_insertion_order": True,
    }
    with duckdb.connect(config=options) as connection:
        connection.execute(
            "SET TimeZone = 'UTC'; SET enable_progress_bar = true; SET enable_progress_bar_print = false"
        )
        yield connection
