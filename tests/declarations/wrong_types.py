"""Wrong types of fields as people write them, and fields that do not exist.

Belongs here: cases, each with the field that its sentence must name. Not here: the test (test_wrong.py).
"""

from datetime import date

from exfm import distillation as distil
from exfm.alerts import Alerts
from exfm.freshness import Freshness
from exfm.learning import Gate, Student, Training
from exfm.log_columns import Column, Request, Task
from exfm.networks import DCNv2, Wukong
from exfm.project import Drift, Retention
from exfm.serving import Serving
from exfm.simulation import Simulation
from projects.simulated import PROJECT
from tests.declarations.base import DAY, HOUR, IDS, Wrong, history, opinion, project, stream, student, teacher, view

TYPES: list[Wrong] = [
    ("Project(simulated).alerts", lambda: project(alerts=True)),
    ("Project(simulated).alerts", lambda: project(alerts=Alerts)),
    ("Alerts.format", lambda: Alerts(format="teams")),  # type: ignore[arg-type]
    ("Student(feed_click).network", lambda: student(network=DCNv2)),
    ("Student(feed_click).network", lambda: student(network="DCNv2")),
    ("Student(feed_click).network", lambda: student(network=None)),
    ("Student(feed_click).network", lambda: student(network={"hidden": (8,)})),
    ("Student(feed_click).distillation", lambda: student(distillation="kd")),
    ("Student(feed_click).distillation", lambda: student(distillation=distil.AuxiliaryHead)),
    ("Student(feed_click).distillation", lambda: student(distillation=distil.StudentAdapter())),
    ("Student(feed_click).inputs", lambda: student(inputs="user_id")),
    ("Student(feed_click).inputs", lambda: student(inputs=["user_id", "item_id"])),
    ("Student(feed_click).inputs", lambda: student(inputs=("user_id", 5))),
    ("Student(feed_click).inputs", lambda: student(inputs=None)),
    ("Student(feed_click).task", lambda: student(task=("click",))),
    ("Student(feed_click).task", lambda: student(task=PROJECT.stream.tasks[0])),
    ("Student(feed_click).teacher", lambda: student(teacher=PROJECT.teachers[0])),
    ("Student(feed_click).teacher", lambda: student(teacher=["large"])),
    ("Student(feed_click).lead", lambda: student(lead=True)),
    ("Student(feed_click).lead", lambda: student(lead=distil.LeadAware)),
    ("Student(feed_click).training", lambda: student(training=None)),
    ("Student(feed_click).gate", lambda: student(gate=0.01)),
    ("Student(feed_click).freshness", lambda: student(freshness=HOUR)),
    ("Student(feed_click).surface", lambda: student(surface=("feed",))),
    ("Student.name", lambda: student(name=5)),
    ("Student.name", lambda: student(name=None)),
    ("Teacher(large).tasks", lambda: teacher(tasks="click")),
    ("Teacher(large).lag", lambda: teacher(lag="1")),
    ("Teacher(large).lag", lambda: teacher(lag=1.0)),
    ("Teacher(large).lag", lambda: teacher(lag=DAY)),
    ("Teacher(large).publish_every", lambda: teacher(publish_every=True)),
    ("DCNv2.hidden", lambda: DCNv2(hidden=64)),  # type: ignore[arg-type]
    ("DCNv2.hidden", lambda: DCNv2(hidden=[64])),  # type: ignore[arg-type]
    ("DCNv2.hidden", lambda: DCNv2(hidden=(64.0,))),  # type: ignore[arg-type]
    ("DCNv2.embedding", lambda: DCNv2(embedding=8.0)),  # type: ignore[arg-type]
    ("DCNv2.experts", lambda: DCNv2(experts=True)),
    ("DCNv2.cross_rank", lambda: DCNv2(cross_rank="full")),  # type: ignore[arg-type]
    ("Wukong.layers", lambda: Wukong(layers=2.5)),  # type: ignore[arg-type]
    ("Training.batch_size", lambda: Training(batch_size=512.0)),  # type: ignore[arg-type]
    ("Training.batch_size", lambda: Training(batch_size="512")),  # type: ignore[arg-type]
    ("Training.seed", lambda: Training(seed=0.5)),  # type: ignore[arg-type]
    ("Training.seed", lambda: Training(seed=None)),  # type: ignore[arg-type]
    ("Training.compile", lambda: Training(compile="yes")),  # type: ignore[arg-type]
    ("Training.deterministic", lambda: Training(deterministic=1)),  # type: ignore[arg-type]
    ("Training.learning_rate", lambda: Training(learning_rate="1e-3")),  # type: ignore[arg-type]
    ("Training.precision", lambda: Training(precision=16)),  # type: ignore[arg-type]
    ("AuxiliaryHead.weight", lambda: distil.AuxiliaryHead(weight=True)),
    ("AuxiliaryHead.adapter", lambda: distil.AuxiliaryHead(adapter=distil.StudentAdapter)),  # type: ignore[arg-type]
    ("AuxiliaryHead.adapter", lambda: distil.AuxiliaryHead(adapter="platt")),  # type: ignore[arg-type]
    ("StudentAdapter.context", lambda: distil.StudentAdapter(context="surface")),  # type: ignore[arg-type]
    ("StudentAdapter.hidden", lambda: distil.StudentAdapter(hidden=8.0)),  # type: ignore[arg-type]
    ("AuxiliaryTower.hidden", lambda: distil.AuxiliaryTower(hidden=(32,))),  # type: ignore[arg-type]
    ("LeadAware.slices", lambda: distil.LeadAware(slices=6.0)),  # type: ignore[arg-type]
    ("LeadAware.proof", lambda: distil.LeadAware(proof=None)),  # type: ignore[arg-type]
    ("Gate.slices", lambda: Gate(slices=3.0)),  # type: ignore[arg-type]
    ("Serving.table", lambda: Serving(table=8)),  # type: ignore[arg-type]
    ("Freshness.warn", lambda: Freshness(warn=3600)),  # type: ignore[arg-type]
    ("Column(user_id).rows", lambda: Column(name="user_id", rows=1e6)),  # type: ignore[arg-type]
    ("Column(user_id).dtype", lambda: Column(name="user_id", rows=8, dtype="int")),  # type: ignore[arg-type]
    ("Column(price).dtype", lambda: Column(name="price", rows=8, dtype=float)),  # type: ignore[arg-type]
    ("Column(tags).dtype", lambda: Column(name="tags", rows=8, dtype=list)),  # type: ignore[arg-type]
    ("Column(flag).dtype", lambda: Column(name="flag", rows=8, dtype=bool)),
    ("Task(click).window", lambda: Task(name="click", window=30)),  # type: ignore[arg-type]
    ("Task(click).window", lambda: Task(name="click", window="30m")),  # type: ignore[arg-type]
    ("Stream.first_slice", lambda: stream(first_slice="2026-01-01")),
    ("Stream.first_slice", lambda: stream(first_slice=date(2026, 1, 1))),
    ("Stream.until", lambda: stream(until=14)),
    ("Stream.slice_length", lambda: stream(slice_length="1d")),
    ("Stream.surfaces", lambda: stream(surfaces="feed")),
    ("Stream.surfaces", lambda: stream(surfaces=["feed", "search"])),
    ("Stream.surfaces", lambda: stream(surface=Column(name="surface", rows=8), surfaces=(True, 2))),
    ("Stream.surfaces", lambda: stream(surfaces=("feed", None))),
    ("Stream.user", lambda: stream(user="user_id")),
    ("Stream.tasks", lambda: stream(tasks=("click",))),
    ("Stream.tasks", lambda: stream(tasks=PROJECT.stream.tasks[0])),
    ("Stream.context", lambda: stream(context=("device",))),
    ("Stream.calendar", lambda: stream(calendar="hour_of_day")),
    ("Request(page).dtype", lambda: Request(name="page", dtype=float)),  # type: ignore[arg-type]
    ("Stream.request", lambda: stream(request="page")),
    ("Stream.lateness", lambda: stream(lateness=None)),
    ("FeatureView(item_activity).windows", lambda: view(windows=DAY)),
    ("FeatureView(item_activity).windows", lambda: view(windows=[DAY])),
    ("FeatureView(item_activity).windows", lambda: view(windows=(1, 3))),
    ("FeatureView(item_activity).entities", lambda: view(entities="item_id")),
    ("FeatureView(item_activity).counts", lambda: view(counts="click")),
    ("FeatureView(item_activity).every", lambda: view(every=24)),
    ("FeatureView(item_activity).online", lambda: view(online="no")),
    ("FeatureView(item_activity).prior", lambda: view(prior="0.1")),
    ("HistoryView(user_history).length", lambda: history(length=20.0)),
    ("HistoryView(user_history).entity", lambda: history(entity=("user_id",))),
    ("PredictionView(user_opinion).teacher", lambda: opinion(teacher=PROJECT.teachers[0])),
    ("PredictionView(user_opinion).tasks", lambda: opinion(tasks="click")),
    ("Simulation.users", lambda: Simulation(users=2e4)),  # type: ignore[arg-type]
    ("Simulation.seed", lambda: Simulation(seed="7")),  # type: ignore[arg-type]
    ("Simulation.drift", lambda: Simulation(drift=True)),  # type: ignore[arg-type]
    ("Drift.slices", lambda: Drift(slices=3.0)),  # type: ignore[arg-type]
    ("Retention.last", lambda: Retention(last="all")),  # type: ignore[arg-type]
    ("Project(simulated).stream", lambda: project(stream=None)),
    ("Project(simulated).students", lambda: project(students=PROJECT.students[0])),
    ("Project(simulated).students", lambda: project(students=list(PROJECT.students))),
    ("Project(simulated).students", lambda: project(students=PROJECT.teachers)),
    ("Project(simulated).feature_views", lambda: project(feature_views=PROJECT.prediction_views)),
    ("Project(simulated).simulation", lambda: project(simulation=Simulation)),
    ("Project(simulated).retention", lambda: project(retention=3)),
    ("Project(simulated).drift", lambda: project(drift="gradual")),
]

FIELDS: list[Wrong] = [
    ("Training.epochs", lambda: Training(epochs=3)),  # type: ignore[call-arg]
    ("Training.sample_weight", lambda: Training(sample_weight="weight")),  # type: ignore[call-arg]
    ("Task.kind", lambda: Task(name="dwell", window=HOUR, kind="regression")),  # type: ignore[call-arg]
    ("Stream.negative_sampling_rate", lambda: stream(negative_sampling_rate=0.1)),
    ("Student.teachers", lambda: student(teachers=("large",))),
    ("Task.window", lambda: Task(name="click")),  # type: ignore[call-arg]
    ("Column.rows", lambda: Column(name="user_id")),  # type: ignore[call-arg]
    ("Student.network", lambda: Student(name="a", surface=None, task="click", inputs=IDS)),  # type: ignore[call-arg]
    ("Task", lambda: Task("click", HOUR)),  # type: ignore[misc]
    ("Gate", lambda: Gate(3)),  # type: ignore[misc]
]
