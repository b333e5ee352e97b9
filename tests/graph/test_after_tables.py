"""After the gate, of releases whose tables are kept in fewer bits, and of canaries that can't be compared."""

import json
import shutil

import pytest

from pipeline.gate.afterwards import look_after
from pipeline.gate.judged_rows import JudgedRows
from pipeline.releases.choosing import roll_back
from pipeline.releases.history import history_of
from pipeline.releases.release import current_release
from pipeline.workspace import Workspace
from tests.graph.after_release import STRICT, TOLERANT, close, declared, released, slice_served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("afterwards")]


def without_newest(work: Workspace) -> None:
    """The newest candidate is gone, so that none takes over from what is looked at."""
    slice_ = work.project.stream.slice_at(3)
    for model in ("student", "control"):
        shutil.rmtree(work.state.checkpoints(f"{model}/{work.project.students[0].name}") / slice_.folder)


def test_what_went_back_in_fewer_bits_is_nothing_to_go_back_to(poisoned: Workspace) -> None:
    student = poisoned.project.students[0]
    released(poisoned, TOLERANT, table="int8")
    close(poisoned)
    strict, of = declared(poisoned, STRICT, table="int8")
    look_after(JudgedRows(strict, "cpu"), of)
    assert slice_served(poisoned) == 1
    released(poisoned, TOLERANT, table="int8")
    roll_back(poisoned, student, why="as a person may")
    assert slice_served(poisoned) == 1


def test_another_kind_of_table_is_no_release_that_could_be_gone_back_to(poisoned: Workspace) -> None:
    without_newest(poisoned)
    released(poisoned, TOLERANT)
    released(poisoned, TOLERANT, table="int8")
    close(poisoned)
    released(poisoned, STRICT, table="int8")
    assert slice_served(poisoned) == 1


def test_a_canary_serves_where_what_serves_cannot_be_compared(sound: Workspace) -> None:
    released(sound, TOLERANT, canary=0.2)
    close(sound)
    work, student = declared(sound, TOLERANT, canary=0.2)
    served = current_release(work, student)
    assert served is not None and served.canary is not None
    path = work.state.release(student.name) / served.version / "manifest.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["encoder"]["device"]["salt"] = "as it was declared before"
    path.write_text(json.dumps(plain), encoding="utf-8")
    released(work, TOLERANT, canary=0.2)
    now = current_release(work, student)
    assert now is not None and now.version == served.canary.version
    assert any("can't be compared" in entry.why for entry in history_of(work, student))
