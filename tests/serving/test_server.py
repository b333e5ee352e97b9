"""The server over a released project: what it answers, what it refuses and how, and releases that are swapped."""

import json
import re
import threading
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pipeline.workspace import Workspace
from serving.answering import Answering, Limits
from serving.request_log import RequestLog
from tests.serving.asking import BODY, STUDENT, Client, rank, until


def test_candidates_come_back_in_the_order_of_their_scores(only_asked: TestClient) -> None:
    answer = rank(only_asked)
    assert answer.status_code == 200
    told = answer.json()
    scores = [each["score"] for each in told["scores"]]
    assert {each["item"] for each in told["scores"]} == {1, 2, 5, 10**6}
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores) and len(set(scores)) > 1
    assert told["student"] == STUDENT and told["release"] >= 1 and len(told["request_id"]) == 32


def test_what_is_left_out_is_unknown_and_who_is_unknown_is_answered(only_asked: TestClient) -> None:
    scores = {}
    bodies = [{"user": None}, {}, {"user": 10**9}, {"user": {}}, {"user": {"user_id": 3, "country": "DE"}}, {"user": 3}]
    for at, user in enumerate(bodies):
        answer = rank(only_asked, {**user, "candidates": [1, 2]})
        assert answer.status_code == 200, answer.text
        scores[at] = {each["item"]: each["score"] for each in answer.json()["scores"]}
    assert scores[0] == scores[1] == scores[3]  # no user at all, however that is said
    assert scores[4] != scores[5] and scores[5] != scores[0]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "the body is no JSON"),
        (b"{", 400, "the body is no JSON"),
        (b'{"user": "\xff"}', 400, "the body is no JSON"),
        (b"[" * 100_000, 400, "the body is no JSON"),
        ([], 422, r"the request: \[\] is no object"),
        ({"users": 3, "candidates": [1]}, 422, "'users' is no field of a request: use user, context, candidates"),
        ({"user": 3}, 422, "candidates: it is empty or no list"),
        ({"user": 3, "candidates": []}, 422, "candidates: it is empty or no list"),
        ({"user": 3, "candidates": "abc"}, 422, "candidates: it is empty or no list"),
        ({"user": 3, "candidates": [1.5]}, 422, r"candidates\[0\]: 1.5 is no id: pass a whole number of 64 bits"),
        ({"user": 3, "candidates": [1, None]}, 422, r"candidates\[1\]: it has no item's id"),
        ({"user": 3, "candidates": [{"country": "DE"}]}, 422, r"candidates\[0\]: it has no item's id"),
        ({"user": 3, "candidates": ["one"]}, 422, r"candidates\[0\]: 'one' is no id"),
        ({"user": 3, "candidates": [{"item_id": 1, "user_id": 4}]}, 422, r"candidates\[0\].'user_id' is no column"),
        ({"user": "me", "candidates": [1]}, 422, "user: 'me' is no id: pass a whole number"),
        ({"user": 2**63, "candidates": [1]}, 422, "user: 9223372036854775808 is no id"),
        ({"user": 3, "context": {"planet": "Mars"}, "candidates": [1]}, 422, "context.'planet' is no column .*country"),
        ({"user": 3, "context": {"surface": "search"}, "candidates": [1]}, 422, "context.'surface' is no column"),
        ({"user": 3, "context": {"country": 49}, "candidates": [1]}, 422, "country: 49 is no text"),
        ({"user": 3, "context": {"country": "\ud800"}, "candidates": [1]}, 422, "country: .* is no Unicode text"),
        ({"user": 3, "context": ["DE"], "candidates": [1]}, 422, r"context: \['DE'\] is no object"),
        ({"user": 3, "candidates": list(range(1_001))}, 413, "candidates: 1001 are more than the 1000 of a request"),
        (b" " * 1_000_001, 413, "the body has more than 1000000 bytes"),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
def test_what_a_sender_must_change_is_said_in_one_sentence(
    only_asked: TestClient, body: Any, status: int, sentence: str
) -> None:
    answer = rank(only_asked, body)
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert "\n" not in told and len(told) < 400
    assert re.match(sentence, told), told


def test_other_paths_and_methods_are_refused(only_asked: TestClient) -> None:
    answer = rank(only_asked, student="nobody")
    assert (answer.status_code, answer.json()["error"]) == (
        404, "'nobody' is no student: use one of feed_click, feed_convert"
    )  # fmt: skip
    for path in ("/rank/..%2f..%2fetc", "/rank/feed_click/..", "/nothing"):
        assert only_asked.post(path, content=b"{}").status_code == 404
    assert only_asked.get(f"/rank/{STUDENT}").status_code == 405
    assert only_asked.get("/health").json() == {"healthy": True}
    assert only_asked.get("/ready").json() == {"ready": True}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["user_id", "item_id", "country", "device", "hour_of_day", "surface", "user_activity"])
FUZZED = st.fixed_dictionaries(
    {}, optional={
        "user": JSON | st.dictionaries(NAMES, JSON, max_size=3), "context": st.dictionaries(NAMES, JSON, max_size=3),
        "candidates": st.lists(JSON | st.dictionaries(NAMES, JSON, max_size=3), max_size=4),
    },
)  # fmt: skip


def test_a_thousand_fuzzed_requests_are_answered_or_refused_never_a_fault(only_asked: TestClient) -> None:
    seen = set()

    @settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(FUZZED.map(lambda plain: json.dumps(plain).encode()) | st.binary(max_size=40) | JSON.map(json.dumps))
    def fuzz(body: bytes | str) -> None:
        answer = rank(only_asked, body if isinstance(body, bytes) else body.encode())
        seen.add(answer.status_code)
        assert answer.status_code in {200, 400, 422}, answer.text
        if answer.status_code != 200:
            assert set(answer.json()) == {"error"} and "\n" not in answer.json()["error"]

    fuzz()
    assert {400, 422} <= seen
    assert rank(only_asked).status_code == 200  # and none left anything behind


def test_more_than_can_wait_are_told_to_come_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, enough = client(Limits(waiting=2)), threading.Event()
    slow = Answering.rank

    def held(self: Answering, student: str, body: bytes, *rest: Any) -> Any:
        enough.wait(20)
        return slow(self, student, body, *rest)

    monkeypatch.setattr(Answering, "rank", held)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(rank(opened))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: "exfm_requests_in_progress" in opened.get("/metrics").text and _in_progress(opened) == 2)
    refused = rank(opened)
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
    assert refused.json()["error"] == "2 requests are waiting already: come again"
    enough.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert rank(opened).status_code == 200


def _in_progress(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("exfm_requests_in_progress"))


def test_an_answer_that_takes_too_long_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()
    monkeypatch.setattr(Answering, "rank", lambda *_: enough.wait(20))
    answer = rank(client(Limits(seconds=0.05)))
    enough.set()
    assert (answer.status_code, answer.json()["error"]) == (503, "no answer within 0.05 s: come again")


def test_metrics_tell_of_requests_parts_caches_and_what_is_missing(client: Client) -> None:
    opened = client()
    for _ in range(3):
        rank(opened)
    rank(opened, b"{")
    rank(opened, student="nobody/../x")
    text = opened.get("/metrics").text
    values = {
        name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    }
    assert values['exfm_requests_total{status="200",student="feed_click"}'] >= 3
    assert values['exfm_requests_total{status="400",student="feed_click"}'] >= 1
    assert values['exfm_candidates_total{student="feed_click"}'] >= 12
    assert values['exfm_item_cache_total{found="yes"}'] > values['exfm_item_cache_total{found="no"}'] / 10
    assert any(name.startswith('exfm_missing_features_total{student="feed_click",view="item') for name in values)
    assert any(name.startswith("exfm_release_trained_until") and value > 1.7e9 for name, value in values.items())
    assert not [name for name in values if not name.startswith("exfm_")]


def test_an_answer_that_nobody_waits_for_is_not_logged(work: Workspace) -> None:
    log = RequestLog(work.state.requests)
    answering = Answering(work.project, work.state, log=log)
    answering.releases.look()
    answering.rank(STUDENT, json.dumps(BODY).encode(), lambda: True)
    assert log._rows == 0
    answering.rank(STUDENT, json.dumps(BODY).encode(), lambda: False)
    assert log._rows == 4


def test_answers_are_logged_as_they_were_served(work: Workspace, client: Client) -> None:
    opened = client(log=RequestLog(work.state.requests))
    answer = rank(opened).json()
    opened.__exit__(None, None, None)
    logged = pl.read_parquet(work.state.requests / STUDENT / "*" / "*.parquet", hive_partitioning=False)
    assert logged["item_id"].to_list() == [1, 2, 5, 10**6]  # as they were asked
    placed = logged.sort("served_position")
    assert placed["item_id"].to_list() == [each["item"] for each in answer["scores"]]
    assert placed["served_score"].to_list() == pytest.approx([each["score"] for each in answer["scores"]], abs=1e-7)
    assert placed["served_position"].to_list() == [0, 1, 2, 3] and set(logged["served_request"]) == {
        answer["request_id"]
    }
    assert set(logged["user_id"]) == {3} and set(logged["country"]) == {"DE"} and set(logged["surface"]) == {"feed"}
    ids = [each["impression_id"] for each in answer["scores"]]  # texts: JavaScript's numbers end at 53 bits
    assert ids == [str(each) for each in placed["impression_id"]] and len(set(ids)) == 4
    assert logged.schema["impression_id"] == pl.Int64 and logged["impression_id"].min() > 0  # type: ignore[operator]
    assert set(logged["served_version"]) == {answer["version"]}
    assert not list(work.state.requests.glob("*.arrows"))
    features = [name for name in logged.columns if "__" in name]
    known = logged.filter(pl.col("item_id") < 10**6).select(features)
    assert features and known.null_count().sum_horizontal().item() < known.height * known.width


def _no_room(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_readiness_then_answers(
    work: Workspace, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RequestLog(work.state.requests)
    opened = client(log=log)
    monkeypatch.setattr("serving.request_log.MOST_WAITING", 8)
    monkeypatch.setattr(RequestLog, "_append", _no_room)
    assert rank(opened).status_code == 200
    until(lambda: opened.get("/ready").status_code == 503)
    assert "No space left" in opened.get("/ready").json()["faults"]["request log"]
    assert rank(opened).status_code == 200
    assert rank(opened).status_code == 503
    monkeypatch.undo()
    until(lambda: opened.get("/ready").status_code == 200)
    assert rank(opened).status_code == 200
    opened.__exit__(None, None, None)
    logged = pl.read_parquet(work.state.requests / STUDENT / "*" / "*.parquet", hive_partitioning=False)
    assert logged["served_request"].n_unique() == 3  # none of those that were answered is lost


def test_item_features_are_kept_for_their_age_and_read_again(work: Workspace) -> None:
    answering = Answering(work.project, work.state, Limits(item_age=3600))
    answering.releases.look()
    body = json.dumps(BODY).encode()
    first, second = (answering.rank(STUDENT, body).gathered for _ in range(2))
    assert first.hits == 0 and first.misses > 0 and (second.hits, second.misses) == (first.misses, 0)
    never = Answering(work.project, work.state, replace(Limits(), item_age=0))
    never.releases.look()
    assert {never.rank(STUDENT, body).gathered.hits for _ in range(2)} == {0}
