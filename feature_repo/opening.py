"""A state's Feast store, opened once a process, as ``feature_store.yaml`` and the state describe it.

Belongs here: configuration, paths, and what Feast keeps in memory. Not here: what the registry holds (store.py).
"""

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast, which then takes half the time

import uuid
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.repo_config import RepoConfig, load_repo_config

from exfm.errors import DeclarationError
from exfm.state import State
from feature_repo.embedded import ONLINE, REGISTRY, url_of
from feature_repo.mending import remove_damaged

_REPO = Path(__file__).resolve().parent
_opened: dict[Path, FeatureStore] = {}


def opened(state: State) -> tuple[FeatureStore, bool]:
    """The state's store, opened once a process, and whether its registry was damaged and is empty now.

    Raises:
        DeclarationError: if the yaml names an environment variable that is not set.
    """
    known = _opened.get(state.feast)
    if known is not None and not _is_gone(known, state):
        return known, False
    config = load_repo_config(_REPO, _REPO / "feature_store.yaml")
    _point_at(config, state)
    embedded = config.registry_config["path"].startswith("exfm:")
    anew = embedded and remove_damaged(state.feast / REGISTRY, "it is filled again from the declaration")
    _opened[state.feast] = store = FeatureStore(config=config)
    _tell_apart(store)
    return store, anew


def _tell_apart(store: FeatureStore) -> None:
    """Give each copy of the registry that is held in memory a name of its own.

    Feast 0.67 looks up what it listed last by the copy's address in memory, and its SQL registry leaves the version
    beside it empty: a copy at the address of one that is gone would be answered with what that one held.
    """
    registry = store.registry
    read = registry.proto

    def named() -> Any:
        copy = read()
        copy.version_id = str(uuid.uuid4())
        return copy

    registry.proto = named
    store.refresh_registry()


def _is_gone(store: FeatureStore, state: State) -> bool:
    """Was the state's folder deleted since? Then the open file is a ghost."""
    embedded = store.config.registry_config["path"].startswith("exfm:")
    return embedded and not (state.feast / REGISTRY).exists()


def _point_at(config: RepoConfig, state: State) -> None:
    """Point the embedded stores at this state, also if the environment names another; leave others (Postgres) alone."""
    path: str = config.registry_config["path"]
    if "${" in path:
        raise DeclarationError(f"feature_store.yaml registry.path: {path!r} has a variable that is not set: export it")
    if path.startswith("exfm:"):
        config.registry_config = {**config.registry_config, "path": url_of(state.feast / REGISTRY)}
    if config.online_config["type"].endswith("EmbeddedOnlineStore"):
        config.online_config = {**config.online_config, "path": str(state.feast / ONLINE)}


def forget(state: State) -> None:
    """Open the state's store anew at the next call of ``opened``."""
    _opened.pop(state.feast, None)
