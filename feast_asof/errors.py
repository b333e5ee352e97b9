"""The one error of a retrieval that can't be answered.

Belongs here: what it is called. Not here: its wording (each check words its own sentence, with the remedy).
"""


class RetrievalError(ValueError):
    """Entity rows, files or a definition that do not fit together: one sentence that names the remedy."""


class NoFilesError(RetrievalError):
    """A source has no files yet."""
