"""Whether features were served as they are joined afterwards.

Belongs here: judging the counts that a slice was written with, and what to do. Not here: counting (served/skew.py).
"""

from collections import defaultdict

from exfm.columns import FeatureColumn
from exfm.project import Project
from exfm.stream import Slice
from pipeline.served.inputs import COLUMNS, ROWS
from pipeline.served.skew import Skew
from pipeline.verify.findings import CheckFn, Finding, all_hold
from pipeline.workspace import Workspace


def served_skew(table: str) -> CheckFn:
    """Columns that were served otherwise in more rows than ``ServedInputs.skew`` allows, the worst first."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        declared = work.project.served
        assert declared is not None
        columns, served = _counted(work, table, slices)
        worst = sorted(columns.items(), key=lambda item: (-item[1].share, item[0]))
        faults = [_sentence(work.project, name, skew) for name, skew in worst if skew.share > declared.skew]
        otherwise = f"{served:,} rows were served; no column otherwise than it is joined in over {declared.skew:.3g}"
        most: dict[str, float | str] = {"worst_column": worst[0][0], "worst_share": worst[0][1].share} if worst else {}
        return all_hold(faults, otherwise, served_rows=served, **most)

    return look


def _counted(work: Workspace, table: str, slices: list[Slice]) -> tuple[dict[str, Skew], int]:
    columns, served = defaultdict[str, Skew](Skew), 0
    for slice_ in slices:
        sidecar = work.table(table).sidecar(slice_)
        if sidecar is None:
            continue
        served += int(sidecar.notes.get(ROWS, 0))
        for name, plain in sidecar.notes.get(COLUMNS, {}).items():
            columns[name] += Skew.of_plain(plain)
    return dict(columns), served


def _sentence(project: Project, name: str, skew: Skew) -> str:
    missing = f", {skew.served_null:,} of them as nothing" if skew.served_null else ""
    said = f"{name} was served otherwise than it is joined in {skew.differ:,} of {skew.rows:,} rows{missing}"
    return f"{said}: {_remedy(project, name, skew)}"


def _remedy(project: Project, name: str, skew: Skew) -> str:
    """By what differs most."""
    if "__" not in name:
        return "requests brought other values than the log has: pass what is logged in requests, too"
    view = project.view(FeatureColumn.of(name).view)
    where = f"{type(view).__name__}({view.name})"
    if 2 * skew.served_null > skew.differ:
        return f"the online store did not know them, or not within its ttl of {view.ttl}: load online_store more often"
    if 2 * skew.joined_null > skew.differ:
        return f"they are no longer joined: look for rows of {view.name} that were corrected or withdrawn since"
    return (
        f"the online store was older than the offline one: load online_store sooner after each slice, or set {where}"
        ".delay to how long it takes; or rows came late"
    )
