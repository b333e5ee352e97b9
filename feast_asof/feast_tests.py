"""Feast's own universal offline tests, run against this store from a checkout of Feast.

    python -m feast_asof.feast_tests CHECKOUT [PYTEST ARGUMENTS]         or make feast-tests FEAST=CHECKOUT

Feast ships its tests in no package. ``CHECKOUT`` is a clone of the tag that is installed (``v0.67.0``), or its folder
``sdk/python``. They import pytest-xdist, pytest-asyncio, pytest-env, testcontainers, minio, python-keycloak, assertpy,
s3fs and boto3, which are to be installed first; Docker is not needed for what runs here.

Belongs here: what Feast's tests ask for to be told about a store. Not here: our own tests.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from feast_asof.store import AsofOfflineStoreConfig

_CREATORS = (  # where the tags since 0.60 keep them
    "tests.universal.feature_repos.universal.data_sources.file",
    "tests.integration.feature_repos.universal.data_sources.file",
)
_TESTS = "tests/integration/offline_store"
_KINDS = ("FileDataSourceCreator", "DeltaFileSourceCreator")
_WITHOUT = "not s3 and not iceberg and not chronon"  # stores and services of their own


def __getattr__(name: str) -> Any:
    """What Feast's tests read from the module that FULL_REPO_CONFIGS_MODULE names; made when they ask."""
    if name == "AVAILABLE_OFFLINE_STORES":
        made = _creators()
        return [
            ("local", _for_this_store(made, creator)) for creator in ("FileDataSourceCreator", "DeltaFileSourceCreator")
        ]
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
    environment = {
        **os.environ,
        "FEAST_IS_LOCAL_TEST": "True",
        "IS_TEST": "True",
        "FULL_REPO_CONFIGS_MODULE": __spec__.name,
        "PYTHONPATH": str(folder),  # not this repository: its tests are a package of the same name
    }
    command = [sys.executable, "-m", "pytest", "--integration", "-k", _WITHOUT, *(arguments[1:] or [_TESTS])]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
