"""Asking a server for items: a request, what ranking gives for the same, waiting for what it follows."""

import json
import time
from collections.abc import Callable
from typing import Any

import polars as pl
from starlette.testclient import TestClient

from pipeline.workspace import Workspace
from tests.serving.retrieval.towers import FINDER

BODY = {"user": 3, "context": {"country": "DE"}, "k": 20}
AGREE = 1e-4
Client = Callable[..., TestClient]


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.02)


def ask(client: TestClient, body: Any = BODY, student: str = FINDER, path: str = "retrieve") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(f"/{path}/{student}", content=content)


def scored(answer: dict[str, Any]) -> list[tuple[int, float]]:
    return [(each["item"], each["score"]) for each in answer["scores"]]


def items_of(work: Workspace) -> list[int]:
    """Those that the log has shown on the student's surface."""
    shown = work.table("impressions").read(work.table("impressions").stored(work.project.stream))
    found: list[int] = shown.filter(pl.col("surface") == "feed")["item_id"].unique().to_list()
    return found


def ranked(client: TestClient, items: list[int], body: dict[str, Any], student: str = FINDER) -> dict[int, float]:
    asked = {"user": body["user"], "context": body["context"], "candidates": items}
    return {each["item"]: each["score"] for each in ask(client, asked, student, "rank").json()["scores"]}
