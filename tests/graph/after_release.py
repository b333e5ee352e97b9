"""A student that learnt from a slice with flipped labels, or did not; its releases, one at a time.

Belongs here: making such worlds, and what a test asks of them. Not here: tests (test_rollback.py, test_canaries.py).
"""

import shutil
from dataclasses import replace
from typing import Any

from exfm.learning import Gate, Student
from exfm.serving import Serving
from pipeline.gate.releasing import release_candidate
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.releases.history import changing, history_of
from pipeline.releases.publishing import publish
from pipeline.releases.release import Released, current_release
from pipeline.releases.verdict import Verdict
from pipeline.workspace import Workspace

TOLERANT = Gate(tolerance=1.0, judged_rows=300, calibration=10.0, rows=300)
STRICT = replace(TOLERANT, tolerance=0.0)
TRAIN = 'key:"student/feed_click/checkpoint" or key:"student/feed_click/control"'


def flip(work: Workspace, index: int) -> None:
    """Clicks of a slice become no clicks, and the other way round."""
    table, slice_ = work.table("labels"), work.project.stream.slice_at(index)
    frame, before = table.read([slice_]), table.sidecar(slice_)
    assert before is not None
    table.write(slice_, frame.with_columns(click=1 - frame["click"]), before.made_of, before.log, before.notes)


def quick(work: Workspace) -> Workspace:
    """The first student learns enough of a slice of some hundred rows to be better, or much worse, after it."""
    first, *others = work.project.students
    training = replace(first.training, batch_size=8, learning_rate=0.005)
    changed = replace(
        first, inputs=("user_id", "item_id", "device"), training=training, distillation=None, teacher=None
    )
    return replace(work, project=replace(work.project, students=(changed, *others)))


def began(work: Workspace) -> Workspace:
    """The checkpoint of slice 1 serves, and the labels of slice 4 are not closed yet."""
    student, slice_ = work.project.students[0], work.project.stream.slice_at(1)
    shutil.rmtree(work.state.release(student.name))
    with changing(work, student):
        publish(work, student, slice_, CheckpointStore.of(work, student).manifest(slice_).version, "cpu")
    hide(work)
    return work


def hide(work: Workspace) -> None:
    folder = work.state.table("labels")
    (folder / work.project.stream.slice_at(4).folder).rename(folder / "aside")


def close(work: Workspace) -> None:
    """The labels of slice 4 come."""
    folder = work.state.table("labels")
    (folder / "aside").rename(folder / work.project.stream.slice_at(4).folder)


def declared(work: Workspace, gate: Gate, **serving: Any) -> tuple[Workspace, Student]:
    first, *others = work.project.students
    student = replace(first, gate=gate, serving=Serving(**serving))
    return replace(work, project=replace(work.project, students=(student, *others))), student


def released(work: Workspace, gate: Gate, **serving: Any) -> tuple[Verdict, Released]:
    """Materialise the release of a student that is declared so."""
    verdict, served = release_candidate(*declared(work, gate, **serving), "cpu")
    assert served is not None
    return verdict, served


def story(work: Workspace) -> list[tuple[str, int, int | None]]:
    """Action, what serves then, its canary."""
    entries = history_of(work, work.project.students[0])
    return [(each.action, each.number, each.canary and each.canary.number) for each in entries]


def slice_served(work: Workspace) -> int:
    served = current_release(work, work.project.students[0])
    assert served is not None
    return work.project.stream.slice_of(served.slice).index
