"""Alerts: where to say that something needs a person.

Belongs here: what can be declared of it. Not here: finding what is wrong, and sending it (exfm_assets/alerts/).

Nothing that is stored is made of this, so declaring it otherwise makes nothing again.
"""

import re
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, shown

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@declaration
class Alerts(Declaration):
    """A webhook that is told of failed checks, stale releases, and work that failed twice.

    Args:
        webhook_env: the environment variable that holds the URL. Who knows the URL can post to it, so it stands in no
            declaration.
        format: ``json``, or ``slack`` for an incoming webhook of Slack (and what takes the same, as Mattermost).
        ui: where Dagster's UI is reached, for links to the asset or the run; ``None``: no links.
        again: what is not resolved is said again after so long, for a channel scrolls on; ``None``: said once.
        warnings: say failed checks that only warn as well: drift, slices out of date, slices without impressions. Most
            of them are mended by the automation.
    """

    webhook_env: str = "EXFM_ALERTS_WEBHOOK"
    format: Literal["json", "slack"] = "json"
    ui: str | None = None
    again: timedelta | None = timedelta(days=1)
    warnings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _VARIABLE.fullmatch(self.webhook_env):  # it may be the URL itself, so it is not shown
            raise DeclarationError(
                "Alerts.webhook_env: this is not the name of an environment variable: put the URL into one, and "
                "name that: use EXFM_ALERTS_WEBHOOK"
            )
        if self.ui is not None and not _is_address(self.ui):
            raise DeclarationError(f"Alerts.ui: {shown(self.ui)} is no address: write it as http://localhost:3000")
        if self.again is not None and self.again < timedelta(minutes=1):
            raise DeclarationError(f"Alerts.again: {self.again} is too short to be looked at: use a minute or more")


def _is_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:
        return False
