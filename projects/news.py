"""Visits to a large news portal, nine days in slices of four hours: engagement tasks, not ad clicks.

The log is not part of this project: ``EXFM_DATA`` names its folder.
"""

from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Column,
    DCNv2,
    Distillation,
    FeatureView,
    HistoryView,
    KnowledgeDistillation,
    LeadAware,
    Network,
    PredictionView,
    Project,
    Stream,
    Student,
    StudentAdapter,
    Task,
    Teacher,
    Training,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2017, 10, 1, tzinfo=UTC)
CONTEXT = ("environment", "device", "os", "country", "region")
SEEN_BY_STUDENTS = ("user_id", "item_id", *CONTEXT, "hour_of_day")
SMALL = DCNv2(embedding=8, cross=1, hidden=(32,))
MEDIUM = DCNv2(embedding=8, cross=2, hidden=(64, 32))
STUDENT_TRAINING = Training(batch_size=128, learning_rate=1e-3, table_learning_rate=0.4)

STREAM = Stream(
    first_slice=FIRST,
    slice_length=4 * HOUR,
    until=FIRST + 49 * 4 * HOUR,
    known_until=datetime(2017, 10, 9, 3, tzinfo=UTC),
    user=Column(name="user_id", rows=2**18),
    item=Column(name="item_id", rows=2**15),
    surface=Column(name="surface", rows=16),
    surfaces=(1, 2, 3, 4, 5, 6, 7),
    context=tuple(Column(name=name, rows=64) for name in CONTEXT),
    calendar=("hour_of_day",),
    tasks=(
        Task(name="deep3", window=2 * HOUR),
        Task(name="deep5", window=2 * HOUR),
        Task(name="return24", window=24 * HOUR),
    ),
)


def _activity(name: str, *entities: str, online: bool = False, interactions: bool = True) -> FeatureView:
    counts = ("interactions", "impressions") if interactions else ("impressions",)
    return FeatureView(
        name=name, entities=entities, counts=(*counts, *STREAM.task_names), rates=STREAM.task_names,
        windows=(4 * HOUR, DAY, 3 * DAY), every=4 * HOUR, prior=0.2, online=online,
    )  # fmt: skip


def _recent(name: str, *entities: str, interactions: bool = True) -> FeatureView:
    """The last hours in steps of half an hour, for teachers alone: they score when the slice is over."""
    counts = ("interactions", "impressions") if interactions else ("impressions",)
    return FeatureView(
        name=name, entities=entities, counts=(*counts, "deep3", "deep5"), rates=("deep3", "deep5"),
        windows=(HOUR, 4 * HOUR), every=30 * MINUTE, prior=0.2, online=False,
    )  # fmt: skip


HISTORY = HistoryView(
    name="user_history", entity="user_id", of="item_id", source="interactions",
    length=20, window=2 * DAY, every=30 * MINUTE, online=False,
)  # fmt: skip


SEEN_BY_TEACHERS = (
    *SEEN_BY_STUDENTS, "surface", "user_activity", "item_activity", "user_surface_activity",
    "user_history", "user_recent", "item_recent", "item_surface_recent",
)  # fmt: skip
OPINIONS = ("user_opinion", "item_opinion")


def _teacher(name: str, tasks: tuple[str, ...]) -> Teacher:
    return Teacher(
        name=name, tasks=tasks, inputs=SEEN_BY_TEACHERS,
        network=DCNv2(embedding=16, cross=2, hidden=(128, 64), experts=4),
        training=Training(batch_size=512, learning_rate=1e-3, table_learning_rate=0.1),
    )  # fmt: skip


def _opinion(name: str, entity: str) -> PredictionView:
    return PredictionView(
        name=name, teacher="large", tasks=("deep3", "deep5"), entities=(entity,), windows=(4 * HOUR, DAY, 3 * DAY)
    )


def _student(
    name: str, surface: int, task: str, network: Network, distillation: Distillation, teacher: str = "large",
    inputs: tuple[str, ...] = SEEN_BY_STUDENTS, lead: LeadAware | None = None,
) -> Student:  # fmt: skip
    return Student(
        name=name, surface=surface, task=task, inputs=inputs, network=network, teacher=teacher,
        distillation=distillation, lead=lead, training=STUDENT_TRAINING,
    )  # fmt: skip


PROJECT = Project(
    name="news",
    stream=STREAM,
    feature_views=(
        _activity("user_activity", "user_id"),
        _activity("item_activity", "item_id", online=True),
        _activity("user_surface_activity", "user_id", "surface", interactions=False),
        HISTORY,
        _recent("user_recent", "user_id"),
        _recent("item_recent", "item_id"),
        _recent("item_surface_recent", "item_id", "surface", interactions=False),
    ),
    # One teacher a horizon: what returns a day later closes too late to supervise what is known in two hours.
    teachers=(_teacher("large", ("deep3", "deep5")), _teacher("returning", STREAM.task_names)),
    prediction_views=(_opinion("user_opinion", "user_id"), _opinion("item_opinion", "item_id")),
    students=(
        _student("external_deep5", 1, "deep5", SMALL, AuxiliaryHead(weight=4.0)),
        _student(
            "external_deep5_both",
            1,
            "deep5",
            SMALL,
            AuxiliaryHead(weight=4.0),
            inputs=(*SEEN_BY_STUDENTS, *OPINIONS),
            lead=LeadAware(),
        ),
        _student(
            "external_return24", 1, "return24", SMALL, AuxiliaryHead(weight=4.0), teacher="returning", lead=LeadAware()
        ),
        _student("internal_deep5", 2, "deep5", MEDIUM, AuxiliaryHead(weight=4.0, adapter=StudentAdapter())),
        _student("internal_deep3", 2, "deep3", MEDIUM, KnowledgeDistillation(weight=4.0)),
    ),
)
