"""What is stored against what it was made of: which slices are out of date, why, and what makes them again.

Belongs here: tables, and the words for what is out of date. Not here: what a table is made of (provenance.py),
checkpoints and what follows from them (models_current.py), making anything again (the assets do).

Every stored slice is looked at, by sidecars and manifests alone, so it costs little; only ``damaged`` reads files.
One layer shows at a time: labels of corrected impressions are out of date, what was learnt from them once they changed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from exfm.differences import differences
from exfm.project import Project
from exfm.stream import Slice, Stream
from pipeline.sidecar import Sidecar, read_sidecar
from pipeline.slices import provenance
from pipeline.slices.provenance import AS_OF, CODE, DECLARATION, DECLARED, LOG, Made
from pipeline.streams.layout import listed_once
from pipeline.tables import SliceTable, is_whole
from pipeline.transforms.quarantine import WITHDRAWN
from pipeline.verify import files_whole, models_current, online_current
from pipeline.verify.findings import Finding, all_hold
from pipeline.verify.models_current import DAMAGED, Fault, after_withdrawal
from pipeline.workspace import Workspace

Of = Callable[[Slice, Sidecar], Made]


@dataclass(frozen=True)
class Stale:
    """An asset of which slices are out of date, all for the same reason."""

    asset: str
    slices: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        is_single = len(self.slices) == 1 and "..." not in self.slices[0]
        what = "" if not self.slices else " for it" if is_single else " for them"
        where = f" {', '.join(self.slices)}" if self.slices else ""
        return f"{self.asset}{where}: {self.why}: materialise {self.asset}{what} again"


def stale(work: Workspace, assets: Iterable[str] | None = None) -> list[Stale]:
    """Everything stored that is out of date, upstream first.

    Args:
        assets: only these, as Dagster calls them (``student/feed_click/checkpoint``).
    """
    looks, stream = looks_of(work), work.project.stream
    chosen = looks if assets is None else assets
    with listed_once({}):
        return [group for asset in chosen for group in _grouped(stream, asset, looks[asset]())]


def damaged(work: Workspace) -> list[Stale]:
    """Stored files of the newest slices that are not what was written, read whole."""
    by_asset: dict[str, list[Fault]] = {}
    for asset, slice_ in files_whole.damaged_files(work):
        by_asset.setdefault(asset, []).append(Fault(slice_, DAMAGED))
    return [group for asset, faults in by_asset.items() for group in _grouped(work.project.stream, asset, faults)]


def up_to_date(asset: str) -> Callable[[Workspace, list[Slice]], Finding]:
    """A check on all stored slices of an asset, whichever the run made."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        return all_hold([str(entry) for entry in stale(work, [asset])], "made of what is stored now")

    return look


def nothing_stale(work: Workspace, slices: list[Slice]) -> Finding:
    """The same of all assets, and the files of the newest slices read again."""
    lines = lines_of(work)
    tables = [table for table, _ in tables_of(work).values()]
    unknown = sum(
        read_sidecar(table.path(slice_)) is None for table in tables for slice_ in table.stored(work.project.stream)
    )
    note = f"; {unknown} slices do not say what they were made of until they are made again" if unknown else ""
    return all_hold(lines, f"all that is stored is made of what is stored now{note}", unknown=unknown)


def lines_of(work: Workspace) -> list[str]:
    """A sentence for each asset and reason: what is out of date or damaged, why, and what to do."""
    return list(dict.fromkeys(str(entry) for entry in (*stale(work), *damaged(work))))


def assets_of(project: Project) -> list[str]:
    """The assets whose stored slices are looked at, upstream first."""
    tables = ["impressions", "outcomes", "interactions", "labels"]
    tables += [f"features/{view.name}" for view in (*project.feature_views, *project.prediction_views)]
    tables += ["logged_inputs", *(["logged_teacher_features"] if project.teacher_feature_columns.features else [])]
    of_teachers = [
        f"teacher/{teacher.name}/{part}" for teacher in project.teachers for part in models_current.TEACHER_PARTS
    ]
    of_students = [
        f"student/{student.name}/{part}" for student in project.students for part in models_current.STUDENT_PARTS
    ]
    return [*tables, *of_teachers, *of_students, "online_store"]


def looks_of(work: Workspace) -> dict[str, Callable[[], Iterator[Fault]]]:
    """Asset -> the look at what is stored of it, upstream first."""

    def of_table(table: SliceTable, made: Of) -> Callable[[], Iterator[Fault]]:
        return lambda: _faults(work, table, made)

    tables = {asset: of_table(table, made) for asset, (table, made) in tables_of(work).items()}
    return {**tables, **models_current.looks_of(work), "online_store": lambda: online_current.online_faults(work)}


def tables_of(work: Workspace) -> dict[str, tuple[SliceTable, Of]]:
    """Asset -> its table, and what a slice of it would be made of now."""
    project = work.project
    tables: dict[str, tuple[SliceTable, Of]] = {}

    def of_log(name: str) -> Of:
        return lambda slice_, before: provenance.of_log_table(work, name, slice_, before)

    for name in ("impressions", "outcomes", "interactions"):
        tables[name] = work.table(name), of_log(name)
    tables["labels"] = work.table("labels"), lambda slice_, before: _labels(work, slice_, before)
    for view in project.feature_views:
        tables[f"features/{view.name}"] = (
            work.features(view.name),
            lambda slice_, before, view=view: provenance.of_view(work, view, slice_),  # type: ignore[misc]
        )
    for prediction_view in project.prediction_views:
        tables[f"features/{prediction_view.name}"] = (
            work.features(prediction_view.name),
            lambda slice_, before, view=prediction_view: provenance.of_prediction_view(work, view, slice_),  # type: ignore[misc]
        )
    tables["logged_inputs"] = (
        work.table("logged_inputs"),
        lambda slice_, before: provenance.of_logged_inputs(work, slice_, before),
    )
    if project.teacher_feature_columns.features:
        tables["logged_teacher_features"] = (
            work.table("logged_teacher_features"),
            lambda slice_, before: provenance.of_logged_teacher_features(work, slice_, before),
        )
    return tables


def _labels(work: Workspace, slice_: Slice, before: Sidecar) -> Made:
    """While windows are open, labels of a moment ago are not out of date; once all have closed, they are."""
    stream = work.project.stream
    known = stream.closes(slice_, work.now())
    final = known in (slice_.end + stream.longest_window, stream.known_until)
    then = before.made_of.get(AS_OF)
    as_of = known if final or then is None else datetime.fromisoformat(then)
    return provenance.of_labels_now(work, slice_, as_of, before)


def _faults(work: Workspace, table: SliceTable, made: Of) -> Iterator[Fault]:
    for slice_ in work.project.stream.slices(work.project.stream.first_slice, work.now()):
        path = table.path(slice_)
        if not path.is_file():
            if path.parent.is_dir():
                yield Fault(slice_, DAMAGED)
            continue
        sidecar = read_sidecar(path)
        if not is_whole(path) or (sidecar is not None and sidecar.size != path.stat().st_size):
            yield Fault(slice_, DAMAGED)
        elif (
            sidecar is not None
            and (fault := _fault(slice_, sidecar, made(slice_, sidecar), table.by_column)) is not None
        ):
            # What is read of the log alone says itself what was withdrawn of it.
            yield fault if table.name in ("impressions", "interactions") else after_withdrawal(work, fault, path)


def _fault(slice_: Slice, then: Sidecar, now: Made, by_column: bool) -> Fault | None:
    """What a slice was made of that is otherwise now; ``None`` if nothing."""
    names = sorted(then.made_of.keys() | now.of.keys())
    differ = [name for name in names if then.made_of.get(name) != now.of.get(name)]
    if not differ:
        return None
    if DECLARATION in differ:
        added = _added_columns(then, now) if by_column else None
        changes = f" (more columns: {added})" if added else differences(then.notes.get(DECLARED, {}), now.declared)
        kept = frozenset(then.made_of) - {DECLARATION} if added else None
        return Fault(slice_, f"{models_current.OTHER_DECLARATION}{changes}", columns_of=kept)
    if CODE in differ:
        return Fault(slice_, "made by the code of another version of exfm")
    if AS_OF in differ:
        return Fault(slice_, "made while windows were open that have closed since")
    if WITHDRAWN in differ:
        return Fault(slice_, "what is withdrawn of it changed since")
    if of_log := [name.removeprefix(LOG) for name in differ if name.startswith(LOG)]:
        return Fault(slice_, f"the log's {', '.join(of_log)} changed since", is_correction=True)
    return Fault(slice_, f"made of other {', '.join(differ)} than are stored now", is_correction=True)


def _added_columns(then: Sidecar, now: Made, most: int = 3) -> str | None:
    """With which columns more a table is declared, in words; ``None`` if those that it has would be others."""
    declared = then.notes.get(DECLARED, {})
    before, after = ([name for listed in form.values() for name in listed] for form in (declared, now.declared))
    same = all(now.of.get(name) == digest for name, digest in then.made_of.items() if name != DECLARATION)
    added = [name for name in after if name not in before]
    if not declared or not same or not set(before) <= set(after):
        return None
    return ", ".join([*added[:most], *([f"{len(added) - most} more"] if len(added) > most else [])])


def _grouped(stream: Stream, asset: str, faults: Iterable[Fault]) -> list[Stale]:
    """The faults of an asset by reason, adjacent slices as a range."""
    by_reason: dict[str, list[Slice]] = {}
    for fault in faults:
        slices = by_reason.setdefault(fault.why, [])
        if fault.slice is not None:
            slices.append(fault.slice)
    return [Stale(asset, _ranges(stream, slices), why) for why, slices in by_reason.items()]


def _ranges(stream: Stream, slices: list[Slice]) -> tuple[str, ...]:
    runs: list[list[Slice]] = []
    for slice_ in sorted(set(slices), key=lambda slice_: slice_.start):
        if runs and runs[-1][-1].end == slice_.start:
            runs[-1].append(slice_)
        else:
            runs.append([slice_])
    return tuple(run[0].key if len(run) == 1 else f"{run[0].key}...{run[-1].key}" for run in runs)
