"""The store's import name beside folders that others make, and the name that it had before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from feast import RepoConfig

from exfm.state import ROOT
from feast_asof.store import AsofOfflineStore, AsofOfflineStoreConfig

OPEN = """
from feast import FeatureStore
print(type(FeatureStore("feature_repo")._get_provider().offline_store).__module__)
"""
SETTINGS = """
project: demo
registry: registry.db
provider: local
online_store: {type: sqlite, path: online.db}
offline_store: {type: feast_asof.store.AsofOfflineStore}
entity_key_serialization_version: 3
"""


@pytest.mark.slow
def test_a_folder_of_feast_init_may_lie_beside(tmp_path: Path) -> None:
    (tmp_path / "feature_repo").mkdir()
    (tmp_path / "feature_repo" / "__init__.py").touch()  # as `feast init demo` makes it
    (tmp_path / "feature_repo" / "feature_store.yaml").write_text(SETTINGS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", OPEN], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "feast_asof.store", done.stderr


@pytest.mark.parametrize("name", ["feast_asof.store.AsofOfflineStore", "feature_repo.asof.store.AsofOfflineStore"])
def test_both_class_paths_give_the_store(name: str, tmp_path: Path) -> None:
    config = RepoConfig(project="p", registry="r.db", offline_store={"type": name, "threads": 2}, repo_path=tmp_path)
    assert type(config.offline_store) is AsofOfflineStoreConfig and config.offline_store.threads == 2
    from feast.infra.offline_stores.offline_utils import get_offline_store_from_config

    assert type(get_offline_store_from_config(config.offline_store)) is AsofOfflineStore
