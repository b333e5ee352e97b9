"""``exfm serve``: the server on a port, by one or several worker processes.

Belongs here: arguments, and starting uvicorn. Not here: what is answered (app.py).
"""

import argparse
import os
import socket
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.writing import StateError
from serving.answering import Answering, Limits
from serving.app import Server
from serving.connections import SpreadConnections
from serving.request_log import RequestLog

SWITCH_SECONDS = 0.001  # for which a thread may hold Python while others wait: its own 5 ms are longer than an answer
_SETTINGS = "EXFM_SERVE_"  # of the parent, for its workers


def build() -> Starlette:
    """The app, as the environment says: each worker process builds its own."""
    sys.setswitchinterval(SWITCH_SECONDS)
    project = load_project()
    state = load_state(project)
    given = {each.name: os.environ.get(_SETTINGS + each.name.upper()) for each in fields(Limits)}
    limits = Limits(
        **{name: type(getattr(Limits(), name))(value) for name, value in given.items() if value is not None}
    )
    log = None if os.environ.get(_SETTINGS + "NO_LOG") else RequestLog(state.requests, limits.log_days)
    app = Server(Answering(project, state, limits, log)).app()
    if os.environ.get(_SETTINGS + "WORKERS", "1") != "1":
        app.add_middleware(SpreadConnections)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Serve until it is asked to end; its exit status."""
    parser = argparse.ArgumentParser(prog="exfm serve", description="Answer requests with the released students.")
    parser.add_argument("-p", "--port", type=int, default=8080)
    parser.add_argument("--host", default="127.0.0.1", help="loopback by default: there is no sign-in")
    parser.add_argument("-w", "--workers", type=int, default=1, help="processes; each keeps all models")
    parser.add_argument("--no-log", action="store_true", help="log no answers")
    for each in fields(Limits):
        name, kind = f"--{each.name.replace('_', '-')}", type(getattr(Limits(), each.name))
        parser.add_argument(name, type=kind, default=getattr(Limits(), each.name), help="default: %(default)s")
    given = parser.parse_args(arguments)
    if given.log_days < 0:
        parser.error(f"--log-days: {given.log_days} is below 0: say how many days are kept, or 0 for all of them")
    try:
        load_state(load_project())
    except (DeclarationError, StateError) as error:
        print(error, file=sys.stderr)
        return 2
    if (why := _taken(given.host, given.port)) is not None:
        print(why, file=sys.stderr)
        return 2
    os.environ |= {_SETTINGS + each.name.upper(): str(getattr(given, each.name)) for each in fields(Limits)}
    if given.no_log:
        os.environ[_SETTINGS + "NO_LOG"] = "1"
    os.environ[_SETTINGS + "WORKERS"] = str(given.workers)
    with tempfile.TemporaryDirectory() as together:
        if given.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = together
        uvicorn.run(
            "serving.command:build", factory=True, host=given.host, port=given.port, workers=given.workers,
            access_log=False, log_level="info", timeout_graceful_shutdown=10, app_dir=str(Path(__file__).parents[1]),
        )  # fmt: skip
    return 0


def _taken(host: str, port: int) -> str | None:
    """Why an address can't be listened on."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return None
    except OSError as error:
        return f"{host}:{port} can't be listened on ({error.strerror}): choose another one with --host or --port"
