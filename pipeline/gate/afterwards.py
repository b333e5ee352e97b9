"""After the gate: is a canary worse than what serves, or what serves worse than what did before, on what came since?

Belongs here: which two, on which rows, and what follows. Not here: figures (comparing.py), the record
(releases/afterwards.py), changes of what serves (releases/).

The gate judges a candidate on the newest rows that there are. What it could not see then, as a fault of those rows or
of too few, shows on the next ones: the same comparison is made once more, and a release that is shown to be worse goes.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

from exfm.declaration import digest
from exfm.errors import DeclarationError
from exfm.learning import Student
from exfm.stream import Slice
from models.manifest import load_manifest
from pipeline.gate.candidate import newest_labelled, tables_of
from pipeline.gate.comparing import Comparison, compared_on, slices_since
from pipeline.gate.judged_rows import JudgedRows
from pipeline.gate.scoring import released_learner
from pipeline.releases.afterwards import (
    CANARY,
    NEITHER,
    NOT_WORSE,
    SERVED,
    WAITS,
    WORSE,
    Afterwards,
    read_afterwards,
    write_afterwards,
)
from pipeline.releases.canaries import end_canary, serve_canary
from pipeline.releases.history import RECORD, changing, dropped, history_of, numbered
from pipeline.releases.publishing import name_served
from pipeline.releases.release import PROMOTED, RELEASED, ROLLED_BACK, UNPINNED, Released, current_release
from pipeline.releases.whole import version_fault
from pipeline.releases.withdrawing import touched_by
from pipeline.workspace import Workspace

MOST_WAITED = 10  # slices that may decide nothing of a canary
MOST_BACK = 5  # releases that are looked at where what serves is worse than a constant, and those before it too


def look_after(rows: JudgedRows, student: Student) -> None:
    """Go back from what serves if it is shown to be worse than what served before; then decide on the canary.

    In this order: a canary is compared with what serves, and should not take over because that is worse still. What a
    person pinned stays.

    Raises:
        DataError: if inputs or labels are damaged.
    """
    work = rows.work
    served = current_release(work, student)
    if served is None or served.pinned:
        return
    _watch(rows, student, served)
    served = current_release(work, student)
    if served is not None and served.canary is not None:
        _decide(rows, student, served)


def _watch(rows: JudgedRows, student: Student, served: Released) -> None:
    """What learnt from bad rows for long may have been released several times: the newest that predicts is gone to."""
    work = rows.work
    for before in islice(predecessors(work, student), MOST_BACK):
        found = _looked(rows, student, SERVED, served, before, student.gate.slices)
        if found.outcome != NEITHER:
            break
    else:
        return
    if found.outcome != WORSE:
        return
    with changing(work, student) as now:
        if now is None or now.pinned or now.change != served.change:
            return  # somebody decided meanwhile
        manifest = load_manifest(work.state.release(student.name) / before.version)
        name_served(
            work, student, manifest, action=ROLLED_BACK, why=found.reason, dropped=served.version, canary_goes_on=True
        )


def predecessors(work: Workspace, student: Student) -> Iterator[Released]:
    """What served before the gate released what serves now, newest first, if it can be gone back to.

    It ends where a person, a mend or a rollback chose what served: that is gone back to already.
    """
    history = history_of(work, student)
    until = len(history)
    while until:
        since = until
        while since and history[since - 1].checkpoint == history[until - 1].checkpoint:  # in whatever kind of table
            since -= 1
        chosen = {entry.action for entry in history[since:until]} & {PROMOTED, ROLLED_BACK, UNPINNED}
        if not since or history[since].action != RELEASED or chosen:
            return
        before, until = numbered(history)[history[since - 1].number], since
        usable = before.checkpoint not in dropped(history) and version_fault(work, student, before.version) is None
        if usable and touched_by(work, student, before) is None:
            yield before


def _decide(rows: JudgedRows, student: Student, served: Released) -> None:
    work = rows.work
    assert served.canary is not None
    canary = numbered(history_of(work, student))[served.canary.number]
    if (fault := version_fault(work, student, canary.version)) is not None:
        decided, why = end_canary, f"{fault}: it can't be served"
    elif not student.serving.canary:
        decided, why = serve_canary, "it passed its gate, and no canary is declared any more"
    elif isinstance(reason := released_learner(work, student, served.version, rows.device), str):
        decided, why = serve_canary, f"it passed its gate, and what serves can't be compared: {reason}"
    else:
        found = _looked(rows, student, CANARY, canary, served, student.serving.canary_slices)
        if found.outcome in (WAITS, NEITHER) and not _waits_too_long(work, student, canary):
            return
        decided, why = (serve_canary if found.outcome == NOT_WORSE else end_canary), found.reason
    with changing(work, student) as now:
        if now is not None and now.change == served.change:
            decided(work, student, why)


def _waits_too_long(work: Workspace, student: Student, canary: Released) -> bool:
    """Have so many slices come that decided nothing that others should not wait for this one any longer?"""
    stream, newest = work.project.stream, next(newest_labelled(work, student), None)
    since = stream.slice_of(canary.slice).index
    return newest is not None and newest[0].index - since > student.serving.canary_slices + MOST_WAITED


def _looked(rows: JudgedRows, student: Student, who: str, mine: Released, other: Released, least: int) -> Afterwards:
    """A release against another one: the stored answer if it follows from the same, else a new one, stored."""
    work = rows.work
    after = max(mine.slice, other.slice, _judged_until(work, student, mine))

    def made_of_slices(slices: Sequence[Slice]) -> str:
        data = [[table.digest(slice_) for table in tables_of(work, student)] for slice_ in slices]
        keys = [slice_.key for slice_ in slices]
        return digest(student.gate, least, mine.version, other.version, after, keys, data)

    stored = read_afterwards(work, student).get(who)
    if stored is not None and stored.outcome == NOT_WORSE:
        # It was asked once. Asked again at each slice, of sound releases too one in twenty would go at each.
        before = [work.project.stream.slice_of(key) for key in stored.slices]
        if all(work.table("labels").has(slice_) for slice_ in before) and made_of_slices(before) == stored.made_of:
            return stored
    slices, labelled = slices_since(work, student, after, least)
    made_of, keys = made_of_slices(slices), [slice_.key for slice_ in slices]
    if stored is not None and stored.made_of == made_of:
        return stored
    outcome, reason = _outcome(rows, student, (mine, other), slices, labelled, least, after)
    found = Afterwards(who, mine.version, other.version, outcome, reason, tuple(keys), labelled, made_of)
    write_afterwards(work, student, found)
    return found


def _judged_until(work: Workspace, student: Student, release: Released) -> str:
    """The last slice that a release was judged on when its gate let it through; empty where that was not kept."""
    path = work.state.release(student.name) / release.version / RECORD
    try:
        gate = json.loads(path.read_text(encoding="utf-8"))["gate"]
        return "" if gate is None else str(max(gate["slices"], default=""))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _outcome(
    rows: JudgedRows,
    student: Student,
    two: tuple[Released, Released],
    slices: Sequence[Slice],
    labelled: int,
    least: int,
    after: str,
) -> tuple[str, str]:
    gate, (mine, other) = student.gate, two
    if len(slices) < least or labelled < gate.judged_rows:
        return WAITS, (
            f"{labelled:,} labelled rows in {len(slices)} closed slices since {after}: "
            f"{gate.judged_rows:,} of at least {least} are asked for"
        )
    if (fault := rows.fault(slices)) is not None:
        return WAITS, fault
    try:
        found = compared_on(rows, student, other, mine, slices)
    except DeclarationError as error:  # one of the two reads what is declared otherwise now, or labels are all alike
        return WAITS, str(error)
    said = _said(found, two)
    allowed, most = max(gate.tolerance, 0.0), 1 + max(gate.tolerance, 0.0)
    is_worse = found.difference.low > allowed
    # Of two that predict rows the better is kept. Rows that it does not predict may be wrong themselves.
    if found.ne[0 if is_worse else 1] > most:
        return NEITHER, f"{said}; that is above {most:.3g}, worse than a constant, so these rows decide nothing"
    if not is_worse:
        return NOT_WORSE, said
    return WORSE, f"{said}, worse than the {100 * allowed:+.3g} % that the gate allows"


def _said(found: Comparison, two: tuple[Released, Released]) -> str:
    mine, other = two
    values = [100 * value for value in (found.difference.value, found.difference.low, found.difference.high)]
    return (
        f"release {mine.number} against {other.number} on {found.rows:,} rows of {found.over}: "
        f"NE {found.ne[1]:.4f} against {found.ne[0]:.4f}, {values[0]:+.2f} % ({values[1]:+.2f} to {values[2]:+.2f})"
    )
