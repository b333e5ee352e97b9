"""A declaration that only grew: inputs are added, in whatever place, and nothing else is other than it was."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from exfm.distillation import AuxiliaryHead
from exfm.learning import Gate, Student, Teacher
from exfm.log_columns import Column
from exfm.networks import DCNv2
from exfm.project import Project
from pipeline.registry.growth import has_grown
from pipeline.registry.lineage import Declared, declared_of
from tests.tiny import tiny_project

TINY = tiny_project()
MORE = ("device", "item_activity:convert_1d")


def teacher(**changes: Any) -> Teacher:
    return replace(TINY.teachers[0], inputs=("user_id", "item_id", "surface", "item_activity:click_1d"), **changes)


def with_inputs(*inputs: str, **changes: Any) -> Teacher:
    return replace(teacher(), inputs=inputs, **changes)


def grew(now: Teacher | Student, project: Project = TINY, then: Teacher | Student | None = None) -> bool:
    return has_grown(declared_of(TINY, then or teacher()), declared_of(project, now))


@pytest.mark.parametrize("inputs", [
    (*teacher().inputs, *MORE),
    (*MORE, *teacher().inputs),
    ("user_id", "device", "item_id", "surface", "item_activity:convert_1d", "item_activity:click_1d"),
    (*teacher().inputs, "user_activity", "user_history"),
    teacher().inputs,
], ids=len)  # fmt: skip
def test_more_inputs_are_growth(inputs: tuple[str, ...]) -> None:
    assert grew(with_inputs(*inputs))


@pytest.mark.parametrize("now", [
    with_inputs("user_id", "item_id", "surface", *MORE),
    with_inputs("item_id", "user_id", "surface", "item_activity:click_1d", *MORE),
    with_inputs(*teacher().inputs, *MORE, network=DCNv2(embedding=8)),
    with_inputs(*teacher().inputs, *MORE, tasks=("click",)),
    with_inputs(*teacher().inputs, *MORE, training=replace(teacher().training, seed=9)),
    with_inputs(*teacher().inputs, *MORE, lag=2),
], ids=["one is gone", "another order", "network", "tasks", "training", "lag"])  # fmt: skip
def test_anything_else_is_none(now: Teacher) -> None:
    assert not grew(now)


def test_a_view_or_a_column_that_is_declared_otherwise_is_none() -> None:
    views = [replace(v, delay=timedelta(hours=1)) if v.name == "item_activity" else v for v in TINY.feature_views]
    assert not grew(teacher(), replace(TINY, feature_views=tuple(views)))
    user = Column(name="user_id", rows=TINY.stream.user.rows + 1)
    assert not grew(teacher(), replace(TINY, stream=replace(TINY.stream, user=user)))
    calendar = replace(TINY, stream=replace(TINY.stream, calendar=(*TINY.stream.calendar, "day_of_week")))
    assert grew(teacher(), calendar)  # a column that nobody reads yet
    assert not grew(teacher(), replace(TINY, stream=replace(TINY.stream, surfaces=("feed", "search"))))


def test_a_students_distillation_must_stay_and_its_gate_need_not() -> None:
    old = TINY.students[0]
    more = replace(old, inputs=(*old.inputs, "item_activity:convert_1d"))
    assert grew(replace(more, gate=Gate(slices=9)), then=old)
    assert not grew(replace(more, distillation=AuxiliaryHead(weight=9.0)), then=old)


def test_what_an_earlier_exfm_did_not_write_down_is_none() -> None:
    now = declared_of(TINY, teacher())
    assert not has_grown({}, now) and not has_grown({**now, "more": 1}, now)


def test_a_warm_start_is_no_part_of_what_a_checkpoint_is_made_of() -> None:
    """So who forbids it trains again what has grown, and nothing else."""
    cold = replace(teacher(), training=replace(teacher().training, warm_start=False))
    grown = with_inputs(*teacher().inputs, *MORE)
    then = Declared.of(TINY, teacher())
    assert Declared.of(TINY, cold).digest == then.digest and Declared.of(TINY, cold).holds_for(then.digest, then.form)
    assert Declared.of(TINY, grown).holds_for(then.digest, then.form)
    assert not Declared.of(TINY, replace(grown, training=cold.training)).holds_for(then.digest, then.form)
