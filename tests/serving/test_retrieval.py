"""Retrieval: an index's items with the scores that ranking gives, both stages, refusals, and what is swapped when."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from starlette.testclient import TestClient

from exfm.state import State
from models.parts import TOWERS
from pipeline.releases.items import FILE, SEEN, UNTIL
from pipeline.releases.whole import release_fault
from pipeline.workspace import Workspace
from serving import indexes
from serving.answering import Answering, Limits
from serving.app import Server
from serving.errors import ReleaseError
from serving.item_index import ItemIndex
from serving.model import ServedModel
from serving.request_log import RequestLog
from serving.retrievers import ITEMS, OWN
from serving.retrieving import Retrieving
from tests.serving.towers import FINDER, RANKER, run_in

BODY = {"user": 3, "context": {"country": "DE"}, "k": 20}
AGREE = 1e-4
Client = Callable[..., TestClient]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return run_in(tmp_path_factory.mktemp("towers"))


@pytest.fixture
def work(found: Workspace, tmp_path: Path) -> Workspace:
    """A copy, to be played with."""
    folder = tmp_path / found.state.folder.name
    shutil.copytree(found.state.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "log"))
    return Workspace(found.project, State(folder=folder, log=found.state.log))


@pytest.fixture
def client(work: Workspace) -> Iterator[Client]:
    opened: list[TestClient] = []

    def open_(limits: Limits | None = None, log: RequestLog | None = None, *, wait: bool = True) -> TestClient:
        opened.append(TestClient(Server(Answering(work.project, work.state, limits or Limits(), log)).app()))
        each = opened[-1].__enter__()
        if wait:
            until(lambda: each.get("/ready").status_code == 200)
        return each

    yield open_
    for each in opened:
        each.__exit__(None, None, None)


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.02)


def ask(client: TestClient, body: Any = BODY, student: str = FINDER, path: str = "retrieve") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(f"/{path}/{student}", content=content)


def items_of(work: Workspace) -> list[int]:
    """Those that the log has shown on the student's surface."""
    shown = work.table("impressions").read(work.table("impressions").stored(work.project.stream))
    found: list[int] = shown.filter(pl.col("surface") == "feed")["item_id"].unique().to_list()
    return found


def ranked(client: TestClient, items: list[int], body: dict[str, Any], student: str = FINDER) -> dict[int, float]:
    asked = {"user": body["user"], "context": body["context"], "candidates": items}
    return {each["item"]: each["score"] for each in ask(client, asked, student, "rank").json()["scores"]}


def test_the_best_items_come_with_the_scores_that_ranking_gives(client: Client, work: Workspace) -> None:
    opened, items = client(), items_of(work)
    orders = set()
    for user in (3, 11, 10**9, None):
        told = ask(opened, {**BODY, "user": user}).json()
        every = ranked(opened, items, {**BODY, "user": user})
        assert told["items"] == len(items) == len(every) > 50
        scores = [each["score"] for each in told["scores"]]
        assert scores == sorted(scores, reverse=True) and len(scores) == 20
        assert max(abs(each["score"] - every[each["item"]]) for each in told["scores"]) < AGREE
        assert scores[-1] > sorted(every.values(), reverse=True)[20] - AGREE  # none that is left out is better
        orders.add(tuple(each["item"] for each in told["scores"]))
    assert len(orders) > 1  # users differ
    whole = ask(opened, {**BODY, "k": 1000}).json()["scores"]
    assert {each["item"] for each in whole} == set(items)


def test_both_stages_in_one_call(client: Client, work: Workspace) -> None:
    opened = client()
    alone, both = ask(opened).json(), ask(opened, {**BODY, "rank": RANKER}).json()
    retrieved = {each["item"]: each["score"] for each in alone["scores"]}
    assert {each["item"]: each["retrieved"] for each in both["scores"]} == pytest.approx(retrieved, abs=1e-6)
    expected = ranked(opened, list(retrieved), BODY, RANKER)
    assert {each["item"]: each["score"] for each in both["scores"]} == pytest.approx(expected, abs=1e-6)
    scores = [each["score"] for each in both["scores"]]
    assert scores == sorted(scores, reverse=True)
    assert both["student"] == RANKER and both["retrieval"]["student"] == FINDER
    assert [each["item"] for each in both["scores"]] != [each["item"] for each in alone["scores"]]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "the body is no JSON .*: pass an object with user, context, k, rank"),
        ({"user": 3, "candidates": [1]}, 422, "'candidates' is no field of a request: use user, context, k, rank"),
        ({"user": 3, "k": 0}, 422, "k: 0 is no number of items: pass a whole number from 1 to 1000"),
        ({"user": 3, "k": True}, 422, "k: True is no number of items"),
        ({"user": 3, "k": 2.0}, 422, "k: 2.0 is no number of items"),
        ({"user": 3, "k": 1001}, 413, "k: 1001 is more than the 1000 items of a request"),
        ({"user": "me"}, 422, "user: 'me' is no id: pass a whole number"),
        ({"user": 3, "context": {"planet": "Mars"}}, 422, "context.'planet' is no column .*country"),
        ({"user": 3, "context": {"item_id": 4}}, 422, "context.'item_id' is no column"),
        ({"user": 3, "context": {"country": 49}}, 422, "country: 49 is no text"),
        ({"user": 3, "rank": 5}, 422, "rank: 5 is no student's name"),
        ({"user": 3, "rank": "nobody"}, 404, "'nobody' is no student: use one of feed_find"),
    ],
)
def test_what_a_sender_must_change_is_said_in_one_sentence(
    client: Client, body: Any, status: int, sentence: str
) -> None:
    answer = ask(client(), body)
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert "\n" not in told and re.match(sentence, told), told


def test_a_student_without_towers_says_so(client: Client) -> None:
    opened = client()
    answer = ask(opened, student=RANKER)
    assert (answer.status_code, answer.json()["error"]) == (
        422, "student feed_click can't retrieve (its network has no two towers): ask one of feed_find"
    )  # fmt: skip
    assert ask(opened, student="nobody").status_code == 404


def test_without_items_it_says_so_and_they_are_picked_up(client: Client, work: Workspace) -> None:
    path = work.state.release(FINDER) / FILE
    path.rename(path.with_name("aside"))
    opened = client(wait=False)
    until(lambda: "index_fault" in opened.get("/students").json()[FINDER])
    answer = ask(opened)
    assert (
        answer.status_code == 503 and "items.parquet is not there: materialise online_store" in answer.json()["error"]
    )
    assert opened.get("/ready").status_code == 200  # all else is answered
    assert ask(opened, {"user": 3, "candidates": [1]}, RANKER, "rank").status_code == 200
    path.with_name("aside").rename(path)
    until(lambda: ask(opened).status_code == 200)


def test_items_that_appear_are_retrieved_and_the_most_recent_stay(client: Client, work: Workspace) -> None:
    opened, path = client(Limits(items=30)), work.state.release(FINDER) / FILE
    told = opened.get("/students").json()[FINDER]["index"]
    known = pl.read_parquet(path)
    assert told["items"] == 30 and told["left_out"] == known.height - 30 and told["exact"]
    latest = known[SEEN].to_list()
    assert latest == sorted(latest, reverse=True)
    new = known.head(1).with_columns(item_id=pl.lit(10**6, dtype=known.schema["item_id"]))
    pl.concat([new, known]).write_parquet(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    until(lambda: 10**6 in {each["item"] for each in ask(opened, {**BODY, "k": 30}).json()["scores"]})


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
        assert (told["version"], told["scores"]) == (first["version"], first["scores"])
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
    assert ask(opened).json()["scores"] == before["scores"]
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


def test_answers_are_logged_as_they_were_served(client: Client, work: Workspace) -> None:
    opened = client(log=RequestLog(work.state.requests))
    answer = ask(opened).json()
    both = ask(opened, {**BODY, "k": 7, "rank": RANKER}).json()
    asked = {"user": 3, "context": {"country": "DE"}, "candidates": [each["item"] for each in answer["scores"]]}
    again = ask(opened, asked, path="rank").json()
    opened.__exit__(None, None, None)
    logged = pl.read_parquet(work.state.requests / FINDER / "*" / "*.parquet", hive_partitioning=False)
    mine = logged.filter(pl.col("served_request") == answer["request_id"]).sort("served_position")
    assert mine["item_id"].to_list() == [each["item"] for each in answer["scores"]]
    assert mine["served_score"].to_list() == pytest.approx([each["score"] for each in answer["scores"]], abs=1e-7)
    # The features are those that ranking reads: what the vectors were made of.
    same = logged.filter(pl.col("served_request") == again["request_id"]).sort("item_id")
    features = [name for name in logged.columns if "__" in name or name in ("country", "hour_of_day", "surface")]
    assert len(features) > 10 and mine.sort("item_id").select(features).equals(same.select(features))
    assert same.select(features).null_count().sum_horizontal().item() < same.height * len(features)
    ranked_log = pl.read_parquet(work.state.requests / RANKER / "*" / "*.parquet", hive_partitioning=False)
    assert set(ranked_log["served_request"]) == {both["request_id"]} and ranked_log.height == 7


def test_what_joins_the_towers_in_the_project_is_a_4xx(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.indexes.joined_by", lambda *_: "user_item is of a request and an item together")
    opened = client(wait=False)
    until(lambda: ask(opened).status_code == 422)
    assert (
        ask(opened)
        .json()["error"]
        .startswith("student feed_find can't retrieve (user_item is of a request and an item")
    )


def _counted(client: TestClient) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in lines}


def test_metrics_tell_of_the_index(client: Client) -> None:
    opened = client()
    before = _counted(opened)  # of the other tests' servers, too
    for body in (BODY, {"k": -1}, {**BODY, "rank": RANKER}):
        ask(opened, body)
    after = _counted(opened)
    for name, more in {
        'exfm_requests_total{status="200",student="feed_find"}': 2,
        'exfm_requests_total{status="422",student="feed_find"}': 1,
        'exfm_candidates_total{student="feed_find"}': 20, 'exfm_candidates_total{student="feed_click"}': 20,
        'exfm_part_seconds_count{part="search",student="feed_find"}': 1,
    }.items():  # fmt: skip
        assert after[name] - before.get(name, 0) == more, name
    assert after['exfm_index_items{student="feed_find"}'] > 50 and after['exfm_index_faults{student="feed_find"}'] == 0


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
