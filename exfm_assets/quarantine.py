"""What was refused of the log, looked at, mended and read again: ``exfm quarantine``.

    exfm quarantine                                            how many rows, by table and reason
    exfm quarantine impressions [--reason TEXT] [--rows N]     some of them
    exfm quarantine impressions --to rows.jsonl                all of them, one JSON object a line, to be mended
    exfm quarantine --mend rows.jsonl                          mended ones read again

Belongs here: the command. Not here: reading rows again (pipeline/imports/mending.py, pipeline/slices/refused_rows.py).
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from exfm.atomic_write import atomic_write
from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.writing import StateError
from pipeline.imports.mending import Refused, mend, refused_rows
from pipeline.slices.refused_rows import LOG_TABLES, Broken, broken_rows, mend_broken
from pipeline.tables import DataError
from pipeline.workspace import Workspace

SHOWN = 5


def main(arguments: list[str] | None = None) -> int:
    """Show, write out or mend, and give the exit status."""
    parser = argparse.ArgumentParser(prog="exfm quarantine", description="Rows of the log that were refused.")
    parser.add_argument("table", nargs="?", choices=LOG_TABLES, help="of which table; without: how many, and why")
    parser.add_argument("--reason", default="", help="only those whose reason has this text")
    parser.add_argument("--rows", type=int, default=SHOWN, help=f"how many are shown (default: {SHOWN})")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write all of them, one JSON object a line")
    parser.add_argument("--mend", type=Path, metavar="FILE", help="read such a file again, its values mended")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        work = Workspace(project, load_state(project))
        if given.mend is not None:
            lines = list(mended(work, given.mend))
        elif given.table is None:
            lines = list(counted(work))
        elif given.to is not None:
            lines = [written(work, given.table, given.reason, given.to)]
        else:
            some = [_line(row) for row in islice(_rows(work, given.table, given.reason), given.rows + 1)]
            lines = some[: given.rows] if some else [f"{given.table}: no such row is in quarantine"]
            if len(some) > given.rows:  # beside the lines, which are JSON
                more = f"there are more: --rows {10 * max(given.rows, 1)} shows more, --to FILE writes all of them out"
                Console(stderr=True, highlight=False, soft_wrap=True).print(more)
        for line in lines:
            console.print(escape(line))
    except (DeclarationError, StateError, DataError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    return 0


def _rows(work: Workspace, table: str, reason: str) -> Iterator[Refused | Broken]:
    """What could not be read in, then what breaks the contract."""
    every: Iterator[Refused | Broken]
    for every in (refused_rows(work, table), broken_rows(work, table)):
        yield from (row for row in every if reason in row.reason)


def counted(work: Workspace) -> Iterator[str]:
    """How many rows there are, by table and reason."""
    found = False
    for table in LOG_TABLES:
        for what, rows in (
            ("of its files can't be read", refused_rows(work, table)),
            ("break the contract", broken_rows(work, table)),
        ):
            kinds = Counter(row.reason.partition(":")[0] for row in rows)
            if kinds:
                found = True
                yield f"{table}: {kinds.total():,} rows {what}"
                yield from (f"  {count:>9,}  {kind}" for kind, count in kinds.most_common())
    if found:
        yield "exfm quarantine TABLE shows some, --to FILE writes them out, --mend FILE reads mended ones again"
    else:
        yield "no row is in quarantine"


def written(work: Workspace, table: str, reason: str, path: Path) -> str:
    """Write rows out, to be mended."""
    count = 0
    with atomic_write(path.expanduser().resolve()) as file:
        for row in _rows(work, table, reason):
            file.write((_line(row) + "\n").encode("utf-8", "backslashreplace"))  # half a character as JSON has it
            count += 1
    return f'{count:,} rows are in {path}: mend what is under "values", then exfm quarantine --mend {path}'


def _line(row: Refused | Broken) -> str:
    return json.dumps(row.plain(), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def mended(work: Workspace, path: Path) -> Iterator[str]:
    """Read mended rows again, and say what came of them.

    Raises:
        DeclarationError: if the file is not as ``--to`` writes it.
        DataError: as ``mend`` and ``mend_broken``.
    """
    unread, by_table = list[Refused](), dict[str, list[Any]]()
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            if "place" in row:
                unread.append(Refused(row["table"], row["file"], row["place"], row["reason"], row["values"]))
            else:
                by_table.setdefault(row["table"], []).append(row["values"])
        except (ValueError, KeyError, TypeError) as error:
            raise DeclarationError(f"--mend: line {number} of {path} is not as --to writes it ({error})") from error
    if unread:
        result = mend(work, unread)
        yield f"{result.read:,} rows are in the log now; `exfm run` makes their slices again"
        if result.unknown:
            yield f"{result.unknown:,} rows are not in quarantine (any more), so nothing was done with them"
        if result.unchanged:
            yield f"{result.unchanged:,} rows are as they were, and left alone"
        yield from (f"  still refused: {row.file} {row.place}: {row.reason}" for row in result.still)
    for table, values in by_table.items():
        files, left = mend_broken(work, table, values)
        if left:
            yield f"{table}: {left:,} rows are as they were, or were mended before, and left alone"
        if files:
            count, named = sum(files.values()), ", ".join(files)
            yield f"{table}: {count:,} rows are in the log now ({named}); `exfm run` makes their slices again"
            yield "  as they were, they stay in quarantine, for the log's own files have them"


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.expanduser().read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"--mend: {path} can't be read ({error})") from error
