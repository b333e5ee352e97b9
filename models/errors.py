"""The errors of models/, each one sentence that names the thing, the value and the remedy.

Belongs here: the error types. Not here: what raises them.
"""


class LearningError(ValueError):
    """A slice, a network or a step that can't be learnt from or scored with."""


class CheckpointError(ValueError):
    """A checkpoint that can't be trusted: missing, damaged, or of another declaration."""


class DamagedError(CheckpointError):
    """A checkpoint whose files are not what was written: made again under the same version, it is as it was."""
