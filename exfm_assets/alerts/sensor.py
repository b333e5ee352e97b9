"""The sensor ``alerts``: says to the declared webhook what needs a person, once, and once more when it is resolved.

Belongs here: one tick. Not here: what alerts (now.py), what is news (alert.py), sending (webhook.py).
"""

from datetime import UTC, datetime

import dagster as dg

from exfm.alerts import Alerts
from exfm_assets.alerts.alert import Book
from exfm_assets.alerts.failed_runs import FailedRuns
from exfm_assets.alerts.now import alerts_now
from exfm_assets.alerts.webhook import WebhookError, host_of, message, post, url_of
from pipeline.workspace import Workspace

SECONDS = 30


def alerts_sensor(declared: Alerts) -> dg.SensorDefinition:
    """Looks every 30 seconds, and sends at most one message."""
    runs = FailedRuns()

    @dg.sensor(
        name="alerts",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SECONDS,
        jobs=[],
        required_resource_keys={"work"},
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Says what needs a person, and what no longer does."""
        work: Workspace = context.resources.work
        try:
            url = url_of(declared)
        except WebhookError as error:
            return dg.SkipReason(str(error))
        at = datetime.now(UTC)
        book = Book.read(context.cursor).looked(alerts_now(work, context.instance, runs), at)
        news = book.news(at, declared.again)
        if news:
            try:
                status = post(url, message(declared, work.project.name, news))
            except WebhookError as error:
                context.update_cursor(book.written())  # what ends before it could be said is said all the same
                context.log.warning(f"{error}: {len(news)} alerts are sent with the next tick")
                return dg.SkipReason(f"{error}: {len(news)} alerts are sent with the next tick")
            context.log.info(f"{host_of(url)} took {len(news)} alerts (HTTP status {status})")
            book = book.said(news, at)
        context.update_cursor(book.written())
        return dg.SkipReason(f"{len(book.entries)} alerts last, {len(news)} were said now")

    return alerts
