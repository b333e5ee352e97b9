"""Looks at stored teacher predictions: leaks and coverage, recomputed from the files.

Belongs here: what is read back and compared. Not here: the guard that refuses leaks when written.
"""

import polars as pl

from exfm.learning import Teacher
from exfm.stream import Slice
from pipeline.slices.predictions import sound_files
from pipeline.verify.findings import CheckFn, Finding, all_hold
from pipeline.workspace import Workspace


def _files(work: Workspace, teacher: Teacher, slice_: Slice) -> list[str]:
    return [str(path) for path in sound_files(work, teacher, slice_)]


def no_leaks(teacher: Teacher) -> CheckFn:
    """Rows of any run whose checkpoint had seen the impression, or later ones."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        faults, leaks, rows = [], 0, 0
        for slice_ in slices:
            files = _files(work, teacher, slice_)
            if not files:
                continue
            seen = pl.col("trained_until") >= pl.col("event_timestamp")
            early = pl.col("created_timestamp") < pl.col("event_timestamp")
            counts = pl.scan_parquet(files, glob=False).select(pl.len(), (seen | early).sum().alias("leaks")).collect()
            rows += counts["len"].item()
            if counts["leaks"].item():
                leaks += counts["leaks"].item()
                faults.append(
                    f"{slice_.key}: {counts['leaks'].item()} predictions by a checkpoint that saw the impression"
                )
        return all_hold(faults, f"no leak in {rows:,} predictions", leaks=leaks, rows=rows)

    return look


def coverage(teacher: Teacher, least: float = 0.99) -> CheckFn:
    """Share of impressions with a prediction, on every slice that had a checkpoint to score it."""

    def look(work: Workspace, slices: list[Slice]) -> Finding:
        faults, scored, impressions = [], 0, 0
        for slice_ in slices:
            by = teacher.scorer_of(slice_.index)
            if by < 0 or not _had_impressions(work, by):
                continue
            rows, files = work.table("logged_inputs").rows(slice_), _files(work, teacher, slice_)
            stored = pl.scan_parquet(files, glob=False).select(pl.col("impression_id").n_unique()) if files else None
            known = stored.collect().item() if stored is not None else 0
            scored, impressions = scored + known, impressions + rows
            if known < least * rows:
                faults.append(f"{slice_.key}: {known} of {rows} impressions have a prediction, fewer than {least:.0%}")
        share = scored / impressions if impressions else 1.0
        return all_hold(faults, f"{share:.2%} of {impressions:,} impressions have a prediction", coverage=share)

    return look


def _had_impressions(work: Workspace, index: int) -> bool:
    """A stream that begins with empty slices has nothing to train its first checkpoints on."""
    stream = work.project.stream
    slices = (stream.slice_at(position) for position in range(index + 1))
    return any(work.table("impressions").has(slice_) and work.table("impressions").rows(slice_) for slice_ in slices)
