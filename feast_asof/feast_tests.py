"""Feast's own universal offline tests, run against this store and the installed Feast, from a checkout of Feast.

    python -m feast_asof.feast_tests CHECKOUT [PYTEST ARGUMENTS]    or make feast-tests FEAST=CHECKOUT ARGS='-k push'

Feast ships its tests in no package. ``CHECKOUT`` is a clone of the tag that is installed (``v0.67.0``), or its folder
``sdk/python``; only its tests are used, from a copy without the package ``feast`` that lies beside them. What they
import is the dependency group ``feast-tests`` of pyproject.toml; Docker is not needed for what runs here. Paths in the
arguments are below ``sdk/python``; without any, all of ``tests/integration/offline_store`` runs.

Belongs here: what Feast's tests ask for to be told about a store. Not here: our own tests.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import feast

from feast_asof.store import AsofOfflineStoreConfig

_CREATORS = (  # where the tags since 0.60 keep them
    "tests.universal.feature_repos.universal.data_sources.file",
    "tests.integration.feature_repos.universal.data_sources.file",
)
_TESTS = "tests/integration/offline_store"
_KINDS = ("FileDataSourceCreator", "DeltaFileSourceCreator")
_ELSEWHERE = ("s3", "iceberg", "chronon")  # tests of stores and services of their own


def __getattr__(name: str) -> Any:
    """What Feast's tests read from the module that FULL_REPO_CONFIGS_MODULE names; made when they ask."""
    if name == "AVAILABLE_OFFLINE_STORES":
        made = _creators()
        return [("local", _for_this_store(made, creator)) for creator in _KINDS]
    if name == "AVAILABLE_ONLINE_STORES":
        return {"sqlite": ({"type": "sqlite"}, None)}
    raise AttributeError(name)


def _creators() -> Any:
    for name in _CREATORS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    raise ModuleNotFoundError(f"none of {_CREATORS}: run python -m feast_asof.feast_tests CHECKOUT")


def _for_this_store(module: Any, creator: str) -> type:
    def create_offline_store_config(_self: object) -> AsofOfflineStoreConfig:
        return AsofOfflineStoreConfig()

    made: type = getattr(module, creator)
    return type(f"Asof{creator}", (made,), {"create_offline_store_config": create_offline_store_config})


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out what has a store of its own; a hook, so that ``-k`` stays the caller's."""
    left = [item for item in items if any(word in item.nodeid.lower() for word in _ELSEWHERE)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_report_header() -> str:
    """Which Feast is tested: a checkout's own would be another one."""
    return f"feast: {feast.__file__}"


def main(arguments: list[str]) -> int:
    """Run the tests, and give pytest's exit code back."""
    if not arguments:
        print(__doc__)
        return 2
    folder = Path(arguments[0]).resolve()
    folder = folder / "sdk" / "python" if (folder / "sdk" / "python").is_dir() else folder
    if not (folder / _TESTS).is_dir():
        print(f"CHECKOUT: {arguments[0]!r} has no {_TESTS}: name a clone of Feast, or its folder sdk/python")
        return 2
    with tempfile.TemporaryDirectory(prefix="feast-tests-") as copied:
        # Python and pytest put the folder of the tests before all others: the checkout's ``feast`` would win there.
        shutil.copytree(folder / "tests", Path(copied) / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        (Path(copied) / "tests" / "__init__.py").touch()  # or this repository's package of that name would win
        for settings in ("pytest.ini", "conftest.py"):
            if (folder / settings).is_file():
                shutil.copy(folder / settings, copied)
        return _run(Path(copied), arguments[1:])


def _run(folder: Path, arguments: list[str]) -> int:
    named = any((folder / argument.partition("::")[0]).exists() for argument in arguments if argument[:1] != "-")
    # This repository's tests are a package ``tests`` too: Feast's come first.
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "FEAST_IS_LOCAL_TEST": "True",
        "IS_TEST": "True",
        "FULL_REPO_CONFIGS_MODULE": __spec__.name,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    # A module whose packages are missing does not stop the others.
    options = ["--integration", "--continue-on-collection-errors", "-p", __spec__.name]
    command = [sys.executable, "-m", "pytest", *options, *arguments, *([] if named else [_TESTS])]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
