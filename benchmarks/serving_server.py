"""The server as the benchmark runs it: its store may be a Redis, whatever ``feature_store.yaml`` says.

Belongs here: building it, loading the Redis. Not here: asking it (serving.py).
"""

import os
import sys

import feature_repo.unchecked  # noqa: F401  # isort: skip  # before Feast

import uvicorn
from feast import FeatureStore
from starlette.applications import Starlette

from exfm.load import load_project, load_state
from exfm.online import graph_loads
from exfm.project import Project
from exfm.state import State
from feature_repo.store import load_online, open_store
from pipeline.workspace import Workspace
from serving.answering import Answering
from serving.app import Server
from serving.command import SWITCH_SECONDS
from serving.request_log import RequestLog


def redis_store(project: Project, state: State, address: str) -> FeatureStore:
    """The project's registry and offline store, with a Redis as online store."""
    opened = open_store(project, state)
    config = opened.config.model_copy(deep=True)
    config.online_config, config._online_store = {"type": "redis", "connection_string": address}, None
    return FeatureStore(config=config)


def loaded_redis(work: Workspace, address: str) -> None:
    """Load the newest values of every view that the graph loads."""
    store = redis_store(work.project, work.state, address)
    for view in work.project.all_views:
        newest = work.features(view.name).newest(work.project.stream) if graph_loads(view) else None
        if newest is not None:
            load_online(store, [view.name], newest.end - view.ttl, newest.end)


def build() -> Starlette:
    """The app of a worker process."""
    sys.setswitchinterval(SWITCH_SECONDS)
    project = load_project()
    state = load_state(project)
    address = os.environ.get("BENCH_REDIS", "")
    store = redis_store(project, state, address) if address else None
    return Server(Answering(project, state, log=RequestLog(state.requests), store=store)).app()


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving_server:build", factory=True, host="127.0.0.1", port=int(sys.argv[1]),
        workers=int(sys.argv[2]), access_log=False, log_level="warning",
    )  # fmt: skip
