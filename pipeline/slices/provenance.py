"""What each stored table is made of: the slices, files and declarations behind it, as digests.

Belongs here: one function a table, called when it is written, and later to check that it still holds.
Not here: sidecars (sidecar.py), comparing (verify/tables_current.py), checkpoints (registry/lineage.py).

What it was made of is written down before it is read, so a change in between shows as one.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO, Any, cast

import numpy as np
import polars as pl

from exfm.columns import views_of
from exfm.declaration import canonical_form, digest
from exfm.log_columns import Task
from exfm.online import graph_loads
from exfm.prediction_views import PredictionView, known_after
from exfm.source_views import SourceView
from exfm.stream import Slice, Stream
from pipeline.imports.sources import source_digest
from pipeline.served.made_of import served_of
from pipeline.sidecar import LogFile, Sidecar
from pipeline.slices.attributed import outcomes_of, recognised_since
from pipeline.slices.log_withdrawals import withdrawn_digest
from pipeline.slices.narrow import NarrowSlice
from pipeline.slices.predictions import scored_by
from pipeline.streams.contract import schema_of
from pipeline.streams.layout import log_files
from pipeline.streams.seen import Seen, digest_of, seen_of
from pipeline.tables import SliceTable
from pipeline.transforms.labels import columns_of_labels
from pipeline.transforms.predicted import needed
from pipeline.transforms.view_rows import KeptView, since
from pipeline.workspace import Workspace

DECLARATION, AS_OF, LOG, CODE = "declaration", "as_of", "log/", "code"
OF_OUTCOMES = f"{LOG}outcomes"  # of labels: what the log says happened to their impressions
IN_ORDER = "in-order-"  # how digests of outcomes begin that are made of their columns
DECLARED = "exfm/declared"  # among a sidecar's notes: what DECLARATION is the digest of
TASKS = "tasks"  # among that, of a view: those that it counts
# Raised where what a table holds of the same inputs changes with the code: its stored slices are made again. Views have
# a code_version of their own; "1" is left out of what a slice is made of.
CODE_VERSIONS = {
    "impressions": "1",
    "outcomes": "1",
    "interactions": "1",
    "labels": "1",
    "logged_inputs": "1",
    "logged_teacher_features": "1",
}


@dataclass(frozen=True)
class Made:
    """What a slice of a table is made of.

    Args:
        of: upstream -> digest of what was read of it. ``log/<table>`` is a table of the log; ``declaration`` what is
            declared of the table itself; ``as_of`` when labels were closed.
        log: the files of the log that were looked at.
        declared: what is declared of the table, of which ``declaration`` is the digest.
    """

    of: Mapping[str, str]
    log: Mapping[str, Mapping[str, LogFile]] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)


def _made(
    table: str,
    declaration: str,
    declared: Mapping[str, object],
    of: Mapping[str, str],
    log: Mapping[str, Mapping[str, LogFile]] | None = None,
) -> Made:
    version = CODE_VERSIONS.get(table, "1")
    code = {CODE: version} if version != "1" else {}
    return Made({DECLARATION: declaration, **code, **of}, log or {}, canonical_form(declared))


def slices_known(view: KeptView | PredictionView, stream: Stream, slice_: Slice) -> list[Slice]:
    """The slices of a view whose rows may still hold for an impression of a slice."""
    return list(stream.slices(max(slice_.start - view.ttl, stream.first_slice), slice_.end))


def of_log_table(work: Workspace, table: str, slice_: Slice, before: Sidecar | None = None) -> Made:
    """A table of the log; of outcomes also the impressions that make them no orphans."""
    stream = work.project.stream
    read = _log(work, table, slice_.start, slice_.end, before)
    declaration, declared = _contract(stream, table), _declared_of(stream, table)
    of = dict(read.of) | withdrawn_digest(work, table, slice_.start, slice_.end)
    if table == "outcomes":
        around = stream.slices(recognised_since(stream, slice_.start), slice_.end)
        of["impressions"] = _slices(work.table("impressions"), around)
        declaration = digest(declaration, stream.longest_window, stream.lateness)  # which ones are orphans
        declared |= {"longest_window": stream.longest_window, "lateness": stream.lateness}
    return _made(table, declaration, declared, of, read.log)


def labels_see(work: Workspace, slice_: Slice, as_of: datetime, before: Sidecar | None = None) -> Seen:
    """The files of the log in which outcomes of a slice's impressions may be, as known at ``as_of``."""
    known = before.log.get("outcomes") if before is not None else None
    return seen_of(log_files(work, "outcomes"), slice_.start, as_of + timedelta(microseconds=1), known)


def impressions_of_labels(work: Workspace, slice_: Slice) -> NarrowSlice:
    """What labels read of a slice's impressions."""
    return NarrowSlice(work.table("impressions"), slice_, tuple(columns_of_labels(work.project.stream)))


def of_labels(work: Workspace, shown: NarrowSlice, as_of: datetime, seen: Seen, outcomes: str) -> Made:
    """Labels as they were known at ``as_of``.

    Args:
        shown: the impressions.
        outcomes: digest of the outcomes of the slice's impressions (``OF_OUTCOMES``). Files reach beyond a slice's
            windows, so a new one need not change its labels.
    """
    tasks, weight = work.project.stream.tasks, work.project.stream.weight
    of = {AS_OF: as_of.isoformat(), OF_OUTCOMES: outcomes}
    of |= withdrawn_digest(work, "outcomes", shown.slice_.start, as_of)
    of |= {"impressions": digest([[shown.slice_.key, shown.noted]])}
    declared: dict[str, object] = {"tasks": tasks, **({} if weight is None else {"weight": weight})}
    return _made("labels", digest(*declared.values()), declared, of, {"outcomes": seen.files})


def of_labels_now(work: Workspace, slice_: Slice, as_of: datetime, before: Sidecar) -> Made:
    """The same for labels that are stored; the log is read only where its files are others than they were."""
    seen, then = labels_see(work, slice_, as_of, before), before.log.get("outcomes", {})
    shown = impressions_of_labels(work, slice_)
    if seen.digest == digest_of(then) or not work.table("impressions").sound(slice_):
        return of_labels(work, shown, as_of, seen, before.made_of.get(OF_OUTCOMES, ""))
    known = outcomes_of(work, shown, as_of + timedelta(microseconds=1))
    return of_labels(work, shown, as_of, seen, outcomes_digest(known, as_of, before.made_of.get(OF_OUTCOMES, "")))


def outcomes_digest(outcomes: pl.DataFrame, as_of: datetime, like: str = "") -> str:
    """A digest of the outcomes of some impressions, those that were known at ``as_of``.

    Args:
        outcomes: in the log's order, as ``outcomes_of`` gives them.
        like: a digest that this one will be compared with; older ones are of the rows as sorted text.
    """
    known = outcomes.filter(pl.col("outcome_timestamp") <= as_of).select("impression_id", "task", "outcome_timestamp")
    if like and not like.startswith(IN_ORDER):
        return _sorted_text_digest(known)
    sha = hashlib.sha256()
    for task in known["task"].unique().sort():
        sha.update(f"{task}\n".encode())
        sha.update(np.packbits((known["task"] == task).to_numpy()).data)
    for name in ("impression_id", "outcome_timestamp"):
        sha.update(known[name].to_physical().rechunk().to_numpy().data)
    return IN_ORDER + sha.hexdigest()[:12]


def _sorted_text_digest(known: pl.DataFrame) -> str:
    hashed = _Hashed()
    known.sort(pl.all()).write_csv(cast(IO[bytes], hashed), batch_size=1 << 16)
    return hashed.sha.hexdigest()[:12]


class _Hashed(io.RawIOBase):
    """A file of which only the digest is kept: the whole text of a slice's outcomes would be copied several times."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, text: Any) -> int:
        self.sha.update(text)
        return memoryview(text).nbytes


def of_view(work: Workspace, view: KeptView, slice_: Slice) -> Made:
    """A view of activity, of histories, or of a table that somebody else keeps."""
    if isinstance(view, SourceView):
        source = {"source": source_digest(view, work.state.data)}
        return _made(f"features/{view.name}", digest(view), {"view": view}, source)
    around = list(work.project.stream.slices(since(view, work.project.stream, slice_.start), slice_.end))
    tables = ("impressions", "outcomes", "interactions")
    of = {name: _slices(work.table(name), around) for name in tables}
    counted = _tasks_of(view, work.project.stream)
    if all(task.label is None for task in counted) and _is_earlier(work.features(view.name).sidecar(slice_)):
        counted = []
    declared: dict[str, object] = {"view": view, **({TASKS: counted} if counted else {})}
    return _made(f"features/{view.name}", digest(*declared.values()), declared, of)


def _is_earlier(stored: Sidecar | None) -> bool:
    """Was a view's slice made by an exfm that did not say which tasks it counts? It stands as it is."""
    return stored is not None and DECLARED in stored.notes and TASKS not in stored.notes[DECLARED]


def _tasks_of(view: KeptView, stream: Stream) -> list[Task]:
    """Tasks of which it depends on more than the tables say: their labels' columns and borders, and shorter windows.

    What is an orphan depends on the longest window, so ``outcomes`` are other ones where that changes.
    """
    named = [task for task in stream.tasks if task.name in view.sources or "outcomes" in view.sources]
    return [task for task in named if task.label is not None or task.window != stream.longest_window]


def of_prediction_view(work: Workspace, view: PredictionView, slice_: Slice) -> Made:
    """A view of a teacher's earlier predictions."""
    stream, teacher = work.project.stream, work.project.teacher(view.teacher)
    wanted = needed(view, stream, known_after(teacher, stream), slice_.end)
    predictions = digest([[earlier_slice.key, scored_by(work, teacher, earlier_slice)] for earlier_slice in wanted])
    of = {
        "impressions": _slices(work.table("impressions"), wanted),
        f"teacher/{teacher.name}/predictions": predictions,
    }
    declared = {"view": view, "teacher.lag": teacher.lag}
    return _made(f"features/{view.name}", digest(view, teacher.lag), declared, of)


def impressions_now(work: Workspace, slice_: Slice) -> str:
    """What ``impressions`` is among what a slice of another table is made of, if that is made now."""
    return _slices(work.table("impressions"), [slice_])


def of_logged_inputs(work: Workspace, slice_: Slice, before: Sidecar | None = None) -> Made:
    """The impressions, every view that Feast joins to them, as far back as its values hold, and what was served."""
    columns = work.project.logged_columns
    declared = {"ids": list(columns.of_log), "columns": list(columns.of_views)}
    return _joined(work, slice_, "logged_inputs", declared, columns.of_views, work.project.feature_views, before)


def of_logged_teacher_features(work: Workspace, slice_: Slice, before: Sidecar | None = None) -> Made:
    """The same of the views of earlier predictions."""
    columns = work.project.teacher_feature_columns
    declared = {"columns": list(columns.features)}
    views = work.project.prediction_views
    return _joined(work, slice_, "logged_teacher_features", declared, columns.features, views, before)


def _joined(
    work: Workspace,
    slice_: Slice,
    table: str,
    declared: Mapping[str, list[str]],
    columns: Iterable[str],
    views: Iterable[KeptView | PredictionView],
    before: Sidecar | None,
) -> Made:
    read = set(views_of(columns))
    served, files = served_of(work, slice_, before)
    of = {**served, "impressions": _slices(work.table("impressions"), [slice_])}
    for view in views:
        if view.name in read:
            known = slices_known(view, work.project.stream, slice_)
            of[f"features/{view.name}"] = _slices(work.features(view.name), known)
    return _made(table, digest(*declared.values()), declared, of, files)


def _log(work: Workspace, table: str, start: datetime, end: datetime, before: Sidecar | None) -> Made:
    name = f"{LOG}{table}"
    seen = seen_of(log_files(work, table), start, end, before.log.get(table) if before is not None else None)
    return Made({name: seen.digest}, {table: seen.files})


def _contract(stream: Stream, table: str) -> str:
    return digest(*_declared_of(stream, table).values())


def _declared_of(stream: Stream, table: str) -> dict[str, object]:
    columns = {name: str(dtype) for name, dtype in schema_of(stream, table).items()}
    names = {"tasks": list(stream.outcome_tasks)} if table == "outcomes" else {"surfaces": list(stream.surfaces)}
    zone = {} if stream.time_zone == "UTC" else {"time_zone": stream.time_zone}
    return {"columns": columns, **names, **zone}


def _slices(table: SliceTable, slices: Iterable[Slice]) -> str:
    """A digest of slices as they are stored; one that is not there counts as such."""
    return digest([[slice_.key, table.noted(slice_)] for slice_ in slices])


def of_online(work: Workspace) -> dict[str, dict[str, str]]:
    """The online store: of each view that is served, the slices whose values still hold at its newest, by their key."""
    stream, of = work.project.stream, {}
    for view in work.project.all_views:
        table = work.features(view.name)
        if graph_loads(view) and (newest := table.newest(stream)) is not None:
            known = {slice_.key: table.noted(slice_) for slice_ in slices_known(view, stream, newest)}
            of[f"features/{view.name}"] = {key: noted for key, noted in known.items() if noted is not None}
    return of
