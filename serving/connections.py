"""Connections spread over the worker processes.

A connection stays with the worker that accepted it, and clients keep theirs open: a proxy's pool, opened at once, may
all be with one worker, and what a killed one had stays with the others for ever. So now and then an answer closes its
connection. The client opens another one, and the worker with the least to do accepts it first.

Belongs here: when a connection is closed. Not here: who accepts it (the kernel), what is answered (app.py).
"""

import random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANSWERS = 200  # of a connection, in the mean; a new one takes some tenths of a millisecond beside a network's way


class SpreadConnections:
    """Closes a connection after about so many answers, chosen by chance."""

    def __init__(self, app: ASGIApp, answers: int = ANSWERS) -> None:
        self.app, self.answers = app, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or random.random() * self.answers >= 1:
            await self.app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, closing)
