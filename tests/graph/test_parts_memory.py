"""Memory of a process that scores, trains and judges on a slice of many parts: it hangs on a part, not on the slice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exfm.state import ROOT
from tests.conftest import Ran
from tests.graph.run_large import make

PART, FEW, MANY = 50_000, 250_000, 1_000_000


def walked(ran: Ran, folder: Path, part_rows: int, rows: int) -> dict[str, float]:
    make(ran.work.state.folder, folder, part_rows, rows)
    command = [sys.executable, "-m", "tests.graph.run_large", str(folder), str(part_rows)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=900, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"] == rows
    return result


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_four_times_the_rows_take_hardly_more_memory(ran: Ran, tmp_path: Path) -> None:
    few, many = (walked(ran, tmp_path / str(rows), PART, rows) for rows in (FEW, MANY))
    whole = walked(ran, tmp_path / "whole", FEW, FEW)  # as one part
    assert many["rose_mb"] < 1.5 * few["rose_mb"], (few, many)
    assert many["rose_mb"] < 0.25 * whole["rose_mb"] * MANY / FEW, (whole, many)
