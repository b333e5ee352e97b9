"""Withdrawals: what a person took back of the log, or of what models learnt, and what it touched.

Belongs here: the record, and looking things up in it. Not here: finding what is touched (releases/withdrawing.py),
making it good: all that hangs on what was withdrawn is out of date, and is made again as after any change.
"""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.declaration import digest
from pipeline.tables import DataError
from pipeline.workspace import Workspace

WITHDRAWN = "withdrawn"  # among what a checkpoint is made of, in place of its tables


@dataclass(frozen=True)
class Withdrawal:
    """One of them.

    Args:
        model: ``teacher/<name>`` or ``student/<name>``: it goes on as if it had learnt nothing of the slice. Or a table
            of the log: its rows of the slice count for nothing.
        slice: key of that slice.
        version: of the checkpoint that was withdrawn; empty for a table.
        at: ISO moment; what was made before it may be touched.
        predictions: keys of the slices whose predictions came from it, or from a checkpoint that continued it.
        students: by name, key of the first slice that learnt from those.
        versions: of all checkpoints that came from it: what learns from one of them later is touched as well.
        teachers: by name, key of the first slice that learnt from a withdrawn slice of the log.
        restored: ISO moment at which a slice of the log was given back; empty while it is withdrawn.
        why_restored: kept with it.
    """

    model: str
    slice: str
    version: str
    why: str
    at: str
    predictions: tuple[str, ...] = ()
    students: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    teachers: Mapping[str, str] = field(default_factory=dict)
    restored: str = ""
    why_restored: str = ""

    @property
    def digest(self) -> str:
        return digest(self.model, self.slice, self.at)


def withdrawals(work: Workspace) -> tuple[Withdrawal, ...]:
    """All of them, oldest first."""
    path = _path(work)
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ()
    return _read(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def withdrawn(work: Workspace, model: str, slice_key: str) -> Withdrawal | None:
    """The withdrawal of what a model learnt of a slice, or of a slice of a table; ``None`` if there is none."""
    every = withdrawals(work)
    return next((each for each in every if (each.model, each.slice) == (model, slice_key) and not each.restored), None)


def touching(
    work: Workspace, name: str, slice_key: str, created: str, taught_by: Iterable[str] = (), *, kind: str = "student"
) -> Withdrawal | None:
    """The withdrawal that touches a student's or, of the log, a teacher's checkpoint, if one does.

    Args:
        slice_key: of the slice that it learnt from last; it has learnt from all before.
        created: ISO moment at which it was made: what was made after the withdrawal is made anew.
        taught_by: versions of the teachers' checkpoints that supervised it: it may have been under way then.
    """
    teachers = set(taught_by)
    for each in withdrawals(work):
        if each.restored:
            continue
        first = (each.students if kind == "student" else each.teachers).get(name)
        if teachers & set(each.versions) or (first is not None and slice_key >= first and created < each.at):
            return each
    return None


def add(work: Workspace, withdrawal: Withdrawal) -> Withdrawal:
    """Write one down; from then on it holds. Where that slice was withdrawn before, that record is given back."""
    with _changing(work):
        if (before := withdrawn(work, withdrawal.model, withdrawal.slice)) is not None:
            return before
        _write(work, (*withdrawals(work), withdrawal))
    return withdrawal


def give_back(work: Workspace, withdrawal: Withdrawal, *, at: str, why: str) -> Withdrawal:
    """Write down that a slice of the log counts again; the record of its withdrawal stays."""
    restored = replace(withdrawal, restored=at, why_restored=why)
    with _changing(work):
        _write(work, [restored if each == withdrawal else each for each in withdrawals(work)])
    return restored


@contextmanager
def _changing(work: Workspace) -> Iterator[None]:
    path = _path(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(".withdrawing").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(work: Workspace, every: Iterable[Withdrawal]) -> None:
    with atomic_write(_path(work)) as file:
        file.write(json.dumps([asdict(each) for each in every], indent=1).encode())


def _path(work: Workspace) -> Path:
    return work.state.folder / "withdrawals.json"


@lru_cache(maxsize=64)
def _read(path: Path, identity: tuple[int, ...]) -> tuple[Withdrawal, ...]:
    """Damage is an error: what was withdrawn would be learnt again without a word."""
    known = {field.name for field in fields(Withdrawal)}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        read = [{name: value for name, value in each.items() if name in known} for each in plain]
        lists = ("predictions", "versions")
        return tuple(Withdrawal(**{**each, **{name: tuple(each.get(name, ())) for name in lists}}) for each in read)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): restore it, or withdraw again what it held once it is removed; without it "
            "all that was withdrawn would be learnt again"
        ) from error
