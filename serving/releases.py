"""Which releases answer: each student's pointer is followed; a new release is loaded aside, then swapped in.

Belongs here: following, loading, swapping. Not here: a release's files (model.py), who releases (pipeline/releases/).

A request takes one ``Serving`` and keeps it to its end: its model and its features are of one release. What can't be
loaded is never served: the one before goes on, and why is said.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exfm.learning import Student
from exfm.state import State
from feast_asof.errors import RetrievalError
from serving.errors import ReleaseError
from serving.features import FeatureReader
from serving.model import ServedModel

CURRENT = "current.json"
LOOK_SECONDS = 0.25  # between two looks at the pointers: a release is served within a second of its naming
AGAIN_SECONDS = 5.0  # until a release that could not be loaded is tried again: its files may have been mended
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """A student's release as it answers."""

    student: Student
    number: int
    change: int
    model: ServedModel
    reader: FeatureReader
    trained_until: str | None
    since: datetime

    @property
    def version(self) -> str:
        return self.model.version


@dataclass(frozen=True)
class Pointer:
    """What ``current.json`` names."""

    version: str
    number: int
    change: int
    trained_until: str | None


class Releases:
    """The releases of some students, kept current by a thread.

    Args:
        reader_of: features of a loaded model.

    Attributes:
        on_change: told of each student whose release changed, or whose new one failed (with the reason).
    """

    def __init__(
        self,
        state: State,
        students: Iterable[Student],
        reader_of: Callable[[ServedModel], FeatureReader],
        threads: int = 1,
    ) -> None:
        self._state, self._reader_of, self._threads = state, reader_of, threads
        self.on_change: Callable[[str, Serving | None, str | None], None] = lambda *_: None
        self.students = {student.name: student for student in students}
        self._serving: dict[str, Serving] = {}
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._failed_at: dict[str, float] = {}
        self.faults: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, student: str) -> Serving | None:
        """What a student answers with now; ``None`` before its first release."""
        return self._serving.get(student)

    def start(self) -> None:
        """Load what is released now, then follow."""
        self.look()
        self._thread = threading.Thread(target=self._follow, name="releases", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # whatever happens to one look, the next one is made
                _log.exception("looking at the releases failed")

    def look(self) -> None:
        """Follow each pointer that changed since it was looked at."""
        for name in self.students:
            path = self._state.release(name) / CURRENT
            try:
                found = path.stat()
                seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            except FileNotFoundError:
                continue
            again = name in self.faults and time.monotonic() - self._failed_at[name] >= AGAIN_SECONDS
            if self._seen.get(name) == seen and not again:
                continue
            self._take(name, path)
            self._seen[name] = seen

    def _take(self, name: str, path: Path) -> None:
        serving = self._serving.get(name)
        try:
            pointer = pointer_of(path)
            if serving is not None and serving.version == pointer.version and serving.change == pointer.change:
                self._served(name, serving)
                return
            model = self._loaded(name, pointer, serving)
            reader = self._reader_of(model)
            reader.probe()
            loaded = Serving(
                self.students[name], pointer.number, pointer.change, model, reader, pointer.trained_until,
                datetime.now(UTC),
            )  # fmt: skip
        except Exception as error:
            fault = (
                str(error) if isinstance(error, ReleaseError | RetrievalError) else f"{type(error).__name__}: {error}"
            )
            said = self.faults.get(name) == fault
            self.faults[name], self._failed_at[name] = fault, time.monotonic()
            if said:
                return
            kept = "nothing is served" if serving is None else f"release {serving.number} goes on"
            _log.error("student %s: its new release can't be served, %s: %s", name, kept, fault)
            self.on_change(name, serving, fault)
            return
        self._served(name, loaded)
        _log.info("student %s: release %d (%s) is served", name, loaded.number, loaded.version)

    def _served(self, name: str, serving: Serving) -> None:
        self._serving[name] = serving
        self.faults.pop(name, None)
        self.on_change(name, serving, None)

    def _loaded(self, name: str, pointer: Pointer, serving: Serving | None) -> ServedModel:
        """The release's model, warm; the same one where only its change has another number."""
        if serving is not None and serving.version == pointer.version:
            return serving.model
        model = ServedModel(self._state.release(name) / pointer.version, self._threads)
        if model.version != pointer.version:
            raise ReleaseError(f"{model.folder}: it is release {model.version}: release it again")
        model.warm()
        return model


def pointer_of(path: Path) -> Pointer:
    """What a pointer names.

    Raises:
        ReleaseError: if it can't be read.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        version = str(plain["version"])
        if "/" in version or version.startswith("."):
            raise ValueError(f"version {version!r} is no folder's name")
        return Pointer(version, int(plain.get("number", 0)), int(plain.get("change", 0)), plain.get("trained_until"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path} can't be read ({error}): materialise the student's release again") from error
