"""The default project: a simulated feed, search and video stream of 14 days, one teacher, six students."""

from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Column,
    DCNv2,
    FeatureView,
    HistoryView,
    KnowledgeDistillation,
    LeadAware,
    PredictionView,
    Project,
    Simulation,
    Stream,
    Student,
    StudentAdapter,
    Task,
    Teacher,
    Training,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SEEN_BY_STUDENTS = ("user_id", "item_id", "device", "country", "hour_of_day")
SEEN_BY_TEACHERS = (
    *SEEN_BY_STUDENTS, "surface", "user_activity", "item_activity", "user_surface_activity", "user_history"
)  # fmt: skip
OPINIONS = ("user_opinion", "item_opinion")
SMALL = DCNv2(embedding=8, cross=1, hidden=(32,))
MEDIUM = DCNv2(embedding=8, cross=2, hidden=(64, 32))

STREAM = Stream(
    first_slice=FIRST,
    slice_length=DAY,
    until=FIRST + 14 * DAY,
    user=Column(name="user_id", rows=2**16),
    item=Column(name="item_id", rows=2**14),
    surface=Column(name="surface", rows=16, dtype=str),
    surfaces=("feed", "search", "video"),
    context=(Column(name="device", rows=16, dtype=str), Column(name="country", rows=64, dtype=str)),
    calendar=("hour_of_day",),
    tasks=(Task(name="click", window=timedelta(minutes=30)), Task(name="convert", window=12 * HOUR)),
    lateness=12 * HOUR,
)


def _activity(name: str, *entities: str, online: bool = False, interactions: bool = True) -> FeatureView:
    counts = ("interactions", "impressions", "click", "convert") if interactions else ("impressions", "click")
    return FeatureView(
        name=name, entities=entities, counts=counts, rates=("click", "convert"),
        windows=(DAY, 3 * DAY, 7 * DAY), every=DAY, online=online,
    )  # fmt: skip


def _opinion(name: str, entity: str) -> PredictionView:
    return PredictionView(
        name=name, teacher="large", tasks=("click", "convert"), entities=(entity,), windows=(DAY, 3 * DAY, 7 * DAY)
    )


PROJECT = Project(
    name="simulated",
    stream=STREAM,
    simulation=Simulation(),
    feature_views=(
        _activity("user_activity", "user_id"),
        _activity("item_activity", "item_id", online=True),
        _activity("user_surface_activity", "user_id", "surface", interactions=False),
        HistoryView(
            name="user_history", entity="user_id", of="item_id", source="interactions",
            length=20, window=7 * DAY, every=HOUR,
        ),
    ),
    prediction_views=(_opinion("user_opinion", "user_id"), _opinion("item_opinion", "item_id")),
    teachers=(
        Teacher(
            name="large",
            tasks=("click", "convert"),
            inputs=SEEN_BY_TEACHERS,
            network=DCNv2(embedding=16, cross=2, hidden=(128, 64), experts=4),
            training=Training(batch_size=1024, learning_rate=1e-3, table_learning_rate=0.02),
        ),
    ),
    students=(
        Student(
            name="feed_click", surface="feed", task="click", inputs=SEEN_BY_STUDENTS, network=SMALL,
            teacher="large", distillation=AuxiliaryHead(weight=4.0),
        ),
        Student(
            name="feed_click_both", surface="feed", task="click", inputs=(*SEEN_BY_STUDENTS, *OPINIONS), network=SMALL,
            teacher="large", distillation=AuxiliaryHead(weight=4.0), lead=LeadAware(),
        ),
        Student(
            name="search_click", surface="search", task="click", inputs=SEEN_BY_STUDENTS, network=SMALL,
            teacher="large", distillation=KnowledgeDistillation(weight=4.0),
        ),
        Student(
            name="video_click", surface="video", task="click", inputs=SEEN_BY_STUDENTS, network=MEDIUM,
            teacher="large", distillation=AuxiliaryHead(weight=4.0, adapter=StudentAdapter()),
        ),
        Student(
            name="feed_convert", surface="feed", task="convert",
            inputs=(*SEEN_BY_STUDENTS, "item_activity:convert_rate_7d", "item_activity:click_rate_7d"), network=MEDIUM,
            teacher="large", distillation=AuxiliaryHead(weight=4.0),
        ),
        Student(
            name="search_convert", surface="search", task="convert", inputs=SEEN_BY_STUDENTS, network=SMALL,
            training=Training(seed=1),
        ),
    ),
)  # fmt: skip
