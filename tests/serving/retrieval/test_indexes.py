"""Indexes: made beside answers, swapped with their towers, as good as brute force."""

import json
import shutil
import threading
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
import pytest

from models.parts import TOWERS
from pipeline.releases.items import FILE, SEEN, UNTIL
from pipeline.releases.whole import release_fault
from pipeline.workspace import Workspace
from serving import indexes
from serving.answering import Answering, Limits
from serving.errors import ReleaseError
from serving.item_index import ItemIndex
from serving.model import ServedModel
from serving.retrievers import ITEMS, OWN
from serving.retrieving import Retrieving
from tests.serving.retrieval.asking import Client, ask, scored, until
from tests.serving.retrieval.towers import FINDER


def _negated(work: Workspace, version: str) -> None:
    """What is released, under another version, with both towers' vectors negated: their products are the same."""
    folder = work.state.release(FINDER)
    shutil.copytree(folder / json.loads((folder / "current.json").read_text())["version"], folder / version)
    signature = json.loads((folder / version / "signature.json").read_text())
    for side, name in TOWERS.items():
        path = folder / version / name
        graph = onnx.load(path)
        (output,) = graph.graph.output
        for node in graph.graph.node:
            node.output[:] = ["straight" if made == output.name else made for made in node.output]
        graph.graph.node.append(onnx.helper.make_node("Neg", ["straight"], [output.name]))
        onnx.save(graph, path)
        signature["towers"][side]["graph"] = sha256(path.read_bytes()).hexdigest()
    (folder / version / "signature.json").write_text(json.dumps({**signature, "version": version}))


def _name(work: Workspace, version: str, change: int) -> None:
    path = work.state.release(FINDER) / "current.json"
    pointer = {**json.loads(path.read_text()), "version": version, "number": change, "change": change}
    path.with_suffix(".new").write_text(json.dumps(pointer))
    path.with_suffix(".new").replace(path)


def test_tower_and_index_are_swapped_together_and_answers_go_on(client: Client, work: Workspace) -> None:
    """The tower of one release over the index of the other would turn the order round."""
    opened, seen, stop = client(), [], threading.Event()
    _negated(work, "negated")
    first = ask(opened).json()

    def follow() -> None:
        while not stop.is_set():
            seen.append(ask(opened))
            stop.wait(0.005)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for change, version in enumerate(("negated", first["version"], "negated"), 8):
            _name(work, version, change)
            until(lambda version=version: bool(seen) and seen[-1].json().get("version") == version)  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
    assert {answer.status_code for answer in seen} == {200}
    told = [answer.json() for answer in seen]
    assert {answer["version"] for answer in told} == {first["version"], "negated"}
    for answer in told:
        assert [each["item"] for each in answer["scores"]] == [each["item"] for each in first["scores"]]


def test_answers_go_on_while_an_index_is_made(client: Client, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, began, enough = client(), threading.Event(), threading.Event()
    first, real = ask(opened).json(), indexes.made

    def slow(*given: Any) -> Any:
        began.set()
        enough.wait(30)
        return real(*given)

    monkeypatch.setattr(indexes, "made", slow)
    try:
        _negated(work, "negated")
        _name(work, "negated", 8)
        assert began.wait(30)
        candidates = {"user": 3, "candidates": [1, 2]}
        assert ask(opened, candidates, path="rank").json()["version"] == "negated"  # ranked with at once
        told = ask(opened).json()
        assert (told["version"], scored(told)) == (first["version"], scored(first))
        assert opened.get("/ready").status_code == 200
    finally:
        enough.set()
    until(lambda: ask(opened).json()["version"] == "negated")


def test_a_damaged_tower_is_never_served_and_is_found(work: Workspace) -> None:
    student, folder = work.project.student(FINDER), work.state.release(FINDER)
    folder /= json.loads((folder / "current.json").read_text())["version"]
    assert release_fault(work, student) is None
    for name in TOWERS.values():
        whole = (folder / name).read_bytes()
        for content in (whole[:-1], None):
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            with pytest.raises(ReleaseError, match=name):
                ServedModel(folder)
            assert name in str(release_fault(work, student))
        (folder / name).write_bytes(whole)
    ServedModel(folder)


def test_an_index_that_cannot_be_made_leaves_the_one_before(
    client: Client, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.indexes.AGAIN_SECONDS", 0.1)
    opened, path = client(), work.state.release(FINDER) / FILE
    before, whole = ask(opened).json(), path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    until(lambda: "can't be read" in opened.get("/students").json()[FINDER].get("index_fault", ""))
    assert 'exfm_index_faults{student="feed_find"} 1.0' in opened.get("/metrics").text
    assert scored(ask(opened).json()) == scored(before)
    path.write_bytes(whole)
    until(lambda: "index_fault" not in opened.get("/students").json()[FINDER])


def test_items_features_are_read_again_after_their_age(work: Workspace) -> None:
    retrieving = Retrieving(Answering(work.project, work.state, Limits(index_age=0.0)))
    retrieving.answering.releases.look()
    retrieving.indexes.look()
    first = retrieving.indexes.of(FINDER)
    until(lambda: retrieving.indexes.look() is None and retrieving.indexes.of(FINDER) is not first)
    for _ in range(3):
        slow = Retrieving(Answering(work.project, work.state, Limits(index_age=3600.0)))
    slow.answering.releases.look()
    slow.indexes.look()
    kept = slow.indexes.of(FINDER)
    slow.indexes.look()
    assert slow.indexes.of(FINDER) is kept


def test_the_index_finds_what_brute_force_finds() -> None:
    draws = np.random.default_rng(0)
    for size, width in ((300, 5), (60_000, 32), (60_000, 7)):
        centres = draws.normal(size=(50, width))
        vectors = centres[draws.integers(0, 50, size)] + 0.5 * draws.normal(size=(size, width))
        vectors = (vectors * draws.lognormal(0, 0.3, (size, 1))).astype(np.float32)  # popular items are longer
        index, recalls = ItemIndex(vectors), []
        assert index.is_exact == (size <= 50_000)
        for asked in draws.normal(size=(40, 1, width)).astype(np.float32):
            places, products = index.search(asked, 100)
            exact = vectors @ asked[0]
            best = set(np.argpartition(-exact, 99)[:100].tolist())
            recalls.append(len(best & set(places.tolist())) / 100)
            assert np.abs(products - exact[places]).max() < 1e-4 and (np.diff(products) <= 0).all()
        assert np.mean(recalls) == 1.0 if index.is_exact else np.mean(recalls) > 0.95, (size, width, np.mean(recalls))
    assert len(ItemIndex(vectors[:3]).search(vectors[:1], 100)[0]) == 3


def test_names_of_the_file_are_those_of_the_pipeline() -> None:
    assert (ITEMS, OWN) == (FILE, (SEEN, UNTIL))
