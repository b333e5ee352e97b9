"""What MLflow may refuse, and what belongs to others: one sentence each; and a real server, which takes no paths."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exfm.mlflow import MLflow
from pipeline.mirror.connecting import LIMITS, MirrorError
from pipeline.mirror.sync import Mirrored, mirror
from pipeline.workspace import Workspace
from tests.mirror.held import MODEL, Held
from tests.tiny import tiny_project, tiny_workspace

SERVER = """
import flask, werkzeug.serving
from mlflow.server import handlers
app = flask.Flask("mlflow")
for path, handler, methods in handlers.get_endpoints():
    app.add_url_rule(path, handler.__name__, handler, methods=methods)
server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.usefixtures("empty_store")
def test_a_server_that_is_down_is_one_sentence_within_seconds(work: Workspace, closed_port: int) -> None:
    before = {name: os.environ.get(name) for name in LIMITS}
    started = time.monotonic()
    with pytest.raises(MirrorError) as refused:
        mirror(work, MLflow(tracking_uri=f"http://127.0.0.1:{closed_port}"))
    assert time.monotonic() - started < 20
    assert str(refused.value) == (
        f"MLflow at 127.0.0.1:{closed_port} can't be reached or used: Connection refused: releases stand as they are; "
        "materialise mlflow again once that is mended"
    )
    assert {name: os.environ.get(name) for name in LIMITS} == before


@pytest.mark.usefixtures("empty_store")
def test_a_silent_server_is_not_waited_for_longer_than_was_said(
    work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what a user has set stays
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(MirrorError, match=r"can't be reached or used: .*timed out"):
            mirror(work, MLflow(tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - started < 10


@pytest.mark.usefixtures("empty_store")
def test_a_password_of_the_environment_is_in_no_message(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{closed_port}")
    with pytest.raises(MirrorError) as refused:
        mirror(work, MLflow())
    assert "secret" not in str(refused.value) and f"127.0.0.1:{closed_port}" in str(refused.value)


def test_a_store_that_cannot_be_opened_is_one_sentence(work: Workspace) -> None:
    with pytest.raises(MirrorError, match=r"^MLflow at sqlite:///\S+ can't be reached or used: .*releases stand"):
        mirror(work, MLflow(tracking_uri="sqlite:////proc/nowhere/mlflow.db"))


@pytest.mark.usefixtures("empty_store")
def test_without_an_address_nothing_is_written_anywhere(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(MirrorError, match=r"^MLflow\.tracking_uri: None, and MLFLOW_TRACKING_URI is not set"):
        mirror(work, MLflow())
    assert not list(Path().iterdir())


def test_where_mlflow_is_not_installed_the_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    declared = MLflow(tracking_uri="http://127.0.0.1:9")
    with pytest.raises(MirrorError, match=r'^Project\.mlflow: MLflow is not installed: pip install "exfm\[mlflow\]"$'):
        mirror(tiny_workspace(tmp_path, tiny_project(mlflow=declared)), declared)


def test_an_alias_of_somebody_elses_version_is_left_alone_and_said(synced: Callable[[], Mirrored], store: Held) -> None:
    synced()
    other = store.client.create_model_version(MODEL, "s3://elsewhere/model")
    store.client.set_registered_model_alias(MODEL, "serving", other.version)
    with pytest.raises(MirrorError, match=rf"alias 'serving' of model '{MODEL}' names version 4, which exfm did not"):
        synced()
    assert store.aliases() == {"serving": 4, "previous": 2}
    store.client.delete_registered_model_alias(MODEL, "serving")
    synced()
    assert store.aliases() == {"serving": 3, "previous": 2}


def test_a_model_of_somebody_elses_is_left_alone_and_the_rest_is_mirrored(
    synced: Callable[[], Mirrored], store: Held
) -> None:
    store.client.create_registered_model(MODEL, description="ours, since long")
    with pytest.raises(MirrorError, match=rf"model '{MODEL}' is not of this project and state.*Everything else is up"):
        synced()
    untouched = store.client.get_registered_model(MODEL)
    assert (untouched.description, untouched.tags, untouched.aliases) == ("ours, since long", {}, {})
    assert store.aliases("tiny.feed_convert") == {"serving": 1}
    assert "student/feed_click/release/3" in store.runs()


def test_another_state_of_the_project_takes_nothing_over(
    work: Workspace, declared: MLflow, synced: Callable[[], Mirrored], store: Held, tmp_path: Path
) -> None:
    """A developer's, under the same name on the same server."""
    synced()
    before = store.whole(MODEL)
    shutil.copytree(work.state.folder, tmp_path / "theirs" / "tiny")
    (tmp_path / "theirs" / "tiny" / "mlflow.json").unlink()
    theirs = tiny_workspace(tmp_path / "theirs", work.project)
    with pytest.raises(MirrorError, match="is not of this project and state"):
        mirror(theirs, declared)
    mirror(theirs, replace(declared, experiment="theirs", models="theirs.{student}"))
    assert store.aliases("theirs.feed_click") == {"serving": 3, "previous": 2}
    found = store.client.get_registered_model(MODEL)
    assert before[MODEL] == (found.description, found.tags, found.aliases) and len(store.versions()) == 3


def test_what_the_transport_made_twice_is_taken_once(synced: Callable[[], Mirrored], store: Held) -> None:
    """A call whose answer was lost is made again by MLflow's client."""
    synced()
    run, version = store.runs()["student/feed_click/release/3"], store.versions()[3]
    again = store.client.create_run(
        run.info.experiment_id, start_time=run.info.start_time + 1, tags={**run.data.tags, "exfm.points": ""}
    )
    store.client.create_model_version(MODEL, version.source, run_id=again.info.run_id, tags=version.tags)
    assert synced().written == 0 and store.aliases()["serving"] == 3


def test_weights_are_copied_where_that_is_declared(work: Workspace, declared: MLflow, store: Held) -> None:
    copying = replace(declared, copy_weights=True)
    mirror(work, copying)
    version = store.versions()[3]
    assert version.source == f"runs:/{version.run_id}/release"
    files = {Path(file.path).name for file in store.client.list_artifacts(version.run_id, "release")}
    assert {"serving.safetensors", "manifest.json"} <= files
    assert mirror(work, copying).written == 0


@pytest.fixture
def server(empty_store: Path, tmp_path: Path) -> Iterator[str]:
    """MLflow's own handlers behind a port, in a process of their own: they set variables of it."""
    pytest.importorskip("flask")
    shutil.copy(empty_store, tmp_path / "server.db")
    store = f"sqlite:///{tmp_path / 'server.db'}"
    variables = {"FILE_STORE": store, "REGISTRY_STORE": store, "ARTIFACT_ROOT": (tmp_path / "artifacts").as_uri()}
    named = {f"_MLFLOW_SERVER_{name}": value for name, value in variables.items()}
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **named, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    assert started.stdout is not None
    yield f"http://127.0.0.1:{started.stdout.readline().strip()}"
    started.kill()
    started.wait()


@pytest.mark.slow
def test_a_server_takes_no_paths_so_it_gets_the_releases_name(work: Workspace, server: str) -> None:
    declared = MLflow(tracking_uri=server)
    assert mirror(work, declared).written > 20
    assert mirror(work, declared).written == 0
    held, served = Held(declared), work.state.release("feed_click")
    assert held.aliases() == {"serving": 3, "previous": 2} and len(held.runs()) == 7
    version = held.versions()[3]
    assert version.source == f"exfm://tiny/releases/feed_click/{version.tags['exfm.checkpoint']}"
    assert version.tags["exfm.folder"] == str(served / version.tags["exfm.checkpoint"])
