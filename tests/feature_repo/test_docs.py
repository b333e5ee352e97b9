"""The page about the store alone: its blocks run, one after the other, without the rest of exfm."""

import re
import subprocess
import sys

import pytest

from exfm.state import ROOT

PAGE = (ROOT / "docs" / "offline_store.md").read_text()
ALONE = """
import sys
for name in ("torch", "dagster", "exfm", "projects", "pipeline", "exfm_assets", "models", "feature_repo"):
    sys.modules[name] = None  # whoever imports it fails
"""


@pytest.mark.slow
def test_the_blocks_run_without_the_rest() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([ALONE, *blocks])], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
