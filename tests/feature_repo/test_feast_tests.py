"""The way into Feast's own tests, shown on a stand-in for its checkout: they ship in no package."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from exfm.state import ROOT

CREATORS = """
class FileDataSourceCreator:
    def create_offline_store_config(self):
        raise AssertionError("the stock store's")

class DeltaFileSourceCreator(FileDataSourceCreator):
    pass
"""
OPTION = """
def pytest_addoption(parser):
    parser.addoption("--integration", action="store_true")
"""
TEST = """
import importlib, os

def test_the_store_is_ours():
    module = importlib.import_module(os.environ["FULL_REPO_CONFIGS_MODULE"])
    configs = [creator().create_offline_store_config() for _, creator in module.AVAILABLE_OFFLINE_STORES]
    assert [config.type for config in configs] == ["feast_asof.store.AsofOfflineStore"] * 2
    assert list(module.AVAILABLE_ONLINE_STORES) == ["sqlite"]

def test_the_installed_feast_is_tested():
    import feast
    assert not hasattr(feast, "of_the_checkout")

def test_s3_is_left_out():
    assert False
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feast_asof.feast_tests", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
@pytest.mark.long
def test_a_checkout_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "sdk" / "python"
    files = {
        "tests/universal/feature_repos/universal/data_sources/file.py": CREATORS,
        "tests/integration/offline_store/test_universal.py": TEST,
        "tests/integration/offline_store/test_broken.py": "import a_package_that_nobody_has",
        "tests/integration/offline_store/conftest.py": "",
        "feast/__init__.py": "of_the_checkout = True",
        "conftest.py": OPTION,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    done = _run(str(tmp_path))
    assert "2 passed, 1 deselected, 1 error" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1  # of the broken module
    done = _run(str(tmp_path), "-k", "ours", "tests/integration/offline_store/test_universal.py")
    assert done.returncode == 0 and "1 passed, 2 deselected" in done.stdout, done.stdout + done.stderr
    assert not list(tmp_path.rglob("__pycache__"))  # the checkout is only read


KNOWN = {  # asks each row of a window, as only Ray's store answers: here it is each key, as of the window's end
    "test_non_entity_mode_preserves_multiple_timestamps": 2,
}


@pytest.mark.slow
@pytest.mark.timeout(1900)
@pytest.mark.skipif("FEAST_CHECKOUT" not in os.environ, reason="FEAST_CHECKOUT names no checkout of Feast")
def test_feasts_own_tests() -> None:
    """In the environment of `make feast-tests`."""
    command = ["make", "feast-tests", f"FEAST={os.environ['FEAST_CHECKOUT']}", "ARGS=-q -rfE -p no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
    failed = re.findall(r"^(?:FAILED|ERROR) \S+?/\w+\.py(?:::(\w+))?", done.stdout, flags=re.MULTILINE)
    assert Counter(failed) == KNOWN, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 92


@pytest.mark.slow
def test_no_checkout() -> None:
    done = _run("nowhere")
    assert done.returncode == 2 and "CHECKOUT: 'nowhere' has no tests/integration/offline_store" in done.stdout
