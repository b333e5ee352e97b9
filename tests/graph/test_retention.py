"""Retention drops weights; what needs them again makes them again, in the same bits, or says what to ask for."""

from dataclasses import replace
from pathlib import Path

import pytest

from exfm.distillation import AuxiliaryHead
from exfm.project import Project, Retention, Upkeep
from exfm_assets.definitions import build_defs
from exfm_assets.plan import Planner
from exfm_assets.plan_words import plan_lines
from models.weights import weights_file
from tests.graph.runs import FIRST, LAST, left_by, run, sentences
from tests.tiny import tiny_project, tiny_workspace


def short(index: int | None = None) -> Project:
    """The tiny project with few weights kept, and one of its students changed."""
    project = tiny_project(retention=Retention(last=1), upkeep=Upkeep(retrain=0))
    students = list(project.students)
    if index is not None:
        students[index] = replace(students[index], distillation=AuxiliaryHead(weight=3.0))
    return replace(project, students=tuple(students))


def learned(left: dict[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in left.items()
        if name.startswith(("checkpoints/", "evaluations/")) and "/parts/" not in name
    }


@pytest.mark.parametrize("index", [pytest.param(0, id="by a head"), pytest.param(1, id="lead-aware")])
@pytest.mark.long
@pytest.mark.slow
def test_a_changed_student_over_a_long_range_is_as_if_it_had_always_been_so(tmp_path: Path, index: int) -> None:
    anew = tiny_workspace(tmp_path / "anew", short(index))
    assert run(anew).success
    work = tiny_workspace(tmp_path / "changed", short())
    assert run(work, FIRST, "2026-01-04").success  # as if it had been stopped before the last slice
    control = work.state.checkpoints(f"control/{work.project.students[index].name}")
    assert weights_file(control / work.project.stream.slice_at(0).folder) is None
    assert run(tiny_workspace(tmp_path / "changed", short(index))).success
    assert learned(left_by(work)) == learned(left_by(anew))
    times = {path: path.stat().st_mtime_ns for path in work.state.folder.rglob("*s.safetensors")}
    assert run(tiny_workspace(tmp_path / "changed", short(index))).success  # and nothing is left to be done again
    assert times == {path: path.stat().st_mtime_ns for path in work.state.folder.rglob("*s.safetensors")}


@pytest.mark.long
@pytest.mark.slow
def test_labels_corrected_in_an_old_slice_are_learned_though_its_weights_are_gone(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, short())
    assert run(work).success
    third = work.project.stream.slice_at(2)
    labels = work.table("labels")
    frame = labels.read([third])
    labels.write(third, frame.with_columns(click=1 - frame["click"]))
    before = learned(left_by(work))
    assert run(work, select='key:"student/*"').success
    now = learned(left_by(work))
    differ = {name.split("slice=")[1][:10] for name in before if now.get(name) != before[name]}
    assert differ == {"2026-01-03", "2026-01-04", "2026-01-05"}


@pytest.mark.long
@pytest.mark.slow
def test_a_plan_reaches_back_to_the_weights_that_it_continues(tmp_path: Path) -> None:
    """A correction of the second slice, whose predecessor's weights are dropped: the planned range can be run."""
    work = tiny_workspace(tmp_path, short())
    assert run(work).success
    second, stream = work.project.stream.slice_at(1), work.project.stream
    frame = work.table("labels").read([second])
    work.table("labels").write(second, frame.with_columns(click=1 - frame["click"]))
    graph = build_defs(work).resolve_asset_graph()
    keys = [key for key in graph.toposorted_asset_keys if key.path[0] in ("teacher", "student")]
    late = [stream.slice_at(index) for index in range(1, 5)]
    plan = Planner(work, graph).plan(late, keys)
    assert {step.key.to_user_string(): step.restored for step in plan.steps}["student/feed_click/checkpoint"] == (0,)
    assert any("once more, for retention dropped the weights" in line for line in plan_lines(plan))
    first, last = plan.range
    assert (first.key, last.key) == (FIRST, LAST)
    done = run(work, first.key, last.key, select='key:"teacher/*" or key:"student/*"')
    assert done.success, sentences(done)
    assert Planner(work, graph).plan(late, keys).is_empty


@pytest.mark.long
@pytest.mark.slow
def test_what_was_not_asked_for_is_named(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, short())
    assert run(work).success
    changed = tiny_workspace(tmp_path, short(1))
    alone = run(changed, select='key:"student/feed_convert/checkpoint"')
    messages = sentences(alone)
    assert any("materialise student/feed_convert/control along with it" in message for message in messages), messages
    frame = work.table("labels").read([work.project.stream.slice_at(3)])
    work.table("labels").write(work.project.stream.slice_at(3), frame.with_columns(click=1 - frame["click"]))
    late = run(work, "2026-01-04", LAST, select='key:"student/feed_click/*"')
    messages = sentences(late)
    assert any(f"materialise from slice {FIRST} on" in message for message in messages), messages


@pytest.mark.long
@pytest.mark.slow
def test_what_went_ahead_keeps_the_weights_that_the_other_needs_yet(tmp_path: Path) -> None:
    """Killed at a bad moment, a student stood at its first slice while its control had gone on to the last."""
    work = tiny_workspace(tmp_path / "ahead", short())
    student = 'key:"student/feed_convert/checkpoint" or key:"student/feed_convert/evaluation"'
    assert run(work, select=f"not ({student} or group:studies)").success
    assert run(work, select=student).success
    stored = [path.parent.name for path in sorted(work.state.evaluations("feed_convert").glob("slice=*/part.parquet"))]
    assert stored[-1] == f"slice={LAST}"
    control = work.state.checkpoints("control/feed_convert")
    assert run(work).success
    kept = sorted(path.parent.name for path in control.glob("slice=*/*s.safetensors"))
    assert f"slice={FIRST}" not in kept  # nobody needs them now
