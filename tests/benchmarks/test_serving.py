"""The benchmarks of serving: what they say where there is nothing to ask."""

import os
import runpy
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["serving", "serving_load", "serving_tables"])
def test_where_nothing_was_run_it_says_what_to_do(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("wrk", "redis-server"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("EXFM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", [module])
    monkeypatch.delitem(sys.modules, f"benchmarks.{module}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{module}", run_name="__main__", alter_sys=True)
    assert "run `make run` first" in str(ended.value.code)
