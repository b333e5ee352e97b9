"""The way into Feast's own tests, shown on a stand-in for its checkout: they ship in no package."""

import subprocess
import sys
from pathlib import Path

from projects.state import ROOT

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

def test_s3_is_left_out():
    assert False
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feast_asof.feast_tests", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_a_checkout_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "sdk" / "python"
    files = {
        "tests/universal/feature_repos/universal/data_sources/file.py": CREATORS,
        "tests/integration/offline_store/test_universal.py": TEST,
        "tests/integration/offline_store/conftest.py": "",
        "conftest.py": OPTION,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    done = _run(str(tmp_path))
    assert done.returncode == 0 and "1 passed, 1 deselected" in done.stdout, done.stdout + done.stderr


def test_no_checkout() -> None:
    done = _run("nowhere")
    assert done.returncode == 2 and "CHECKOUT: 'nowhere' has no tests/integration/offline_store" in done.stdout
