"""Asking a server: what it answers is shown; where it does not, a world goes on at once and says why."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline.live import choosing
from pipeline.live.choosing import Server
from pipeline.live.visits import SHOWN


@contextmanager
def answering(answers: list[Any], wait: threading.Event | None = None) -> Iterator[Server]:
    """A server that gives these answers one after the other: a status and a body each."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = answers.pop(0)
            if wait is not None:
                wait.wait(5)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Server("127.0.0.1", server.server_address[1])
        finally:
            if wait is not None:
                wait.set()
            server.shutdown()


def ranked(count: int) -> dict[str, Any]:
    return {"scores": [{"item": item, "score": 0.5, "impression_id": str(2**62 + item)} for item in range(count)]}


def test_the_best_of_an_answer_are_shown_with_its_ids() -> None:
    with answering([(200, ranked(10)), (200, ranked(2))]) as server:
        choice, fewer = server.choose("one", {}), server.choose("one", {})
    assert choice is not None and choice.by == "one"
    assert choice.items.tolist() == list(range(SHOWN)) and choice.ids.tolist() == [2**62 + n for n in range(SHOWN)]
    assert fewer is not None and len(fewer.items) == 2
    assert not server.unanswered and len(server.seconds) == 2


def test_a_refusal_is_counted_with_its_sentence() -> None:
    with answering([(503, {"error": "it has no release yet"}), (200, ranked(4))]) as server:
        assert server.choose("one", {}) is None
        assert server.choose("one", {}) is not None
    assert server.unanswered == {"it has no release yet": 1}


def test_a_server_that_is_not_there_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server, tried = Server("127.0.0.1", 1), []
    post = server._post
    monkeypatch.setattr(server, "_post", lambda *given: (tried.append(given), post(*given))[1])
    assert [server.choose("one", {}) for _ in range(5)] == [None] * 5
    assert server.unanswered == {"the server does not answer": 5} and len(tried) == 1


def test_a_server_that_hangs_holds_nobody_up_for_long_and_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(choosing, "AGAIN_SECONDS", 0.0)
    hangs = threading.Event()
    with answering([(200, ranked(4)), (200, ranked(4))], hangs) as server:
        assert server.choose("one", {}) is None
        hangs.set()
        choice = server.choose("one", {})
    assert choice is not None and server.unanswered == {"the server does not answer": 1}
