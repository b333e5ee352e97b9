"""What of the request log a slice is made of: which of its impressions were answered.

Belongs here: a digest of those, and the files that were looked at. Not here: what else a slice is made of
(slices/provenance.py).

A row of the request log never changes, and its impression's id names it. So the digest is of ids: that a spool becomes
a file, or that another slice's answers come, changes nothing. A spool that is found late makes those slices stale whose
impressions it has, once. A day that is deleted as a whole makes none stale.
"""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl

from exfm.stream import Slice
from pipeline.served.files import ID, TIME, digest_of_files, looked_at
from pipeline.served.rows import CLOCKS, served_rows
from pipeline.sidecar import LogFile, Sidecar
from pipeline.workspace import Workspace

REQUEST_LOG = "request_log"  # in what a slice is made of, and among the files that it looked at
FILES = "*"  # among those: ServedInputs.within, and all files that may hold a request of the slice
Files = Mapping[str, Mapping[str, LogFile]]
MOST_KNOWN = 1_000
_known: dict[tuple[Path, str, int, str | None, str], str | None] = {}


def served_of(work: Workspace, slice_: Slice, before: Sidecar | None = None) -> tuple[Mapping[str, str], Files]:
    """The request log among what a slice is made of, and its files; nothing where no impression was answered.

    Args:
        before: of the slice as it is stored: where there is no file that it has not looked at, it still holds.
    """
    declared, folder = work.project.served, work.state.requests
    if declared is None:
        return {}, {}
    window, within = (slice_.start - declared.within, slice_.end + CLOCKS), declared.within // timedelta(microseconds=1)
    listed = looked_at(folder, *window)
    then = {} if before is None else before.log.get(REQUEST_LOG, {})
    holds = listed.items() <= then.items() and then.get(FILES, (within,))[0] == within
    if before is not None and (holds or not work.table("impressions").sound(slice_)):
        return _named(before.made_of.get(REQUEST_LOG)), _files(then)
    listed[FILES] = (within, 0, digest_of_files(folder, *window))
    if before is not None and listed[FILES] == then.get(FILES):
        return _named(before.made_of.get(REQUEST_LOG)), _files(listed)
    key = (folder, slice_.key, within, listed[FILES][2], work.table("impressions").digest(slice_))
    if key not in _known:  # both tables of a slice ask, and each tick of the automation
        _known[key] = _digest(work, slice_)
        while len(_known) > MOST_KNOWN:
            _known.pop(next(iter(_known)))
    return _named(_known[key]), _files(listed)


def _digest(work: Workspace, slice_: Slice) -> str | None:
    """Of the ids of impressions that were answered, in their order; ``None`` if none was."""
    declared, item = work.project.served, work.project.stream.item.name
    assert declared is not None
    hashed, rows = hashlib.sha256(), 0
    for part in work.table("impressions").parts(slice_, [ID, TIME, item]):
        found = served_rows(work, declared, part, [])
        if found.rows:
            ids = pl.concat([group[ID] for group in found.groups])
            hashed.update(part[ID].filter(part[ID].is_in(ids.implode())).to_numpy().tobytes())
            rows += found.rows
    return hashed.hexdigest()[:12] if rows else None


def _named(digest: str | None) -> Mapping[str, str]:
    return {} if digest is None else {REQUEST_LOG: digest}


def _files(files: Mapping[str, LogFile]) -> Files:
    return {REQUEST_LOG: files} if files.keys() - {FILES} else {}
