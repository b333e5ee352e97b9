"""What needs a person now: failed checks, stale releases, work that failed twice.

Belongs here: all kinds in one list, and stale releases. Not here: what of it is news (alert.py).
"""

from collections.abc import Iterator

import dagster as dg

from exfm_assets.alerts.alert import Alert, sentence_of
from exfm_assets.alerts.failed_checks import failed_checks
from exfm_assets.alerts.failed_runs import FailedRuns
from pipeline.upkeep.ages import ages_of
from pipeline.workspace import Workspace


def alerts_now(work: Workspace, instance: dg.DagsterInstance, runs: FailedRuns) -> list[Alert]:
    """All that alerts.

    Args:
        runs: kept from tick to tick, for it reads each failed run once.
    """
    declared = work.project.alerts
    warnings = declared is not None and declared.warnings
    return [
        *failed_checks(work, instance, warnings=warnings),
        *stale_releases(work),
        *runs.alerts(work, instance),
    ]


def stale_releases(work: Workspace) -> Iterator[Alert]:
    """Students whose release is older than promised, or who have none for as long."""
    looks, first = ages_of(work), work.project.stream.first_slice
    for student in work.project.students:
        age = looks[f"student/{student.name}/release"]()
        if age.state == "fail":
            yield Alert(
                kind="release_stale",
                asset=age.asset,
                since=(age.newest or first) + age.limits.fail,
                says=sentence_of(str(age).partition(": ")[2]),
                do=f"`exfm status` says of student {student.name} why nothing newer is released",
            )
