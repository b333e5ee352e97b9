"""Releases that are swapped, broken, mended and gone back to under a server."""

import json
import shutil
import threading
from dataclasses import replace
from hashlib import sha256

import pytest

from models.manifest import load_manifest
from models.parts import GRAPH, SERVING, SIGNATURE
from pipeline.releases.exporting import export_release, lacking_graphs
from pipeline.releases.history import changing
from pipeline.releases.publishing import name_served
from pipeline.releases.release import ROLLED_BACK
from pipeline.workspace import Workspace
from tests.serving.asking import STUDENT, Client, rank, until


def _older(work: Workspace, version: str) -> None:
    """What is released, under another version and number."""
    folder = work.state.release(STUDENT)
    pointer = json.loads((folder / "current.json").read_text())
    shutil.copytree(folder / pointer["version"], folder / version)
    signature = json.loads((folder / version / SIGNATURE).read_text())
    (folder / version / SIGNATURE).write_text(json.dumps({**signature, "version": version}))


def _name(work: Workspace, version: str, change: int) -> None:
    """Point at a release, in one step as a release does."""
    path = work.state.release(STUDENT) / "current.json"
    pointer = {**json.loads(path.read_text()), "version": version, "number": change, "change": change}
    path.with_suffix(".new").write_text(json.dumps(pointer))
    path.with_suffix(".new").replace(path)


def test_releases_swap_between_two_requests_and_a_broken_one_never_serves(work: Workspace, client: Client) -> None:
    opened, seen, stop = client(), [], threading.Event()
    first = rank(opened).json()["version"]
    _older(work, "second")

    def ask() -> None:
        while not stop.is_set():
            answer = rank(opened)
            seen.append((answer.status_code, answer.json().get("version")))

    thread = threading.Thread(target=ask)
    thread.start()
    _name(work, "second", 8)
    until(lambda: (200, "second") in seen)
    _older(work, "broken")
    (work.state.release(STUDENT) / "broken" / GRAPH).write_bytes(b"no graph")
    _name(work, "broken", 9)
    until(lambda: "fault" in opened.get("/students").json()[STUDENT])
    told = opened.get("/students").json()[STUDENT]
    assert told["version"] == "second" and "model.onnx is damaged" in told["fault"]
    assert opened.get("/ready").status_code == 200
    _name(work, first, 10)  # back
    until(lambda: "fault" not in opened.get("/students").json()[STUDENT])
    until(lambda: seen[-1] == (200, first))
    stop.set()
    thread.join()
    versions = [version for status, version in seen if status == 200]
    assert len(versions) == len(seen) and set(versions) == {first, "second"}
    changes = [after for before, after in zip(versions, versions[1:], strict=False) if before != after]
    assert changes == ["second", first]


def test_without_a_release_it_says_so_and_a_first_one_is_picked_up(work: Workspace, client: Client) -> None:
    folder = work.state.release(STUDENT)
    folder.rename(folder.with_name("aside"))
    other = work.state.release("feed_convert")
    other.rename(other.with_name("other"))
    opened = client()
    answer = rank(opened)
    assert answer.status_code == 503
    assert answer.json()["error"] == "student feed_click: it has no release yet: its gate passed none"
    ready = opened.get("/ready")
    assert ready.status_code == 503 and ready.json()["faults"] == {
        "students": "none has a release: run `exfm run` first"
    }
    folder.with_name("aside").rename(folder)
    until(lambda: rank(opened).status_code == 200)
    assert opened.get("/ready").status_code == 200


def test_a_pointer_can_name_no_other_folder(work: Workspace, client: Client) -> None:
    opened = client()
    _name(work, "../../feed_convert", 5)
    until(lambda: "is no folder's name" in opened.get("/students").json()[STUDENT].get("fault", ""))
    assert rank(opened).status_code == 200


def test_a_release_of_an_earlier_exfm_is_exported_as_it_would_be_now(work: Workspace) -> None:
    (student, *_) = work.project.students
    folder = work.state.release(student.name)
    folder /= json.loads((folder / "current.json").read_text())["version"]
    whole = {name: (folder / name).read_bytes() for name in (GRAPH, SIGNATURE, SERVING)}
    assert lacking_graphs(work) == []
    for name in (GRAPH, SIGNATURE):
        (folder / name).unlink()
    assert lacking_graphs(work) == [student]
    export_release(work, student)
    assert {name: (folder / name).read_bytes() for name in whole} == whole and lacking_graphs(work) == []


def test_what_is_gone_back_to_gets_a_graph_and_half_an_export_is_done_again(work: Workspace, client: Client) -> None:
    (student, *_) = work.project.students
    opened = client()
    _older(work, "older")
    folder = work.state.release(student.name) / "older"
    (folder / SIGNATURE).unlink()  # and its graph is there: as a kill between both leaves it
    manifest = load_manifest(folder)
    with changing(work, student):
        name_served(work, student, replace(manifest, version="older"), action=ROLLED_BACK)
    assert json.loads((folder / SIGNATURE).read_text())["graph"] == sha256((folder / GRAPH).read_bytes()).hexdigest()
    until(lambda: "it is release" in opened.get("/students").json()[STUDENT].get("fault", ""))  # a copy is no release


def test_an_online_store_that_was_never_loaded_is_said_and_nothing_is_served(work: Workspace, client: Client) -> None:
    for path in work.state.feast.glob("online.db*"):
        path.unlink()
    opened = client()
    answer = rank(opened)
    assert answer.status_code == 503 and "materialise online_store again" in answer.json()["error"]
    assert opened.get("/ready").status_code == 503


def test_files_that_were_mended_are_served_without_another_release(
    work: Workspace, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.releases.AGAIN_SECONDS", 0.1)
    opened = client()
    _older(work, "second")
    graph = work.state.release(STUDENT) / "second" / GRAPH
    whole = graph.read_bytes()
    graph.write_bytes(b"no graph")
    _name(work, "second", 8)
    until(lambda: "fault" in opened.get("/students").json()[STUDENT])
    graph.write_bytes(whole)
    until(lambda: rank(opened).json()["version"] == "second")
    assert "fault" not in opened.get("/students").json()[STUDENT]
