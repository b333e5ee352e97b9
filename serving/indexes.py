"""Which retriever answers for each student with two towers: made anew beside the one that answers, then swapped.

Belongs here: when one is made anew, faults, swapping. Not here: making it (retrievers.py), releases (releases.py).

A thread of its own makes them, one after the other, and rests between two parts of one for as long as a part took. A
release is ranked with as soon as it is loaded; it is retrieved with when its index is there, and until then by the one
before, tower and index together.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from exfm.project import Project
from exfm.state import State
from feast_asof.errors import RetrievalError
from serving.encoder import Signature
from serving.errors import ReleaseError, RequestError
from serving.features import FeatureReader
from serving.releases import AGAIN_SECONDS, LOOK_SECONDS, Releases, Serving
from serving.retrievers import ITEMS, Retriever, joined_by, known_items, made
from serving.towers import Towers

SHARE = 10  # features are not read again before so many times the time that it takes have gone by
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Made:
    """What the last try was of, when it ended, and what became of it."""

    key: tuple[object, ...]
    at: float
    seconds: float
    fault: str | None


class Indexes:
    """The retrievers of all students that have two towers.

    Args:
        reader_of: features of some columns, read from the store itself.
        schema_of: a release's version -> columns of its request log.
        now: the clock of requests.
        most: items of one index.
        age: seconds after which items' features are read again.

    Attributes:
        on_change: told of each student whose retriever changed, or whose new one failed (with the reason).
    """

    def __init__(
        self,
        project: Project,
        state: State,
        releases: Releases,
        reader_of: Callable[[Signature], FeatureReader],
        schema_of: Callable[[str], pa.Schema],
        now: Callable[[], datetime],
        most: int,
        age: float,
    ) -> None:
        self._project, self._state, self._releases = project, state, releases
        self._reader_of, self._schema_of, self._now = reader_of, schema_of, now
        self._most, self._age = most, age
        self.students = tuple(student.name for student in project.students if student.network.two_sided)
        self.on_change: Callable[[str, Retriever | None, str | None], None] = lambda *_: None
        self._retrievers: dict[str, Retriever] = {}
        self._tries: dict[str, _Made] = {}
        self._joined: dict[str, str] = {}  # why those have none whose towers meet in the project's views
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make them, and follow releases and items; nothing is started where no student has towers."""
        if self.students:
            self._thread = threading.Thread(target=self._follow, name="indexes", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, also in the middle of an index."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def fault(self, student: str) -> str | None:
        """Why the newest index could not be made."""
        tried = self._tries.get(student)
        return None if tried is None else tried.fault

    def find(self, student: str) -> Retriever | None:
        """What answers now."""
        return self._retrievers.get(student)

    def of(self, student: str) -> Retriever:
        """What answers now.

        Raises:
            RequestError: if nothing can: the student has no towers, or its first index is not there.
        """
        if (retriever := self._retrievers.get(student)) is not None:
            return retriever
        serving = self._releases.of(student)
        why = self._joined.get(student)
        if student not in self.students:
            why = "its network has no two towers"
        elif serving is not None and isinstance(serving.model.towers, str):
            why = serving.model.towers
        if why is not None:
            others = [name for name in self.students if name != student]
            remedy = f"ask one of {', '.join(others)}" if others else "declare one with network=TwoTower()"
            raise RequestError(f"student {student} can't retrieve ({why}): {remedy}")
        fault = self.fault(student)
        raise RequestError(f"student {student}: " + (fault or "its index is being made: come again"), 503)

    @property
    def waited_for(self) -> list[str]:
        """Students that are served and whose first index is being made."""
        servings = {name: self._releases.of(name) for name in self.students if name not in self._retrievers}
        return [
            name
            for name, serving in servings.items()
            if serving is not None and isinstance(serving.model.towers, Towers) and self.fault(name) is None
        ]

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # whatever happens to one look, the next one is made
                _log.exception("looking at the indexes failed")

    def look(self) -> None:
        """Make those anew whose release or items changed, or whose features are old."""
        for name in self.students:
            serving = self._releases.of(name)
            if serving is None or not isinstance(serving.model.towers, Towers):
                self._retrievers.pop(name, None)
                continue
            path = self._state.release(name) / ITEMS
            key, tried = (serving.version, _identity(path)), self._tries.get(name)
            if tried is not None and tried.key == key:
                wait = AGAIN_SECONDS if tried.fault else max(self._age, SHARE * tried.seconds)
                if time.monotonic() - tried.at < wait:
                    continue
            self._make(name, serving, serving.model.towers, path, key)

    def _make(self, name: str, serving: Serving, towers: Towers, path: Path, key: tuple[object, ...]) -> None:
        began, fault = time.monotonic(), None
        try:
            if (joined := joined_by(self._project, towers)) is not None:
                self._joined[name] = joined
                self._retrievers.pop(name, None)
                raise ReleaseError(f"it can't retrieve ({joined}): drop that input, or rank with it alone")
            self._joined.pop(name, None)
            stream = self._project.stream
            known = known_items(path, stream.item.name)
            retriever = made(
                self._project, serving, towers, known, self._reader_of, self._schema_of(serving.version), self._most,
                self._now(), self._rest,
            )  # fmt: skip
        except _Stopped:
            return
        except Exception as error:
            known_kind = isinstance(error, ReleaseError | RetrievalError | RequestError)
            fault = str(error) if known_kind else f"{type(error).__name__}: {error}"
            if self.fault(name) != fault:
                kept = "the one before goes on" if name in self._retrievers else "nothing is retrieved"
                _log.error("student %s: its index can't be made, %s: %s", name, kept, fault)
        else:
            self._retrievers[name] = retriever
            _log.info("student %s: an index of %d items answers", name, retriever.index.size)
        self._tries[name] = _Made(key, time.monotonic(), time.monotonic() - began, fault)
        self.on_change(name, self._retrievers.get(name), fault)

    def _rest(self, seconds: float) -> None:
        if self._stop.wait(min(seconds, 1.0)):
            raise _Stopped


class _Stopped(Exception):
    """The server ends."""


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
