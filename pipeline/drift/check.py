"""The check of a student's or a teacher's drift, as the report has it.

Belongs here: reading the report. Not here: making it (report.py).
"""

from exfm.stream import Slice
from pipeline.drift.report import FILE, drifted, stored_drift
from pipeline.sidecar import as_written
from pipeline.tables import is_whole
from pipeline.verify.findings import CheckFn, Finding
from pipeline.workspace import Workspace


def no_drift(model: str) -> CheckFn:
    """Nothing of ``student/<name>`` or ``teacher/<name>`` has changed that what serves has not learnt from."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        path = work.state.reports / FILE
        rows = stored_drift(work) if path.is_file() and is_whole(path) and as_written(path) else None
        if rows is None:
            return Finding(False, f"reports/{FILE} is missing or damaged: materialise drift_report again")
        reason = drifted(rows, model)
        return Finding(reason is None, reason or f"{model} has not drifted")

    return look
