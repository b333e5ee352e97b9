"""The server: HTTP around answers.

Belongs here: routes, limits, statuses. Not here: answers (answering.py), starting it (command.py).

    POST /rank/<student>      candidates in the order of their scores
    POST /retrieve/<student>  the items with the highest scores of all, ranked by another student if asked
    GET  /students            what each student answers with
    GET  /health  /ready  /metrics
    GET  /                 the page

What a sender has to change is a 4xx with one sentence; more requests than can wait get a 503 at once, with Retry-After.
"""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from exfm.serving import Serving as Declared
from feast_asof.errors import RetrievalError
from serving.answering import Answer, Answering
from serving.errors import RequestError
from serving.metrics import Metrics
from serving.page import Page
from serving.page_data import PageData
from serving.releases import Serving
from serving.retrieving import Retrieving
from serving.samples import Samples

Answers = Callable[[str, bytes, Callable[[], bool]], Answer]
_log = logging.getLogger(__name__)


class Server:
    """Routes over one ``Answering``.

    Args:
        threads: that answer; features and scores mostly wait for others, or run outside of Python.
    """

    def __init__(self, answering: Answering, threads: int = 2) -> None:
        self.answering, self.retrieving, self.metrics = answering, Retrieving(answering), Metrics()
        self._samples = Samples(self.metrics)
        self._page = Page(PageData(answering.project, answering.state), self._samples)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answer")
        self._waiting = 0
        answering.releases.on_change = self.metrics.changed
        if answering.shadows is not None:
            answering.shadows.on_scored = self.metrics.shadow
        self.retrieving.indexes.on_change = self.metrics.indexed

    def app(self) -> Starlette:
        """As ASGI."""
        routes = [
            Route("/rank/{student}", self.rank, methods=["POST"]),
            Route("/retrieve/{student}", self.retrieve, methods=["POST"]),
            Route("/students", self.students),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics_text),
            *self._page.routes(),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.answering.start()
        self._samples.start()
        self.retrieving.indexes.start()
        # What is there now stays. Looking through all of it for cycles takes a quarter of a second, in which no answer
        # is given.
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        self._samples.stop()
        self._pool.shutdown()
        self.retrieving.indexes.stop()
        self.answering.stop()

    async def rank(self, request: Request) -> Response:
        """Candidates in the order of their scores."""
        return await self._respond(request, self.answering.rank)

    async def retrieve(self, request: Request) -> Response:
        """The items with the highest scores."""
        return await self._respond(request, self.retrieving.retrieve)

    async def _respond(self, request: Request, answers: Answers) -> Response:
        """Answer, or say in one sentence why not."""
        student, started = request.path_params["student"], time.perf_counter()
        known = student if student in self.answering.releases.students else "?"  # a label, whatever is asked
        try:
            answer = await self._answer(student, request, answers)
        except RequestError as error:
            self.metrics.requests.labels(known, error.status).inc()
            headers = {"Retry-After": "1"} if error.status == 503 else None
            return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)
        except ClientDisconnect:
            self.metrics.requests.labels(known, 499).inc()
            return Response(status_code=499)
        except Exception:
            _log.exception("a request to student %s failed", known)
            self.metrics.requests.labels(known, 500).inc()
            return JSONResponse({"error": "a fault of the server: its log has it"}, status_code=500)
        self.metrics.requests.labels(known, 200).inc()
        self.metrics.answered(answer.serving.student.name, answer)
        response = JSONResponse(answer.body)
        self.metrics.seconds.labels(student).observe(time.perf_counter() - started)
        return response

    async def _answer(self, student: str, request: Request, answers: Answers) -> Answer:
        limits, given_up = self.answering.limits, threading.Event()
        if self._waiting >= limits.waiting:
            raise RequestError(f"{limits.waiting} requests are waiting already: come again", 503)
        self._count(1)
        job: Future[Answer] | None = None
        try:
            async with asyncio.timeout(limits.seconds):
                body = await _body(request, limits.body)
                job = self._pool.submit(answers, student, body, given_up.is_set)
                loop = asyncio.get_running_loop()
                job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count, -1))
                return await asyncio.wrap_future(job)
        except TimeoutError:
            given_up.set()
            raise RequestError(f"no answer within {limits.seconds:g} s: come again", 503) from None
        except RetrievalError as error:
            raise RequestError(str(error), 503) from error
        finally:
            if job is None:  # else it counts until its thread is free again
                self._count(-1)

    def _count(self, more: int) -> None:
        self._waiting += more
        self.metrics.answering.set(self._waiting)

    async def students(self, _: Request) -> Response:
        """What each student answers with."""
        return JSONResponse({name: self._told(name) for name in self.answering.releases.students})

    def _told(self, name: str) -> dict[str, Any]:
        serving, fault = self.answering.releases.of(name), self.answering.releases.faults.get(name)
        told: dict[str, Any] = {"fault": fault} if fault else {}
        if serving is None:
            return {"release": None, **told}
        surface = set() if serving.student.surface is None else {self.answering.project.stream.surface.name}
        columns = sorted(self.answering.known(name) - surface)
        return {
            **_release(serving), "since": serving.since.isoformat(), "surface": serving.student.surface,
            "task": serving.student.task, "columns": columns, **told,
            **self._beside(name, serving.student.serving), **self._index_of(name),
        }  # fmt: skip

    def _beside(self, name: str, declared: Declared) -> dict[str, Any]:
        """Canary, shadow and exploration, where they are declared or there."""
        answering, told = self.answering, dict[str, Any]()
        canary, fault = answering.releases.canary_of(name), answering.releases.canary_faults.get(name)
        if canary is not None or fault:
            of = {"release": None, "fault": fault} if canary is None else _release(canary)
            told["canary"] = {"share": declared.canary, **of}
        if declared.shadow is not None:
            shadow, faults = answering.shadow_of(name), {} if answering.shadows is None else answering.shadows.faults
            of = {"release": None} if shadow is None else _release(shadow)
            fault = faults.get(name, "no answer is logged, so nothing is scored" if answering.shadows is None else None)
            told["shadow"] = {"student": declared.shadow, **of, **({"fault": fault} if fault else {})}
        if declared.exploration:
            told["exploration"] = declared.exploration
        return told

    def _index_of(self, name: str) -> dict[str, Any]:
        """Of a student with two towers, what it retrieves from."""
        indexes = self.retrieving.indexes
        retriever, fault = indexes.find(name), indexes.fault(name)
        told: dict[str, Any] = {"index_fault": fault} if fault else {}
        if retriever is not None:
            told["index"] = {
                "release": retriever.serving.number, "version": retriever.serving.version,
                "items": retriever.index.size, "left_out": retriever.left_out, "exact": retriever.index.is_exact,
                "made": retriever.made.isoformat(), "seconds": round(retriever.seconds, 3),
            }  # fmt: skip
        return told

    async def health(self, _: Request) -> Response:
        """The process is there."""
        return JSONResponse({"healthy": True})

    async def ready(self, _: Request) -> Response:
        """Requests can be answered: some student serves, none has lost its release, and answers can be logged.

        Until a student's first index is made, it is waited for.
        """
        releases, log = self.answering.releases, self.answering.log
        lacking = [name for name, fault in releases.faults.items() if releases.of(name) is None and fault]
        serves = any(releases.of(name) is not None for name in releases.students)
        faults = {name: releases.faults[name] for name in lacking}
        if log is not None and log.fault:
            faults["request log"] = log.fault
        faults |= dict.fromkeys(self.retrieving.indexes.waited_for, "its index is being made")
        if not serves:
            faults["students"] = "none has a release: run `exfm run` first"
        return JSONResponse({"ready": not faults, **({"faults": faults} if faults else {})}, 503 if faults else 200)

    async def metrics_text(self, _: Request) -> Response:
        """For Prometheus."""
        text = self.metrics.text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _body(request: Request, most: int) -> bytes:
    """The whole body.

    Raises:
        RequestError: if it is too large, whatever its header says.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise RequestError(f"the body has more than {most} bytes: send fewer candidates", 413)
        parts.append(part)
    return b"".join(parts)


def _release(serving: Serving) -> dict[str, Any]:
    return {"release": serving.number, "version": serving.version, "trained_until": serving.trained_until}
