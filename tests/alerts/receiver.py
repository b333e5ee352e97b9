"""A webhook's other end, on loopback: it keeps what it is sent, and answers as a test wants.

Belongs here: the server. Not here: what a test expects (test_alerts.py).
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0PSECRET"


class Receiver:
    """Takes POSTs.

    Attributes:
        status: with which it answers.
        drips: seconds for which it answers a byte at a time, with a pause shorter than any timeout between them.
        taken: bodies that it answered with 2xx; ``refused``: the others.
    """

    def __init__(self) -> None:
        self.status, self.drips = 200, 0.0
        self.taken: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/json"
                ends = time.monotonic() + receiver.drips
                while time.monotonic() < ends:
                    self.wfile.write(b"H" if time.monotonic() < ends else b"")
                    self.wfile.flush()
                    time.sleep(0.05)
                (receiver.taken if 200 <= receiver.status < 300 else receiver.refused).append(body)
                self.send_response(receiver.status)
                if 300 <= receiver.status < 400:
                    self.send_header("Location", f"/moved/{SECRET}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                raise AssertionError("a redirect was followed")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self.server.shutdown()
            self._thread.join()
            self.server.server_close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
