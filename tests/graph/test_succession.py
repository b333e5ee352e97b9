"""A new teacher beside the one that teaches: it backfills itself, nobody waits for it, it takes over once it leads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm import Succession, Teacher, Training
from exfm.errors import DeclarationError
from exfm.project import Project
from exfm_assets.plan import Planner
from models.metrics import normalised_entropy
from pipeline.gate.succession import judge_succession
from pipeline.registry.plain_manifests import read_manifest
from pipeline.slices.predictions import files_of
from pipeline.slices.teaching import TAKES_OVER, WAITS, read_takeover, teaching
from tests.graph.scene import Scene, scene_project
from tests.tiny import tiny_project

CHECKPOINT, CONTROL = "student/feed_click/checkpoint", "student/feed_click/control"
TAKEOVER = "teacher/larger/takeover"
SUCCESSION = Succession(teacher="large", slices=2, rows=300)


def stuck_project() -> Project:
    """The scene's, whose teacher hardly learns."""
    project = scene_project()
    training = replace(project.teachers[0].training, learning_rate=1e-9, table_learning_rate=1e-9)
    return replace(project, teachers=(replace(project.teachers[0], training=training),))


def with_heir(project: Project, succession: Succession = SUCCESSION, training: Training | None = None) -> Project:
    training = training or scene_project().teachers[0].training
    heir = replace(project.teachers[0], name="larger", training=training, succeeds=succession)
    return replace(project, teachers=(*project.teachers, heir))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(Path(tmp_path_factory.mktemp("succession")), stuck_project()).land(*range(4)).day(4.6)
    assert not scene.settle().failed
    return scene


def taught_by(scene: Scene, index: int) -> set[str]:
    """Names of the teachers whose checkpoints a student's slice was taught by."""
    stream, work = scene.project.stream, scene.work
    manifest = read_manifest(work, "student/feed_click", stream.slice_at(index)) or {}
    by = {
        (read_manifest(work, f"teacher/{teacher.name}", stream.slice_at(at)) or {}).get("version"): teacher.name
        for teacher in scene.project.teachers for at in range(index + 1)
    }  # fmt: skip
    return {by[version] for version in manifest["teacher_checkpoints"]}


@pytest.mark.slow
def test_a_better_teacher_takes_over_from_the_slice_under_way(settled: Scene) -> None:
    scene = settled
    before = {at: read_manifest(scene.work, "student/feed_click", scene.project.stream.slice_at(at)) for at in range(4)}
    scene.declare(with_heir(scene.project))
    plan = Planner(scene.work, scene.defs.resolve_asset_graph()).plan(
        [scene.project.stream.slice_at(at) for at in range(4)],
        scene.defs.resolve_asset_graph().get_all_asset_keys(),
    )
    # Nobody learns anything again; releases are only looked at.
    assert not [step for step in plan.steps if step.key.path[0] == "student" and step.has_slices]
    story = scene.settle(20)
    assert not story.failed and not story.twice.keys() - {"student_progress"}
    assert story.made["teacher/larger/checkpoint"] == scene.keys(*range(4))
    assert story.made["teacher/larger/predictions"] == scene.keys(1, 2, 3)  # nobody scores the first
    assert not story.asked_of(CHECKPOINT) and not story.asked_of("student/feed_click/evaluation")
    heir = scene.project.teacher("larger")
    takeover = read_takeover(scene.work, heir)
    assert takeover is not None and takeover.outcome == TAKES_OVER, takeover
    assert takeover.since == scene.key(4) and takeover.slices == (scene.key(2), scene.key(3))
    assert "larger teaches from slice" in takeover.reason
    story = scene.land(4).day(5.6).settle(20)
    assert not story.failed and scene.keys(4) == story.made[CHECKPOINT] == story.made[CONTROL]
    assert taught_by(scene, 3) == {"large"} and taught_by(scene, 4) == {"larger"}
    assert teaching(scene.work, "large", 3).name == "large" and teaching(scene.work, "large", 4).name == "larger"
    assert before == {
        at: read_manifest(scene.work, "student/feed_click", scene.project.stream.slice_at(at)) for at in range(4)
    }
    assert not scene.stale(CHECKPOINT)
    # It stays, whatever comes later: nothing is judged again.
    assert judge_succession(scene.work, heir) == takeover
    # Its students wait for it alone: the old one may fail.
    for path in files_of(scene.work, scene.project.teacher("large"), scene.project.stream.slice_at(4)):
        path.unlink()
    assert not scene.stale(CHECKPOINT)


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_without_a_lead_waits_and_nobody_waits_for_it(tmp_path: Path) -> None:
    project = scene_project()
    same = project.teachers[0].training
    scene = Scene(tmp_path, with_heir(project, training=same)).land(*range(4)).day(4.6)
    story = scene.settle(20)
    assert not story.failed
    takeover = read_takeover(scene.work, scene.project.teacher("larger"))
    assert takeover is not None and takeover.outcome == WAITS and takeover.since is None
    assert "lead is not proven" in takeover.reason  # the same network on the same rows: level
    assert taught_by(scene, 3) == {"large"}
    # Its figures, from the files and labels alone.
    frames = []
    for at in (2, 3):
        slice_ = scene.project.stream.slice_at(at)
        labels = scene.work.table("labels").read([slice_])
        for name in ("large", "larger"):
            scores = pl.read_parquet(files_of(scene.work, scene.project.teacher(name), slice_)[-1])
            labels = labels.join(scores.select("impression_id", pl.col("click_logit").alias(name)), on="impression_id")
        frames.append(labels.drop_nulls("click"))
    rows = pl.concat(frames)
    truth = rows["click"].cast(pl.Float64).to_numpy()
    ne = {name: normalised_entropy(rows[name].to_numpy().astype(np.float64), truth) for name in ("large", "larger")}
    compared = next(each for each in takeover.compared if each.task == "click")
    assert compared.rows == rows.height
    assert compared.difference == pytest.approx(ne["larger"] / ne["large"] - 1, abs=1e-6)
    # A worse one is named as such.
    worse = replace(same, learning_rate=1e-9, table_learning_rate=1e-9)
    scene.declare(with_heir(project, training=worse))
    assert not scene.settle(20).failed
    takeover = read_takeover(scene.work, scene.project.teacher("larger"))
    assert takeover is not None and takeover.since is None and "larger is worse" in takeover.reason


def heir(name: str, of: str, **changes: object) -> Teacher:
    return replace(tiny_project().teachers[0], name=name, succeeds=Succession(teacher=of), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("heirs", "said"), [
    ([heir("b", "nobody")],
     "Teacher(b).succeeds: 'nobody' is not a declared teacher: use one of 'large', or declare it"),
    ([heir("b", "b")],
     "Teacher(b).succeeds: 'b' is not a declared teacher: use one of 'large', or declare it"),
    ([heir("b", "large"), heir("c", "large")],
     "Teacher(c).succeeds: 'large' is succeeded by 'b' already: let this one succeed 'b'"),
    ([heir("b", "c"), heir("c", "b")],
     "Teacher(b).succeeds: it would succeed itself in the end: drop one succession"),
    ([heir("b", "large", tasks=("click",))],
     "Teacher(b).succeeds: 'large' predicts 'convert' and this one does not: add it to its tasks"),
])  # fmt: skip
def test_a_succession_that_can_not_be_is_refused(heirs: list[Teacher], said: str) -> None:
    project = tiny_project()
    with pytest.raises(DeclarationError) as refused:
        replace(project, teachers=(*project.teachers, *heirs))
    assert str(refused.value) == said


def test_a_line_of_three_and_a_student_that_names_two_of_it() -> None:
    project = tiny_project()
    longer = replace(project, teachers=(*project.teachers, heir("c", "b"), heir("b", "large")))
    assert [teacher.name for teacher in longer.line_of("large")] == ["large", "b", "c"]
    named = tuple(replace(student, teacher=("large", "c")) for student in project.students)
    with pytest.raises(DeclarationError, match="'c' succeeds 'large', so it would teach twice: name one of them"):
        replace(longer, students=named)
