"""Connections that clients keep open are spread over the workers, also after one was killed."""

import http.client
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.connections import SpreadConnections
from tests.conftest import Ran
from tests.serving.test_process import Running, running

CONNECTIONS, LEAST = 12, 3


def closing(answers: int, asked: int) -> int:
    """How many of so many answers close their connection."""
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("well"))])
    app.add_middleware(SpreadConnections, answers=answers)
    with TestClient(app) as client:
        got = [client.get("/") for _ in range(asked)]
    assert {answer.text for answer in got} == {"well"}
    return sum(answer.headers.get("connection") == "close" for answer in got)


def test_some_answers_close_their_connection() -> None:
    assert closing(1, 20) == 20
    assert 10 <= closing(10, 400) <= 90  # 40 in the mean, 6 the standard deviation
    assert closing(10**9, 20) == 0


class Clients:
    """Clients that keep their connections, and open another one where it was closed."""

    def __init__(self, port: int) -> None:
        self.port, self.open = (
            port,
            [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(CONNECTIONS)],
        )

    def ask(self, rounds: int) -> None:
        for _ in range(rounds):
            for place, connection in enumerate(self.open):
                try:
                    connection.request("GET", "/health")
                    assert connection.getresponse().read()
                except (http.client.HTTPException, OSError):  # its worker was killed
                    connection.close()
                    self.open[place] = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def close(self) -> None:
        for connection in self.open:
            connection.close()


def connections(server: Running) -> Counter[int]:
    """How many each worker holds of those to the server's port."""
    held: Counter[int] = Counter()
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # one that was killed just now
            for each in process.net_connections("tcp"):
                held[process.pid] += each.status == psutil.CONN_ESTABLISHED and each.laddr.port == server.port
    return held


def is_spread(server: Running, clients: Clients) -> bool:
    clients.ask(40)
    held = sorted(connections(server).values())
    return sum(held) == CONNECTIONS and len(held) > 1 and held[-2] >= LEAST


@pytest.mark.slow
def test_a_worker_that_takes_the_place_of_a_killed_one_gets_its_share(ran: Ran, tmp_path: Path) -> None:
    with running(ran, tmp_path, "--workers", "2") as server:
        server.until(lambda: server.ask("/ready")[0] == 200)
        clients = Clients(server.port)
        try:
            server.until(lambda: is_spread(server, clients))
            most, _ = connections(server).most_common(1)[0]
            psutil.Process(most).send_signal(signal.SIGKILL)
            clients.ask(1)  # all that it had is with the other one now
            server.until(lambda: is_spread(server, clients))
            assert most not in connections(server)
        finally:
            clients.close()
