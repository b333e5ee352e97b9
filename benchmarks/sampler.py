"""Where wall time goes: the main thread's stack, looked at every few milliseconds, and put into rooms.

Belongs here: sampling and classifying. Not here: what is run.

A sample counts for the time since the one before it, so that a long native call, during which no sample can be
taken, is charged to the stack that made it.
"""

import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

# The innermost frame that matches says where the time goes; the first rule that fits a frame wins.
RULES = (
    ("feast", ("feast", "feature_repo")),
    (
        "training",
        ("models", "torch", "pipeline.training", "pipeline.registry", "pipeline.slices", "pipeline.transforms.inputs"),
    ),
    ("i/o", ("pipeline.tables", "pipeline.streams.reader", "pipeline.verify")),
    ("transforms", ("pipeline.transforms", "pipeline.streams")),
    ("report", ("pipeline.report", "jinja2", "vl_convert")),
    ("dagster", ("dagster", "sqlalchemy", "alembic", "exfm_assets")),
)
IMPORTS = "imports"


def rooms() -> tuple[str, ...]:
    return (*dict.fromkeys(room for room, _ in RULES), IMPORTS, "other")


def classify(modules: Iterator[str]) -> str:
    """The room of a stack, given its modules from the innermost frame outwards."""
    result = None
    for module in modules:
        if module.startswith("importlib._bootstrap"):
            return IMPORTS
        if result is None:
            result = next((room for room, names in RULES if any(_within(module, name) for name in names)), None)
    return result or "other"


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _modules(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back


class Sampler:
    """Samples the thread that made it until it is left."""

    def __init__(self, interval: float = 0.005) -> None:
        self.seconds = dict.fromkeys(rooms(), 0.0)
        self._interval, self._stop = interval, threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Sampler":
        self._last = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            stack = sys._current_frames().get(self._watched)
            now = time.perf_counter()
            self.seconds[classify(_modules(stack))] += now - self._last
            self._last = now
