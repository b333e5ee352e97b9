"""How far a query of DuckDB is, while it runs.

Belongs here: asking it now and then. Not here: showing it (exfm_assets/bars.py).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

SECONDS = 1.0


@contextmanager
def telling(connection: duckdb.DuckDBPyConnection, words: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Say what is done, and how much of it, until the block is over."""
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    tell(words)
    over = threading.Event()

    def ask() -> None:
        while not over.wait(SECONDS):
            share = connection.query_progress()
            if share >= 0:
                tell(f"{words}: {share:.0f} %")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
