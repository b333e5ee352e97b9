"""Releases of an earlier exfm, which kept no history: numbered by age, and none is lost on the way."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline.releases import history
from pipeline.releases.choosing import roll_back
from pipeline.releases.history import history_of, numbered
from pipeline.releases.release import CURRENT, Released, current_release
from pipeline.workspace import Workspace
from tests.graph.test_releases import student_of, told, work

__all__ = ["work"]  # the fixture: three releases


def as_earlier(work: Workspace) -> dict[int, Released]:
    """Leave of the releases what an earlier exfm wrote; what they are by number."""
    student, folder = student_of(work), work.state.release(student_of(work).name)
    known = numbered(history_of(work, student))
    shutil.rmtree(folder / "history")
    plain = json.loads((folder / CURRENT).read_text())
    kept = ("version", "slice", "trained_until", "released_at")
    (folder / CURRENT).write_text(json.dumps({name: plain[name] for name in kept}))
    for number, release in known.items():
        (folder / release.version / "release.json").unlink()
        os.utime(folder / release.version / "manifest.json", (1_000 * number, 1_000 * number))
    return known


def test_they_are_numbered_by_age(work: Workspace) -> None:
    student, known = student_of(work), as_earlier(work)
    assert {number: each.version for number, each in numbered(history_of(work, student)).items()} == {
        number: each.version for number, each in known.items()
    }
    served = current_release(work, student)
    assert served is not None and served.number == 0 and not served.pinned
    assert roll_back(work, student, why="").number == 2
    assert [entry[:2] for entry in told(work)] == [(1, 1), (2, 2), (3, 3), (4, 2)]


@pytest.mark.parametrize("stop", range(5))
def test_a_process_killed_in_the_first_change_loses_none(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    as_earlier(work)
    write, written = history._write, 0

    def killed(path: Path, entry: Released) -> None:
        nonlocal written
        if written == stop:
            raise KeyboardInterrupt
        written += 1
        write(path, entry)

    with monkeypatch.context() as patched:
        patched.setattr(history, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            roll_back(work, student_of(work), why="killed")
    assert [entry[:2] for entry in told(work)] == [(1, 1), (2, 2), (3, 3)]
    assert roll_back(work, student_of(work), why="").number == 2 and told(work)[-1][:2] == (4, 2)
