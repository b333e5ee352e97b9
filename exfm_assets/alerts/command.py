"""``exfm alerts``: what needs a person now; with ``--send``, one test message to the webhook.

Belongs here: the command. Not here: what alerts (now.py), sending (webhook.py).
"""

import argparse
from contextlib import chdir
from datetime import UTC, datetime

import dagster as dg
from rich.console import Console
from rich.markup import escape

from exfm.errors import DeclarationError
from exfm.load import load_project, load_state
from exfm.project import Project
from exfm.state import ROOT
from exfm.writing import StateError
from exfm_assets.alerts.alert import Alert, News
from exfm_assets.alerts.failed_runs import FailedRuns
from exfm_assets.alerts.now import alerts_now
from exfm_assets.alerts.webhook import host_of, message, post, title, url_of
from exfm_assets.home import dagster_home
from pipeline.workspace import Workspace


def main(arguments: list[str] | None = None) -> int:
    """Print or send; the exit status is 1 where something alerts, so that a script can ask."""
    parser = argparse.ArgumentParser(prog="exfm alerts", description="What needs a person now.")
    parser.add_argument("--send", action="store_true", help="send one test message to the declared webhook, no more")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        project = load_project()
        if given.send:
            console.print(escape(sent(project)))
            return 0
        work = Workspace(project, load_state(project))
        with chdir(ROOT), dg.DagsterInstance.from_config(str(dagster_home())) as instance:
            found = alerts_now(work, instance, FailedRuns())
    except (DeclarationError, StateError, ValueError) as error:  # WebhookError, DataError
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    for alert in found:
        console.print(f"[red]{escape(title(alert))}[/red]: {escape(alert.says)}. To do: {escape(alert.do)}")
    if not found:
        console.print("nothing alerts")
    return 1 if found else 0


def sent(project: Project) -> str:
    """Send a test message; what came of it.

    Raises:
        DeclarationError: if the project declares no alerts.
        WebhookError: if there is no URL, or the message was not taken.
    """
    if project.alerts is None:
        raise DeclarationError("Project.alerts: None says of no webhook: declare alerts=Alerts(...)")
    url = url_of(project.alerts)
    test = Alert("test", "", datetime.now(UTC), "this is a test of `exfm alerts --send`", "nothing")
    status = post(url, message(project.alerts, project.name, [News("begins", test)]))
    return f"{host_of(url)} took a test message (HTTP status {status})"
