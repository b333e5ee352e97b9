"""A clock for logs whose timestamps tell the order of rows and no moment: they are laid onto a few days.

    python -m projects.order_clock FOLDER train.csv test.csv

finds the first and the last timestamp of some CSV files, and writes them to ``FOLDER/times.txt``, where the declaration
finds them. Which day is which is made up: hours, weekdays and ages in seconds mean nothing, order does.
"""

import argparse
import csv
import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from exfm import DeclarationError, EventTime

FILE = "times.txt"
SECONDS = 5.0  # between lines about how far it is
MICROSECOND = timedelta(microseconds=1)


def order_clock(column: str, first: float, last: float, start: datetime, length: timedelta) -> EventTime:
    """Timestamps in [first, last] laid evenly onto ``length`` from ``start`` on; a row with another one has no time."""
    epoch = datetime(1970, 1, 1, tzinfo=start.tzinfo)
    begin, whole = (start - epoch) // MICROSECOND, length // MICROSECOND
    value = f"try_cast({column} AS DOUBLE)"
    share = f"({value} - ({first!r})) / ({last - first + 1!r})"
    inside = f"{value} BETWEEN ({first!r}) AND ({last!r})"
    return EventTime(sql=f"CASE WHEN {inside} THEN make_timestamptz({begin} + floor({share} * {whole})::BIGINT) END")


def known_ends(set_: str, *files: str) -> tuple[float, float]:
    """The first and the last timestamp of the files in ``EXFM_DATA``, as this module's command has found them.

    Raises:
        DeclarationError: if it was not run yet.
    """
    folder = os.environ.get("EXFM_DATA", "").strip()
    if not folder:
        raise DeclarationError(
            f"EXFM_DATA: not set, and {set_} is laid onto days by its own timestamps: name its folder"
        )
    path = Path(folder).expanduser() / FILE
    try:
        first, last = map(float, path.read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        raise DeclarationError(
            f"{path}: it does not say the first and the last timestamp of {set_}: run once "
            f"python -m projects.order_clock {folder} {' '.join(files)}"
        ) from error
    return first, last


def find_ends(paths: list[Path], column: str) -> tuple[float, float]:
    """The first and the last timestamp of some CSV files, read line by line; what is no number is passed over.

    Raises:
        ValueError: if a file has no such column, or no row a timestamp.
    """
    first, last, said = float("inf"), float("-inf"), time.monotonic()
    size = sum(path.stat().st_size for path in paths)
    csv.field_size_limit(2**24)
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            names = [name.strip() for name in next(lines, [])]
            if column not in names:
                raise ValueError(f"{path}: no column {column!r}: it has {', '.join(names)}")
            place = names.index(column)
            for number, row in enumerate(lines):
                try:
                    value = float(row[place])
                except (IndexError, ValueError):
                    continue
                first, last = min(first, value), max(last, value)
                if number % 100_000 == 0 and time.monotonic() - said > SECONDS:
                    said = time.monotonic()
                    print(f"{path.name}: {number:,} rows; {size / 2**20:,.0f} MiB in all", file=sys.stderr)
    if first > last:
        raise ValueError(f"{', '.join(map(str, paths))}: no row has a {column}")
    return first, last


def main(arguments: list[str] | None = None) -> int:
    """Find the ends and write them down; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m projects.order_clock", description="Ends of a log's timestamps.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--column", default="timestamp")
    given = parser.parse_args(arguments)
    try:
        first, last = find_ends([given.folder / name for name in given.files], given.column)
        (given.folder / FILE).write_text(f"{first!r} {last!r}\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"order_clock: {error}", file=sys.stderr)
        return 2
    print(f"{given.folder / FILE}: {first!r} {last!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
