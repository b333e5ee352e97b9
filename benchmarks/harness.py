"""The harness: interleaved arms, medians, JSON, a table, one summary line.

Belongs here: how measurements are repeated and printed. Not here: what is measured.
"""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

Numbers = dict[str, float]
Arm = Callable[[int], Numbers]


@dataclass(frozen=True)
class Measured:
    """All rounds of all arms: arm -> one dict of numbers a round."""

    rounds: dict[str, list[Numbers]]

    def median(self, arm: str, name: str) -> float:
        return statistics.median(numbers.get(name, 0.0) for numbers in self.rounds[arm])

    def spread(self, arm: str, name: str) -> float:
        """Largest minus smallest."""
        values = [numbers.get(name, 0.0) for numbers in self.rounds[arm]]
        return max(values) - min(values)


def interleave(arms: Mapping[str, Arm], rounds: int, console: Console) -> Measured:
    """Run every arm once a round, in order, so that a slow minute of the machine hits all of them."""
    measured: dict[str, list[Numbers]] = {name: [] for name in arms}
    for number in range(rounds):
        for name, arm in arms.items():
            with console.status(f"round {number + 1} of {rounds}: {name}"):
                measured[name].append(arm(number))
    return Measured(measured)


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    import os

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def publish(console: Console, name: str, measured: Measured, columns: Sequence[str], out: Path, summary: str) -> None:
    """Write all rounds as JSON, print medians as a table, and the summary as the last line."""
    out.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"benchmark": name, "when": when, "machine": machine(), "rounds": measured.rounds, "summary": summary}
    out.write_text(json.dumps(content, indent=1), encoding="utf-8")
    rounds = len(next(iter(measured.rounds.values())))
    table = Table(title=f"{name}: median of {rounds} interleaved rounds", title_justify="left")
    table.add_column("arm")
    for column in columns:
        table.add_column(column, justify="right")
    for arm in measured.rounds:
        table.add_row(arm, *(f"{measured.median(arm, column):,.2f}" for column in columns))
    console.print(table)
    console.print(summary)
