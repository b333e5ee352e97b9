"""The slices of a run, by its tags.

Belongs here: from tags to slices, and to words. Not here: which slices a run should have (range_runs.py).
"""

from collections.abc import Collection

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from exfm.errors import DeclarationError
from exfm.stream import Stream


def slices_of_run(stream: Stream, run: dg.DagsterRun) -> frozenset[int] | None:
    """Indices; ``None`` for a run without slices. Empty if the stream was declared otherwise since."""
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, run.tags.get(PARTITION_NAME_TAG))
    if first is None:
        return None
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG, first)
    try:
        return frozenset(range(stream.slice_of(first).index, stream.slice_of(last).index + 1))
    except DeclarationError:
        return frozenset()


def in_words(stream: Stream, slices: Collection[int]) -> str | None:
    """``first...last`` of some slices, one key of one, ``None`` of none."""
    if not slices:
        return None
    first, last = stream.slice_at(min(slices)).key, stream.slice_at(max(slices)).key
    return first if first == last else f"{first}...{last}"
