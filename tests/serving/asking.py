"""Asking a server of a test: a request, its client, waiting for what it follows."""

import json
import time
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

STUDENT = "feed_click"
BODY = {"user": 3, "context": {"country": "DE"}, "candidates": [1, 2, {"item_id": 5}, 10**6]}
Client = Callable[..., TestClient]


def rank(client: TestClient, body: Any = BODY, student: str = STUDENT) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(f"/rank/{student}", content=content)


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.02)
