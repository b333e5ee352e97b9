"""Withdrawing a slice of the log, and giving it back: which models learnt from it.

Belongs here: the record of it. Not here: reading the log without it (slices/log_withdrawals.py), releases that go back
(withdrawing.py), making again what is touched: it is out of date then, and made as after any change.
"""

from datetime import UTC, datetime

from exfm.errors import DeclarationError, choose_from
from exfm.stream import Slice
from pipeline.registry.plain_manifests import manifests_of
from pipeline.slices.log_withdrawals import LOG_TABLES, reach
from pipeline.slices.withdrawals import Withdrawal, add, give_back, withdrawn
from pipeline.workspace import Workspace


def withdraw_log(work: Workspace, table: str, which: str, *, why: str) -> Withdrawal:
    """Take back a slice of a table of the log: its rows are quarantined, labels that hang on them are unknown.

    Args:
        table: ``impressions``, ``outcomes`` or ``interactions``.
        which: key of the slice.

    Returns:
        the record; that of the first time where it was withdrawn already.

    Raises:
        DeclarationError: if there is no such slice, or no reason.
    """
    if not why:
        raise DeclarationError("withdraw: say why: it is kept with the withdrawal, and shown wherever it matters")
    slice_ = _slice(work, table, which)
    first = reach(work, table, slice_)
    students, teachers = {}, {}
    for student in work.project.students:
        if since := _learnt_since(work, f"student/{student.name}", first):
            students[student.name] = since
    for teacher in work.project.teachers:
        if since := _learnt_since(work, f"teacher/{teacher.name}", first):
            teachers[teacher.name] = since
    at = datetime.now(UTC).isoformat()
    return add(work, Withdrawal(table, slice_.key, "", why, at, students=students, teachers=teachers))


def restore_log(work: Workspace, table: str, which: str, *, why: str) -> Withdrawal:
    """Let a slice of the log count again that was withdrawn, as when its source has written it anew.

    Raises:
        DeclarationError: if it is not withdrawn, or no reason is given.
    """
    if not why:
        raise DeclarationError("withdraw: say why it is given back: it is kept with the withdrawal")
    slice_ = _slice(work, table, which)
    withdrawal = withdrawn(work, table, slice_.key)
    if withdrawal is None:
        raise DeclarationError(f"withdraw: {table} {slice_.key} is not withdrawn: `exfm withdraw` lists what is")
    return give_back(work, withdrawal, at=datetime.now(UTC).isoformat(), why=why)


def _slice(work: Workspace, table: str, which: str) -> Slice:
    choose_from("withdraw", table, LOG_TABLES, what="table of the log")
    stream = work.project.stream
    ended = list(stream.slices(stream.first_slice, work.now()))
    chosen = next((slice_ for slice_ in ended if slice_.key == which), None)
    if chosen is None:
        there = f"{ended[0].key} to {ended[-1].key}" if ended else "none"
        raise DeclarationError(f"withdraw: {which!r} is no slice of {table} that has begun: use one of {there}")
    return chosen


def _learnt_since(work: Workspace, model: str, first: int) -> str | None:
    """The first slice from an index on that a model has a checkpoint of."""
    return next((slice_.key for slice_ in manifests_of(work, model) if slice_.index >= first), None)
