"""The errors of serving/, each one sentence that names the thing, the value and the remedy.

Belongs here: the error types. Not here: what raises them.
"""


class RequestError(ValueError):
    """A request that can't be answered as it is: its sender has to change it.

    Args:
        status: of HTTP.
    """

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


class ReleaseError(ValueError):
    """A release that can't be served: missing, damaged, or of another format."""
