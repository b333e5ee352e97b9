"""Saying news to a webhook: the message, and one POST that can't hold anybody up.

Belongs here: forms of the message, sending it. Not here: what is news (alert.py).

The URL is a secret: no sentence has more of it than its host.
"""

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from exfm.alerts import Alerts
from exfm_assets.alerts.alert import Alert, News

SECONDS = 5.0  # for all of it: looking the host up, connecting, sending, and the answer
MOST = 20  # alerts in a message
SIGNS = {"begins": ":red_circle:", "still": ":red_circle: still:", "resolved": ":white_check_mark: resolved:"}


class WebhookError(ValueError):
    """Nothing can be sent, or was not taken; a sentence without the URL."""


def url_of(declared: Alerts) -> str:
    """What the environment says.

    Raises:
        WebhookError: if it says nothing, or something that nothing can be posted to.
    """
    name = declared.webhook_env
    url = os.environ.get(name, "").strip()
    if not url:
        raise WebhookError(f"{name} is not set, so no alert is sent: set it to the URL of the webhook")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    # What is left could not be written into a request; a user in the URL would be taken for part of the host.
    if not usable or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookError(f"{name} is not an http or https URL, so no alert is sent: set it to the webhook's")
    return url


def host_of(url: str) -> str:
    """All of a URL that may be shown."""
    return urlsplit(url).hostname or "the webhook"


def message(declared: Alerts, project: str, news: Sequence[News]) -> dict[str, Any]:
    """The body of a POST: the first ``MOST`` of the news, and how many more there are."""
    shown, more = news[:MOST], max(len(news) - MOST, 0)
    if declared.format == "slack":
        lines = [f"*exfm {project}*", *(_line(declared, one) for one in shown)]
        return {"text": "\n".join([*lines, *([f"and {more} more: `exfm alerts` lists them"] if more else [])])}
    return {"project": project, "alerts": [_plain(declared, one) for one in shown], "more": more}


def _plain(declared: Alerts, news: News) -> dict[str, Any]:
    alert = news.alert
    return {
        "state": news.state,
        "kind": alert.kind,
        "asset": alert.asset,
        "check": alert.check,
        "slices": alert.slices,
        "step": alert.step,
        "since": alert.since.isoformat(timespec="seconds"),
        "until": None if news.until is None else news.until.isoformat(timespec="seconds"),
        "says": alert.says,
        "do": alert.do,
        "run": alert.run,
        "link": link_to(declared, alert),
    }


def title(alert: Alert) -> str:
    """What it is about: ``check contract of impressions, 2026-01-03, since 2026-01-04 00:10 UTC``."""
    what = {
        "check_failed": f"check {alert.check} of {alert.asset}",
        "release_stale": f"{alert.asset} is stale",
        "run_failed_twice": f"{alert.asset} failed twice",
        "test": "a test, nothing is wrong",
    }[alert.kind]
    of = f", {alert.slices}" if alert.slices else ""
    return f"{what}{of}, since {alert.since:%Y-%m-%d %H:%M} UTC"


def _line(declared: Alerts, news: News) -> str:
    if news.state == "resolved":
        return f"{SIGNS['resolved']} {_escaped(title(news.alert))}"
    link = link_to(declared, news.alert)
    look = f" <{link}|Look>" if link else ""
    said = _escaped(f"{title(news.alert)}: {news.alert.says}. To do: {news.alert.do}")
    return f"{SIGNS[news.state]} {said}{look}"


def _escaped(text: str) -> str:
    """As Slack asks: it reads these three as its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def link_to(declared: Alerts, alert: Alert) -> str | None:
    """Where Dagster's UI shows it."""
    if declared.ui is None or alert.kind == "test":
        return declared.ui
    ui = declared.ui.rstrip("/")
    if alert.kind == "run_failed_twice":
        return f"{ui}/runs/{alert.run}"
    of = f"?view=checks&checkDetail={quote(alert.check)}" if alert.check else ""
    return f"{ui}/assets/{quote(alert.asset)}{of}"


def post(url: str, body: dict[str, Any], seconds: float = SECONDS) -> int:
    """Send a message; the HTTP status with which it was taken (2xx).

    Raises:
        WebhookError: if it was not, or there was no answer in time.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "exfm"}, method="POST"
    )
    host, answer = host_of(url), _within(seconds, lambda: _status(request, seconds))
    if answer is None:
        raise WebhookError(f"{host} did not answer within {seconds:g} s")
    if isinstance(answer, str):
        raise WebhookError(f"{host} can't be reached: {answer}")
    if not 200 <= answer < 300:
        raise WebhookError(f"{host} answered with HTTP status {answer}")
    return answer


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that has moved would get a GET without the message."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _status(request: urllib.request.Request, seconds: float) -> int | str | None:
    """The status, or why there is none: never an error's own text, which may hold the URL; ``None``: too late."""
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return int(refused.code)
    except (OSError, ValueError, http.client.HTTPException) as error:
        inner = getattr(error, "reason", None)
        reason = inner if isinstance(inner, Exception) else error
        if isinstance(reason, TimeoutError):
            return None
        return str(getattr(reason, "strerror", None) or type(reason).__name__)


def _within(seconds: float, call: Callable[[], int | str | None]) -> int | str | None:
    """What a call gives, or ``None`` if it takes longer: a socket's own limit is for each of its steps."""
    given: list[int | str | None] = []
    thread = threading.Thread(target=lambda: given.append(call()), daemon=True, name="exfm-alerts")
    thread.start()
    thread.join(seconds)
    return given[0] if given else None
