"""Retrieval: an index's items with the scores that ranking gives, both stages, refusals, and what is swapped when."""

import re
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from pipeline.releases.items import FILE, SEEN
from pipeline.workspace import Workspace
from serving.answering import Limits
from serving.request_log import RequestLog
from tests.serving.retrieval.asking import AGREE, BODY, Client, ask, items_of, ranked, until
from tests.serving.retrieval.towers import FINDER, RANKER


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
    only_asked: TestClient, body: Any, status: int, sentence: str
) -> None:
    answer = ask(only_asked, body)
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert "\n" not in told and re.match(sentence, told), told


def test_a_student_without_towers_says_so(only_asked: TestClient) -> None:
    answer = ask(only_asked, student=RANKER)
    assert (answer.status_code, answer.json()["error"]) == (
        422, "student feed_click can't retrieve (its network has no two towers): ask one of feed_find"
    )  # fmt: skip
    assert ask(only_asked, student="nobody").status_code == 404


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
    before = _counted(opened)
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
