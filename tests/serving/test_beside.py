"""The server with a canary, a shadow, drawn orders: who is answered by what, what is logged, whose fault it is."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from exfm.project import Project
from exfm.serving import Serving
from models.parts import GRAPH, SIGNATURE
from pipeline.workspace import Workspace
from serving.answering import Answering
from serving.app import Server
from serving.arms import is_canary
from serving.model import ServedModel
from serving.request_log import RequestLog
from tests.serving.test_server import rank, until

STUDENT, SHADE = "feed_click", "shade"
ITEMS = [1, 2, 5, 10**6]
Open = Callable[..., TestClient]


def with_serving(project: Project, serving: Serving) -> Project:
    """The project with a student whose answers are declared, and another one of the same task."""
    first, *others = project.students
    shade = replace(first, name=SHADE)
    return replace(project, students=(replace(first, serving=serving), *others, shade))


@pytest.fixture
def open_(work: Workspace) -> Iterator[Open]:
    opened: list[TestClient] = []

    def start(serving: Serving, seed: int | None = None) -> TestClient:
        answering = Answering(
            with_serving(work.project, serving), work.state, log=RequestLog(work.state.requests), seed=seed
        )
        opened.append(TestClient(Server(answering).app()))
        return opened[-1].__enter__()

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def asked(client: TestClient, user: Any, student: str = STUDENT) -> dict[str, Any]:
    answer = rank(client, {"user": user, "context": {"country": "DE"}, "candidates": ITEMS}, student)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def logged(work: Workspace, folder: Path | None = None) -> pl.DataFrame:
    return pl.read_parquet((folder or work.state.requests) / STUDENT / "*" / "*.parquet", hive_partitioning=False)


def counted(client: TestClient) -> dict[str, float]:
    """Values of metrics; those of a shadow follow its answers."""
    lines = (line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in lines}


def second_release(work: Workspace) -> str:
    """What is released, under another version."""
    folder = work.state.release(STUDENT)
    shutil.copytree(folder / json.loads((folder / "current.json").read_text())["version"], folder / "second")
    signature = json.loads((folder / "second" / SIGNATURE).read_text())
    (folder / "second" / SIGNATURE).write_text(json.dumps({**signature, "version": "second"}))
    return "second"


def point(work: Workspace, **changes: Any) -> None:
    """Change the pointer in one step, as a release does."""
    path = work.state.release(STUDENT) / "current.json"
    pointer = {**json.loads(path.read_text()), **changes}
    path.with_suffix(".new").write_text(json.dumps(pointer))
    path.with_suffix(".new").replace(path)


def canary(version: str, number: int = 8) -> dict[str, Any]:
    return {"version": version, "number": number, "slice": "2026-01-05", "trained_until": None, "since": "now"}


def told(client: TestClient) -> dict[str, Any]:
    return dict(client.get("/students").json()[STUDENT])


def test_a_share_of_users_gets_the_canary_and_answer_and_log_say_so(work: Workspace, open_: Open) -> None:
    first = json.loads((work.state.release(STUDENT) / "current.json").read_text())
    point(work, canary=canary(second_release(work)), change=9)
    client, users = open_(Serving(canary=0.3)), [*range(60), 10**9, None]
    base, name = counted(client), 'exfm_answers_total{{arm="{}",student="feed_click"}}'
    answers = {user: asked(client, user) for user in users}
    for user, answer in answers.items():
        tried = is_canary(STUDENT, user, answer["request_id"], 0.3)
        expected = ("second", 8) if tried else (first["version"], first["number"])
        assert (answer["version"], answer["release"]) == expected
        assert tried or asked(client, user)["version"] == first["version"] or user is None
    versions = [answers[user]["version"] for user in range(60)]
    assert 8 <= versions.count("second") <= 30
    assert told(client)["canary"] == {"share": 0.3, "release": 8, "version": "second", "trained_until": None}
    assert told(client)["version"] == first["version"]
    values = counted(client)
    arms = {arm: values[name.format(arm)] - base.get(name.format(arm), 0) for arm in ("served", "canary")}
    assert values[f'exfm_canary_number{{student="{STUDENT}"}}'] == 8 and arms["canary"] >= versions.count("second")
    client.__exit__(None, None, None)
    rows = logged(work)
    assert sum(arms.values()) == rows["served_request"].n_unique()
    of_log = {arm: mine["served_version"].unique().to_list() for (arm,), mine in rows.group_by("served_arm")}
    assert of_log == {"served": [first["version"]], "canary": ["second"]}
    assert rows.filter(served_arm="canary")["served_request"].n_unique() == arms["canary"]
    client.__enter__()


def test_a_canary_ends_or_serves_all_between_two_requests(work: Workspace, open_: Open) -> None:
    first = json.loads((work.state.release(STUDENT) / "current.json").read_text())["version"]
    point(work, canary=canary(second_release(work)), change=9)
    client = open_(Serving(canary=0.5))
    tried = next(user for user in range(60) if is_canary(STUDENT, user, "", 0.5))
    other = next(user for user in range(60) if not is_canary(STUDENT, user, "", 0.5))
    assert (asked(client, tried)["version"], asked(client, other)["version"]) == ("second", first)
    point(work, canary=None, change=10)  # dropped
    until(lambda: asked(client, tried)["version"] == first)
    assert "canary" not in told(client) and counted(client)[f'exfm_canary_number{{student="{STUDENT}"}}'] == 0
    point(work, canary=canary("second"), change=11)
    until(lambda: asked(client, tried)["version"] == "second")
    point(work, version="second", number=8, canary=None, change=12)  # serves
    until(lambda: asked(client, other)["version"] == "second")
    assert asked(client, tried)["version"] == "second"


def test_a_broken_canary_harms_nobody_and_is_said(work: Workspace, open_: Open) -> None:
    first = json.loads((work.state.release(STUDENT) / "current.json").read_text())["version"]
    graph = work.state.release(STUDENT) / second_release(work) / GRAPH
    graph.write_bytes(b"no graph")
    point(work, canary=canary("second"), change=9)
    client = open_(Serving(canary=0.9))
    assert {asked(client, user)["version"] for user in range(20)} == {first}
    assert "model.onnx is damaged" in told(client)["canary"]["fault"] and "fault" not in told(client)
    assert client.get("/ready").status_code == 200


def shaded(work: Workspace) -> None:
    """The shadow's release is that of another student, so that its scores are its own."""
    shutil.copytree(work.state.release("feed_convert"), work.state.release(SHADE))


def test_a_shadow_scores_each_request_and_only_the_log_knows(work: Workspace, open_: Open) -> None:
    shaded(work)
    client = open_(Serving(shadow=SHADE))
    answers = [asked(client, user) for user in range(12)]
    alone = {user: {each["item"]: each["score"] for each in asked(client, user, SHADE)["scores"]} for user in range(12)}
    assert {answer["student"] for answer in answers} == {STUDENT}
    assert told(client)["shadow"]["student"] == SHADE and told(client)["shadow"]["release"] >= 1
    client.__exit__(None, None, None)
    rows, beside = logged(work), logged(work, work.state.shadows)
    assert rows.height == beside.height == 12 * len(ITEMS) and set(beside["served_shadow"]) == {SHADE}
    both = rows.join(beside, on=["impression_id", "served_request"], suffix="_shadow")
    assert both.height == rows.height  # of the same impressions
    for user, item, score, own in both.select("user_id", "item_id", "served_score_shadow", "served_score").iter_rows():
        assert score == pytest.approx(alone[user][item], abs=1e-6) and score != own
    assert set(both["served_version_shadow"]) != set(both["served_version"])
    client.__enter__()


def test_a_fault_of_the_shadow_harms_no_answer(work: Workspace, open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    shaded(work)
    client = open_(Serving(shadow=SHADE))
    expected = asked(client, 3)["scores"]
    score, version = ServedModel.score, told(client)["shadow"]["version"]

    def broken(self: ServedModel, *rest: Any) -> Any:
        if self.version == version:
            raise MemoryError("no room")
        return score(self, *rest)

    failed, scored = (
        f'exfm_shadow_requests_total{{outcome="{what}",student="{STUDENT}"}}' for what in ("failed", "scored")
    )
    until(lambda: scored in counted(client))  # else what was asked first may be scored by what comes now
    monkeypatch.setattr(ServedModel, "score", broken)
    base = counted(client)
    again = [asked(client, 3)["scores"] for _ in range(5)]
    assert all([{k: each[k] for k in ("item", "score")} for each in one]
               == [{k: each[k] for k in ("item", "score")} for each in expected] for one in again)  # fmt: skip
    until(lambda: counted(client).get(failed, 0) - base.get(failed, 0) == 5)
    assert told(client)["shadow"]["fault"] == "MemoryError: no room"
    monkeypatch.undo()
    asked(client, 3)
    until(lambda: "fault" not in told(client)["shadow"])
    until(lambda: counted(client)[scored] - base[scored] == 1)


def test_what_a_shadow_cannot_keep_up_with_is_skipped_and_counted(
    work: Workspace, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaded(work)
    monkeypatch.setattr("serving.shadows.WAITING", 0)
    client = open_(Serving(shadow=SHADE))
    name = f'exfm_shadow_requests_total{{outcome="skipped",student="{STUDENT}"}}'
    before = counted(client).get(name, 0)
    asked(client, 3)
    assert counted(client)[name] - before == 1


def test_a_shadow_without_a_release_is_said_and_nothing_waits_for_it(work: Workspace, open_: Open) -> None:
    client = open_(Serving(shadow=SHADE))
    asked(client, 3)
    assert told(client)["shadow"] == {"student": SHADE, "release": None}


@pytest.mark.parametrize("exploration", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
def test_drawn_orders_are_returned_and_logged_with_their_probability(
    work: Workspace, open_: Open, exploration: float
) -> None:
    client, rounds, name = open_(Serving(exploration=exploration), seed=4), 60, f'{{student="{STUDENT}"}}'
    before = counted(client).get(f"exfm_drawn_orders_total{name}", 0)
    answers = {answer["request_id"]: answer for answer in (asked(client, 3) for _ in range(rounds))}
    assert told(client)["exploration"] == exploration
    drawn = counted(client)[f"exfm_drawn_orders_total{name}"] - before
    client.__exit__(None, None, None)
    rows = logged(work)
    best = [each["item"] for each in sorted(next(iter(answers.values()))["scores"], key=lambda each: -each["score"])]
    orders = set()
    for (request,), mine in rows.sort("served_position").group_by("served_request", maintain_order=True):
        items = [each["item"] for each in answers[str(request)]["scores"]]
        assert mine["item_id"].to_list() == items
        orders.add(tuple(items))
        expected = [(1 - exploration) * (item == at) + exploration / 4 for item, at in zip(items, best, strict=True)]
        assert mine["served_propensity"].to_list() == pytest.approx(expected)
    assert len(orders) > 8 and abs(drawn - rounds * exploration) <= 15
    client.__enter__()


def test_a_full_disk_of_the_shadows_refuses_no_request(
    work: Workspace, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaded(work)
    client = open_(Serving(shadow=SHADE))
    append = RequestLog._append

    def refused(self: RequestLog, *rest: Any) -> None:
        if self.folder == work.state.shadows:
            raise OSError(28, "No space left on device")
        append(self, *rest)

    monkeypatch.setattr(RequestLog, "_append", refused)
    full = property(lambda self: self.folder == work.state.shadows and self._rows >= 8)
    monkeypatch.setattr(RequestLog, "is_full", full)
    name = f'exfm_shadow_requests_total{{outcome="skipped",student="{STUDENT}"}}'
    before = counted(client).get(name, 0)
    until(lambda: asked(client, 3) != {} and counted(client).get(name, 0) > before)
    assert client.get("/ready").status_code == 200 and len(asked(client, 3)["scores"]) == len(ITEMS)
    monkeypatch.undo()
