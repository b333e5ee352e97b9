"""Judging whether a teacher takes over from another: both scored the same rows before they had seen them.

Belongs here: on which slices, the rule, the sentence. Not here: the intervals (comparison.py), the record and who
teaches by it (slices/teaching.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from exfm.columns import ScoreColumns
from exfm.declaration import digest
from exfm.learning import Succession, Teacher
from exfm.stream import Slice
from models.metrics import row_losses
from pipeline.gate.candidate import user_codes
from pipeline.gate.comparison import Resampled
from pipeline.gate.drawing import drawn
from pipeline.registry.plain_manifests import manifests_of
from pipeline.slices.beside import ID
from pipeline.slices.predictions import files_of, scored_by, scored_slices, sound_files
from pipeline.slices.teaching import TAKES_OVER, WAITS, Compared, Takeover, read_takeover, write_takeover
from pipeline.workspace import Workspace

WEIGHT = "weight of the row"  # no declared name has a blank
MOST_ROWS = 2**22  # of all slices that are judged, some 100 bytes each; of more labelled ones, some are drawn


def judge_succession(work: Workspace, teacher: Teacher) -> Takeover:
    """Whether a teacher's lead is proven; once it is, that stands. What is judged is stored.

    Args:
        teacher: one that succeeds another.

    Raises:
        DataError: if labels or predictions are damaged.
    """
    succession = teacher.succeeds
    assert succession is not None
    stored = read_takeover(work, teacher)
    if stored is not None and stored.since is not None:
        return stored
    slices = _judged(work, teacher, succession)
    both = (work.project.teacher(succession.teacher), teacher)
    scored = [[slice_.key, *(scored_by(work, each, slice_) for each in both)] for slice_ in slices]
    made_of = digest(succession, scored, [work.table("labels").digest(slice_) for slice_ in slices])
    if stored is not None and stored.made_of == made_of:
        return stored
    takeover = _decided(work, teacher, succession, slices)
    takeover = replace(takeover, made_of=made_of, decided_at=work.now().isoformat())
    write_takeover(work, teacher, takeover)
    return takeover


def _judged(work: Workspace, teacher: Teacher, succession: Succession) -> list[Slice]:
    """The newest slices with labels that both have scored, oldest first."""
    theirs = {slice_.index for slice_ in scored_slices(work, work.project.teacher(succession.teacher))}
    labels = work.table("labels")
    stored = [slice_ for slice_ in scored_slices(work, teacher) if slice_.index in theirs and labels.has(slice_)]
    return stored[-succession.slices :]


def _decided(work: Workspace, teacher: Teacher, succession: Succession, slices: Sequence[Slice]) -> Takeover:
    keys, old = tuple(slice_.key for slice_ in slices), succession.teacher

    def waits(why: str, compared: tuple[Compared, ...] = ()) -> Takeover:
        return Takeover(WAITS, f"{old} goes on teaching: {why}", old, None, keys, compared)

    if len(slices) < succession.slices:
        return waits(f"both have scored {len(slices)} labelled slices, and {succession.slices} are judged")
    share = _share(work, succession, slices)
    compared = tuple(_compared(work, teacher, succession, slices, share))
    rows = int(max((each.rows for each in compared), default=0) / share)
    if rows < succession.rows:
        return waits(f"{rows:,} labelled rows that both have scored, and {succession.rows:,} are needed")
    said = ", ".join(map(str, compared)) + f" against {old} in slices {keys[0]} to {keys[-1]}"
    said += "" if share == 1 else f", drawn by chance from some {rows:,} rows"
    if any(each.low > 0 for each in compared):
        return waits(f"{teacher.name} is worse: {said}", compared)
    if not any(each.high < -succession.lead for each in compared):
        more = f" of more than {100 * succession.lead:.3g} %" if succession.lead else ""
        return waits(f"{teacher.name}'s lead{more} is not proven: {said}", compared)
    since = _first_taught(work, succession).key
    return Takeover(TAKES_OVER, f"{teacher.name} teaches from slice {since} on: {said}", old, since, keys, compared)


def _first_taught(work: Workspace, succession: Succession) -> Slice:
    """The slice under way, or the one after the newest that a student has learnt: nothing is learnt again."""
    stream = work.project.stream
    now = work.now() if stream.until is None else min(work.now(), stream.until)
    learnt = [
        slice_.index
        for student in work.project.students
        if any(succession.teacher in {each.name for each in work.project.line_of(name)} for name in student.teachers)
        for slice_ in manifests_of(work, f"student/{student.name}")
    ]
    return stream.slice_at(max(stream.index_at(now), *(index + 1 for index in learnt), 0))


def _share(work: Workspace, succession: Succession, slices: Sequence[Slice]) -> float:
    """How many of the labelled rows are judged."""
    tasks, labels = work.project.teacher(succession.teacher).tasks, work.table("labels")
    parts = (part for slice_ in slices for part in labels.parts(slice_, tasks))
    labelled = sum(int(part.select(pl.any_horizontal(pl.all().is_not_null()).sum()).item()) for part in parts)
    return min(1.0, max(MOST_ROWS, succession.rows) / max(labelled, 1))


def _compared(
    work: Workspace, teacher: Teacher, succession: Succession, slices: Sequence[Slice], share: float
) -> Iterator[Compared]:
    """Each task of the old teacher, on the rows that both have scored and whose label is known."""
    old = work.project.teacher(succession.teacher)
    frame = pl.concat([_rows(work, old, teacher, slice_, share) for slice_ in slices])
    confidence = 1 - (1 - succession.confidence) / len(old.tasks)  # Bonferroni
    for task in old.tasks:
        known = frame.drop_nulls([task, f"{task} old", f"{task} new"])
        labels = known[task].cast(pl.Float64).to_numpy()
        if not 0 < labels.sum() < len(labels):
            continue
        weights = known[WEIGHT].to_numpy()
        base, mine = (weights * row_losses(known[f"{task} {which}"].to_numpy(), labels) for which in ("old", "new"))
        groups = user_codes(known["user"]).to_numpy() if succession.by == "user" else np.arange(known.height)
        found = Resampled(groups, seed=0).ratio(mine - base, base, confidence)
        yield Compared(task, known.height, found.value, found.low, found.high, confidence)


def _rows(work: Workspace, old: Teacher, new: Teacher, slice_: Slice, share: float) -> pl.DataFrame:
    """User, labels, weight and both teachers' logits of a slice's labelled impressions, of a share of them."""
    user, weight = work.project.stream.user.name, work.project.stream.weight
    named = {} if weight is None else {weight: WEIGHT}
    known = pl.any_horizontal(pl.col(old.tasks).is_not_null())
    labels = (part.filter(known) for part in work.table("labels").parts(slice_, [ID, *old.tasks, *named]))
    told = pl.concat(part if share == 1 else part.filter(pl.Series(drawn(part[ID], share))) for part in labels)
    told = told.rename(named) if named else told.with_columns(pl.lit(1.0).alias(WEIGHT))
    shown = work.table("impressions").parts(slice_, [ID, user])
    rows = pl.concat(part.join(told, on=ID, how="inner", maintain_order="left") for part in shown)
    rows = rows.rename({user: "user"})
    for teacher, which in ((old, "old"), (new, "new")):
        sound_files(work, teacher, slice_)
        logits = {ScoreColumns(task).logit: f"{task} {which}" for task in old.tasks}
        newest = files_of(work, teacher, slice_)[-1]
        scores = pl.scan_parquet(newest, hive_partitioning=False, glob=False).select(ID, *logits).rename(logits)
        mine = scores.join(rows.lazy().select(ID), on=ID, how="semi").collect(engine="streaming")
        rows = rows.join(mine, on=ID, how="left")
    return rows
