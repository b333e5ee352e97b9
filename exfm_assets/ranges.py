"""Which slices a main job covers.

Belongs here: from what was asked for, and what is stored, to slices. Not here: running it.
"""

from exfm.errors import DeclarationError
from exfm.stream import Slice
from pipeline.workspace import Workspace

AT_LEAST = 14  # slices of a growing log that are looked at again when all are stored


def range_to_run(work: Workspace, requested: str | None = None, *, stored_only: bool = False) -> list[Slice]:
    """The slices to run: those asked for, or all of a closed log, or of a growing one all that may lack something.

    A growing log is caught up from the first slice that is not stored: what a slice is made of lies before it.

    Args:
        requested: ``first...last``, or one key.
        stored_only: what runs reads ``logged_inputs`` and makes none: only slices that have them.

    Raises:
        DeclarationError: if a key is not a slice of the stream, the range ends before it begins, or there is no slice.
    """
    stream = work.project.stream
    if requested:
        first, _, last = requested.partition("...")
        return stream.slices_between(first, last or first)
    if stored_only:
        stored = work.table("logged_inputs").stored(stream)
        if not stored:
            raise DeclarationError("--student: no slice has logged_inputs yet: run `exfm run` without --student first")
        return stored
    now = work.now()
    ended = [slice_ for slice_ in stream.slices(stream.first_slice, min(stream.until or now, now)) if slice_.end <= now]
    if not ended:
        raise DeclarationError(f"Stream.first_slice: no slice since {stream.first_slice} has ended yet: start earlier")
    if stream.until is not None:
        return ended
    stored_keys = {slice_.key for slice_ in work.table("logged_inputs").stored(stream)}
    missing = next((slice_.index for slice_ in ended if slice_.key not in stored_keys), ended[-1].index)
    return ended[min(missing, max(len(ended) - AT_LEAST, 0)) :]
