"""The server's page: what serves, how good it is, what happened and why, drawn as it goes on.

Belongs here: its routes. Not here: what it shows (page_data.py, samples.py), how (page.html).

Everything comes from this server. Charts are drawn by Vega-Lite, whose script ``exfm serve`` names; without it the page
has its figures and sentences.
"""

import asyncio
import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.page_data import PageData
from serving.samples import Samples

SCRIPT = "EXFM_SERVE_SCRIPT"  # path of the charts' script
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
)


class Page:
    """Three routes."""

    def __init__(self, data: PageData, samples: Samples) -> None:
        self._data, self._samples = data, samples
        self._html = (Path(__file__).parent / "page.html").read_bytes()

    def routes(self) -> list[Route]:
        """``/``, ``/page.json`` and ``/page.js``."""
        return [Route("/", self.html), Route("/page.json", self.json), Route("/page.js", self.script)]

    async def html(self, _: Request) -> Response:
        """The page."""
        return Response(self._html, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})

    async def json(self, _: Request) -> Response:
        """What it shows now."""
        told = await asyncio.to_thread(self._data.told)
        return JSONResponse({**told, "requests": self._samples.told()})

    async def script(self, _: Request) -> Response:
        """The charts' script, or an empty one."""
        path = Path(os.environ.get(SCRIPT, ""))
        content = await asyncio.to_thread(path.read_bytes) if path.is_file() else b""
        return Response(content, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})
