"""References to what is not there, parts that don't fit, and sizes that no machine holds.

Belongs here: cases, each with the field that its sentence must name. Not here: the test (test_wrong.py).
"""

from typing import Any

from exfm import distillation as distil
from exfm.learning import Gate, Training
from exfm.log_columns import Column
from exfm.networks import DLRM, DCNv2, DeepFM, TwoTower, Wukong
from exfm.project import Drift, Project, Retention
from exfm.serving import Serving
from exfm.simulation import Simulation
from projects.simulated import PROJECT
from tests.declarations.base import (
    DAY,
    FIRST,
    IDS,
    MINUTE,
    Wrong,
    history,
    project,
    stream,
    student,
    teacher,
    view,
    with_history,
    with_opinion,
    with_stream,
    with_student,
    with_teacher,
    with_view,
)


def shadowed(name: str, **changes: Any) -> Project:
    """A student with a shadow, and one more student."""
    return project(students=(student(serving=Serving(shadow=name)), student(**{"name": "other", **changes})))


REFERENCES: list[Wrong] = [
    ("Stream.surfaces", lambda: stream(surfaces=(1, 2))),
    ("Stream.surfaces", lambda: stream(surfaces=())),
    ("Stream.calendar", lambda: stream(calendar=("week",))),
    ("Student(feed_click).surface", lambda: with_student(surface=1)),
    ("Student(feed_click).surface", lambda: with_student(surface="Feed")),
    ("Student(feed_click).task", lambda: with_student(task="clicks")),
    ("Student(feed_click).inputs", lambda: with_student(inputs=("user_id", "age"))),
    ("Student(feed_click).inputs", lambda: with_student(inputs=("user_id:click_1d",))),
    ("Student(feed_click).inputs", lambda: with_student(inputs=("item_activity:",))),
    ("Student(feed_click).inputs", lambda: with_student(inputs=("item_activity:click",))),
    ("Student(feed_click).inputs", lambda: student(inputs=())),
    ("Student(feed_click).inputs", lambda: with_student(inputs=("user_id", "impression_id"))),
    ("Student(feed_click).serving.shadow", lambda: with_student(serving=Serving(shadow="small"))),
    ("Student(feed_click).serving.shadow", lambda: shadowed("feed_click")),
    ("Student(feed_click).serving.shadow", lambda: shadowed("other", task="convert")),
    ("Student(feed_click).serving.shadow", lambda: shadowed("other", surface="search")),
    ("Student(feed_click).teacher", lambda: with_student(teacher="small")),
    ("Student(feed_click).teacher", lambda: with_student(teacher=("large", "small"))),
    ("Student(feed_click).teacher", lambda: student(teacher=())),
    ("Student(feed_click).teacher", lambda: student(teacher=None)),
    ("Student(feed_click).distillation", lambda: student(distillation=None)),
    ("Student(feed_click).lead", lambda: student(teacher=None, distillation=None, lead=distil.LeadAware())),
    ("Student(feed_click).network", lambda: student(network=DCNv2(experts=4))),
    ("Student(feed_click).network", lambda: with_student(network=DCNv2(cross_rank=500))),
    ("Student(feed_click).inputs", lambda: with_student(network=TwoTower(), inputs=("user_id", "device"))),
    ("Student(feed_click).inputs", lambda: with_student(network=TwoTower(), inputs=("item_id",))),
    ("Teacher(large).inputs", lambda: with_teacher(network=TwoTower(), inputs=("user_id", "surface"))),
    ("Teacher(large).inputs", lambda: with_teacher(inputs=(*IDS, "user_opinion"))),
    ("Teacher(large).inputs", lambda: with_teacher(inputs=("surface", "user_history"))),
    ("Teacher(large).tasks", lambda: with_teacher(tasks=("click", "convert", "buy"))),
    ("Teacher(large).network", lambda: with_teacher(network=DCNv2(cross_rank=10_000))),
    ("FeatureView(more).entities", lambda: with_view(entities=("impression_id",))),
    ("FeatureView(more).entities", lambda: with_view(entities=("hour_of_day",))),
    ("FeatureView(more).counts", lambda: with_view(counts=("clicks",))),
    ("FeatureView(more).counts", lambda: with_view(entities=("surface",))),
    ("FeatureView(more).rates", lambda: with_view(rates=("impressions",))),
    ("FeatureView(item_activity).entities", lambda: view(entities=())),
    ("FeatureView(item_activity).windows", lambda: view(windows=())),
    ("HistoryView(more).source", lambda: with_history(source="likes")),
    ("HistoryView(more).of", lambda: with_history(of="name")),
    ("HistoryView(user_history).of", lambda: history(of="user_id")),
    ("HistoryView(more).source", lambda: with_history(of="device")),
    ("PredictionView(more).teacher", lambda: with_opinion(teacher="small")),
    ("PredictionView(more).tasks", lambda: with_opinion(tasks=("buy",))),
    ("PredictionView(more).entities", lambda: with_opinion(entities=("name",))),
    ("StudentAdapter.context", lambda: distil.StudentAdapter(context=("age",))),
    ("Recalibration.kind", lambda: distil.Recalibration(kind="temperature")),
    ("Training.precision", lambda: Training(precision="fp16")),
    ("Training.cuda_graphs", lambda: Training(cuda_graphs=True)),
]

HUGE = 10**9
SIZES: list[Wrong] = [
    ("Teacher(large).network", lambda: with_teacher(network=DCNv2(embedding=HUGE))),
    ("Student(feed_click).network", lambda: with_student(network=DCNv2(embedding=HUGE))),
    ("Student(feed_click).network", lambda: with_student(network=DCNv2(hidden=(HUGE,)))),
    ("Student(feed_click).network", lambda: with_student(network=DCNv2(hidden=(10**6, 10**6)))),
    ("Student(feed_click).network", lambda: with_student(network=DLRM(hidden=(10**7, 10**6)))),
    ("Student(feed_click).network", lambda: with_student(network=DeepFM(embedding=10**7))),
    ("Student(feed_click).network", lambda: with_student(network=TwoTower(hidden=(10**6, 10**6)))),
    ("Teacher(large).network", lambda: with_teacher(network=Wukong(mixer=HUGE))),
    ("Teacher(large).network", lambda: with_teacher(network=Wukong(fields=10**6, layers=2))),
    ("Teacher(large).network", lambda: with_teacher(network=DCNv2(experts=HUGE))),
    ("Teacher(large).training", lambda: with_teacher(training=Training(batch_size=HUGE))),
    ("Student(feed_click).training", lambda: with_student(training=Training(batch_size=2**40))),
    ("DCNv2.cross", lambda: DCNv2(cross=HUGE)),
    ("Retention.last", lambda: Retention(last=HUGE)),
    ("Gate.slices", lambda: Gate(slices=HUGE)),
    ("Drift.slices", lambda: Drift(slices=HUGE)),
    ("LeadAware.slices", lambda: distil.LeadAware(slices=HUGE)),
    ("LeadAware.proof", lambda: distil.LeadAware(proof=HUGE)),
    ("Student(feed_click).distillation", lambda: with_student(distillation=distil.AuxiliaryTower(hidden=HUGE))),
    ("Student(feed_click).distillation", lambda: with_student(
        distillation=distil.AuxiliaryHead(adapter=distil.StudentAdapter(hidden=HUGE)))),
    ("Teacher(large).network", lambda: with_teacher(network=DCNv2(attention=HUGE))),
    ("Teacher(large).training", lambda: with_teacher(network=Wukong(rank=10**6, mixer=1))),
    ("DCNv2.hidden", lambda: DCNv2(hidden=(8,) * 2_000)),
    ("Wukong.layers", lambda: Wukong(layers=HUGE)),
    ("Teacher(large).network", lambda: with_stream(user=Column(name="user_id", rows=2**40))),
    ("Student(feed_click).network", lambda: project(
        stream=stream(context=(Column(name="device", rows=2**36, dtype=str), PROJECT.stream.context[1])), teachers=(),
        prediction_views=(), students=(student(teacher=None, distillation=None),),
    )),
    ("Teacher(large).training", lambda: project(
        feature_views=(*PROJECT.feature_views[:3], history(length=HUGE)))),
    ("Column(user_id).rows", lambda: Column(name="user_id", rows=2**70)),
    ("Teacher(large).lag", lambda: with_teacher(lag=HUGE)),
    ("Teacher(large).publish_every", lambda: with_teacher(publish_every=HUGE)),
    ("FeatureView(more).windows", lambda: project(
        stream=stream(slice_length=MINUTE, until=FIRST + DAY), prediction_views=(), students=(),
        feature_views=(view(name="more", every=MINUTE, windows=(3650 * DAY,)),), teachers=(teacher(inputs=IDS),),
    )),
    ("Simulation.users", lambda: project(simulation=Simulation(users=10**12))),
    ("Simulation.items", lambda: project(simulation=Simulation(items=10**12))),
    ("Simulation.impressions_per_day", lambda: project(simulation=Simulation(impressions_per_day=10**13))),
    ("Simulation.new_users_per_day", lambda: project(simulation=Simulation(new_users_per_day=10**12))),
    ("Simulation.taste", lambda: Simulation(taste=HUGE)),
]  # fmt: skip
