"""The benchmarks of serving: what they say where there is nothing to ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exfm.state import ROOT


@pytest.mark.parametrize("module", ["serving", "serving_load", "serving_tables"])
def test_where_nothing_was_run_it_says_what_to_do(tmp_path: Path, module: str) -> None:
    for tool in ("wrk", "redis-server"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    surroundings = {**os.environ, "EXFM_STATE": str(tmp_path / "state"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", f"benchmarks.{module}"]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "run `make run` first" in done.stderr
    assert "Traceback" not in done.stderr
