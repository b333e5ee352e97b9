"""Verdicts of the gate, and changes of what serves, as tables, for Dagster and for the report.

Belongs here: columns and their words. Not here: judging (gate/), the page (page.py).
"""

from collections.abc import Mapping, Sequence

from pipeline.releases.release import Released
from pipeline.releases.verdict import Verdict


def gates_table(verdicts: Mapping[str, Verdict]) -> str:
    """Markdown, one row a student."""
    lines = ["| student | gate | candidate | why |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {verdict.outcome} | {verdict.candidate or '–'} | {verdict.reason} |"
        for name, verdict in verdicts.items()
    ]
    return "\n".join(lines)


def comparisons_table(verdict: Verdict) -> str:
    """Markdown, one row a comparison: relative differences of NE in percent, above 0 where the candidate is worse."""
    lines = ["| against | rows of | rows | NE | from | to | confidence |", "|---|---|---:|---:|---:|---:|---:|"]
    for each in verdict.compared:
        figures = " | ".join(f"{100 * value:+.2f} %" for value in (each.difference, each.low, each.high))
        lines.append(f"| {each.against} | {each.where} | {each.rows:,} | {figures} | {each.confidence:.3f} |")
    if verdict.calibration is not None:
        value, low, high = verdict.calibration
        lines.append(f"| calibration | all | {verdict.rows:,} | {value:.3f} | {low:.3f} | {high:.3f} | |")
    return "\n".join(lines)


def changes_table(changes: Sequence[Released]) -> str:
    """Markdown, one row a change of what serves, oldest first."""
    lines = ["| release | canary | what | why |", "|---:|---:|---|---|"]
    for each in changes:
        canary = "–" if each.canary is None else str(each.canary.number)
        lines.append(f"| {each.number} | {canary} | {each.action} | {each.why} |")
    return "\n".join(lines)
