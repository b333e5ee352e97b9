"""Which releases answer: each student's pointer is followed; a new release is loaded aside, then swapped in.

Belongs here: following, loading, swapping. Not here: a release's files (model.py), who releases (pipeline/releases/).

A request takes one ``Serving`` and keeps it to its end: its model and its features are of one release. What can't be
loaded is never served: the one before goes on, and why is said. A canary is loaded beside what serves; where it can't
be, what serves answers its users, too.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exfm.learning import Student
from exfm.state import State
from feast_asof.errors import RetrievalError
from serving.arms import CANARY, SERVED
from serving.errors import ReleaseError
from serving.features import FeatureReader
from serving.model import ServedModel

CURRENT = "current.json"
LOOK_SECONDS = 0.25  # between two looks at the pointers: a release is served within a second of its naming
AGAIN_SECONDS = 5.0  # until a release that could not be loaded is tried again: its files may have been mended
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """A student's release as it answers.

    Args:
        arm: ``served``, or ``canary`` where a share of users gets it.
    """

    student: Student
    number: int
    change: int
    model: ServedModel
    reader: FeatureReader
    trained_until: str | None
    since: datetime
    arm: str = SERVED

    @property
    def version(self) -> str:
        return self.model.version


@dataclass(frozen=True)
class Pointer:
    """What ``current.json`` names, and the canary beside it."""

    version: str
    number: int
    change: int
    trained_until: str | None
    canary: "Pointer | None" = None


class Releases:
    """The releases of some students, kept current by a thread.

    Args:
        reader_of: features of a loaded model.

    Attributes:
        on_change: told of each student and arm whose release changed, or whose new one failed (with the reason).
        faults: student -> why its newest release can't be served; ``canary_faults``: the same of its canary.
    """

    def __init__(
        self,
        state: State,
        students: Iterable[Student],
        reader_of: Callable[[ServedModel], FeatureReader],
        threads: int = 1,
    ) -> None:
        self._state, self._reader_of, self._threads = state, reader_of, threads
        self.on_change: Callable[[str, str, Serving | None, str | None], None] = lambda *_: None
        self.students = {student.name: student for student in students}
        self._serving: dict[str, dict[str, Serving]] = {SERVED: {}, CANARY: {}}
        self._faults: dict[str, dict[str, str]] = {SERVED: {}, CANARY: {}}
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._failed_at: dict[str, float] = {}
        self.faults, self.canary_faults = self._faults[SERVED], self._faults[CANARY]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, student: str) -> Serving | None:
        """What a student answers with now; ``None`` before its first release."""
        return self._serving[SERVED].get(student)

    def canary_of(self, student: str) -> Serving | None:
        """What a share of its users gets; ``None`` where nothing is tried."""
        return self._serving[CANARY].get(student)

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
            failed = name in self.faults or name in self.canary_faults
            again = failed and time.monotonic() - self._failed_at[name] >= AGAIN_SECONDS
            if self._seen.get(name) == seen and not again:
                continue
            self._take(name, path)
            self._seen[name] = seen

    def _take(self, name: str, path: Path) -> None:
        try:
            pointer = pointer_of(path)
        except ReleaseError as error:
            self._failed(name, SERVED, str(error))
            return
        self._follow_arm(name, SERVED, pointer)
        if pointer.canary is not None and pointer.canary.version != pointer.version:
            self._follow_arm(name, CANARY, pointer.canary)
            return
        self.canary_faults.pop(name, None)
        if self._serving[CANARY].pop(name, None) is not None:
            _log.info("student %s: no canary any more", name)
            self.on_change(name, CANARY, None, None)

    def _follow_arm(self, name: str, arm: str, pointer: Pointer) -> None:
        serving = self._serving[arm].get(name)
        if serving is not None and serving.version == pointer.version and serving.change == pointer.change:
            self._served(name, serving)
            return
        try:
            model = self._loaded(name, pointer)
            reader = self._reader_of(model)
            reader.probe()
        except Exception as error:
            known = isinstance(error, ReleaseError | RetrievalError)
            self._failed(name, arm, str(error) if known else f"{type(error).__name__}: {error}")
            return
        loaded = Serving(
            self.students[name], pointer.number, pointer.change, model, reader, pointer.trained_until,
            datetime.now(UTC), arm,
        )  # fmt: skip
        self._served(name, loaded)
        _log.info("student %s: release %d (%s) is %s", name, loaded.number, loaded.version, arm)

    def _failed(self, name: str, arm: str, fault: str) -> None:
        said = self._faults[arm].get(name) == fault
        self._faults[arm][name], self._failed_at[name] = fault, time.monotonic()
        if arm == CANARY:
            self._serving[arm].pop(name, None)  # one before it is decided on already
        if said:
            return
        serving = self._serving[arm].get(name)
        kept = "nothing is served" if serving is None else f"release {serving.number} goes on"
        what, kept = ("canary", "its users get what serves") if arm == CANARY else ("new release", kept)
        _log.error("student %s: its %s can't be served, %s: %s", name, what, kept, fault)
        self.on_change(name, arm, serving, fault)

    def _served(self, name: str, serving: Serving) -> None:
        self._serving[serving.arm][name] = serving
        self._faults[serving.arm].pop(name, None)
        self.on_change(name, serving.arm, serving, None)

    def _loaded(self, name: str, pointer: Pointer) -> ServedModel:
        """The release's model, warm; one that is loaded already where only its change or its arm is another."""
        for arm in (SERVED, CANARY):
            serving = self._serving[arm].get(name)
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
        canary = plain.get("canary")
        return replace(_pointer(plain), canary=None if canary is None else _pointer(canary))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path} can't be read ({error}): materialise the student's release again") from error


def _pointer(plain: Mapping[str, Any]) -> Pointer:
    version = str(plain["version"])
    if "/" in version or version.startswith("."):
        raise ValueError(f"version {version!r} is no folder's name")
    return Pointer(version, int(plain.get("number", 0)), int(plain.get("change", 0)), plain.get("trained_until"))
