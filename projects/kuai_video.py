"""Short videos of Kuaishou (KuaiVideo_x1) as a stream: click, like and follow of 10,000 users on ten made-up days.

Timestamps tell the order alone (projects/order_clock.py, whose command is run once). Both files are read: the test rows
are the later ones of the same log. ``pos_items`` and ``neg_items`` are left out: they are a user's first 100 items,
whenever the row was, so an early row's tell of its future. The stream's own history of clicks stands in their place.
Vectors: python -m projects.convert_vectors item_visual_emb_dim64.h5 item_visual.parquet.
"""

from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Column,
    DCNv2,
    FeatureView,
    Files,
    From,
    HistoryView,
    Log,
    Project,
    SourceView,
    Stream,
    Student,
    Task,
    Teacher,
    Training,
    Vector,
)
from projects.order_clock import known_ends, order_clock

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST, DAYS = datetime(2000, 1, 1, tzinfo=UTC), 10
FILES = ("train.csv", "test.csv")
TASKS = {"click": "is_click", "like": "is_like", "follow": "is_follow"}
INPUTS = ("user_id", "item_id", "user_activity", "item_activity")


def _activity(name: str, entity: str) -> FeatureView:
    return FeatureView(
        name=name, entities=(entity,), counts=("impressions", *TASKS), rates=tuple(TASKS), windows=(DAY, 3 * DAY),
        every=DAY,
    )  # fmt: skip


def _student(task: str) -> Student:
    return Student(
        name=f"feed_{task}", surface="feed", task=task, inputs=INPUTS, network=DCNv2(embedding=16, hidden=(64, 32)),
        teacher="large", distillation=AuxiliaryHead(weight=4.0), training=Training(batch_size=1024),
    )  # fmt: skip


def kuai_video(first: float, last: float) -> Project:
    """The project over timestamps in [first, last]."""
    clock = order_clock("timestamp", first, last, FIRST, DAYS * DAY)
    return Project(
        name="kuai_video",
        log=Log(impressions=(Files(paths=FILES, time=clock, columns=(From(name="surface", sql="'feed'"),)),)),
        stream=Stream(
            first_slice=FIRST,
            slice_length=DAY,
            until=FIRST + DAYS * DAY,
            user=Column(name="user_id", rows=2**15),
            item=Column(name="item_id", rows=2**20),
            surface=Column(name="surface", rows=2, dtype=str),
            surfaces=("feed",),
            tasks=tuple(Task(name=name, window=HOUR, label=label) for name, label in TASKS.items()),
        ),
        feature_views=(
            _activity("user_activity", "user_id"),
            _activity("item_activity", "item_id"),
            HistoryView(
                name="clicked", entity="user_id", of="item_id", source="click", length=50, window=10 * DAY, every=HOUR,
                online=False,
            ),
            SourceView(
                name="visual", entities=("item_id",), path="item_visual.parquet", online=False,
                inputs=(Vector(name="image", width=64),),
            ),
        ),
        teachers=(
            Teacher(
                name="large", tasks=tuple(TASKS), inputs=(*INPUTS, "clicked", "visual"),
                network=DCNv2(embedding=32, cross=2, hidden=(256, 128), experts=4), training=Training(batch_size=4096),
            ),
        ),
        students=tuple(_student(task) for task in TASKS),
    )  # fmt: skip


def __getattr__(name: str) -> Project:
    """``PROJECT``, made when it is asked for: its timestamps are known where its files are."""
    if name != "PROJECT":
        raise AttributeError(name)
    return kuai_video(*known_ends("KuaiVideo_x1", *FILES))
