"""Short videos with an image and a category (MicroVideo1.7M_x1) as a stream of clicks on ten made-up days.

The unit of its timestamps is not published, so they are taken for their order (projects/order_clock.py, whose command
is run once). ``clicked_items`` and ``clicked_categories`` are left out, for nothing says that a row's are of before it:
the stream's own history of clicks, with the categories beside it, stands in their place. Vectors:
python -m projects.convert_vectors item_image_emb_dim64.h5 item_image.parquet.
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
INPUTS = ("user_id", "item_id", "cate_id", "user_activity", "category_activity", "visual")


def _activity(name: str, *entities: str) -> FeatureView:
    return FeatureView(
        name=name, entities=entities, counts=("impressions", "click"), rates=("click",), windows=(DAY, 3 * DAY),
        every=DAY,
    )  # fmt: skip


def micro_video(first: float, last: float) -> Project:
    """The project over timestamps in [first, last]."""
    clock = order_clock("timestamp", first, last, FIRST, DAYS * DAY)
    return Project(
        name="micro_video",
        log=Log(impressions=(Files(paths=FILES, time=clock, columns=(From(name="surface", sql="'feed'"),)),)),
        stream=Stream(
            first_slice=FIRST,
            slice_length=DAY,
            until=FIRST + DAYS * DAY,
            user=Column(name="user_id", rows=2**15),
            item=Column(name="item_id", rows=2**21),
            surface=Column(name="surface", rows=2, dtype=str),
            surfaces=("feed",),
            context=(Column(name="cate_id", rows=2**12),),
            tasks=(Task(name="click", window=HOUR, label="is_click"),),
        ),
        feature_views=(
            _activity("user_activity", "user_id"),
            _activity("category_activity", "cate_id"),
            HistoryView(
                name="clicked", entity="user_id", of="item_id", source="click", beside=("cate_id",), length=50,
                window=10 * DAY, every=HOUR, online=False,
            ),
            SourceView(
                name="visual", entities=("item_id",), path="item_image.parquet",
                inputs=(Vector(name="image", width=64),),
            ),
        ),
        teachers=(
            Teacher(
                name="large", tasks=("click",), inputs=(*INPUTS, "clicked"),
                network=DCNv2(embedding=32, cross=2, hidden=(256, 128)), training=Training(batch_size=4096),
            ),
        ),
        students=(
            Student(
                name="feed_click", surface="feed", task="click", inputs=INPUTS,
                network=DCNv2(embedding=16, hidden=(64, 32)), teacher="large", distillation=AuxiliaryHead(weight=4.0),
                training=Training(batch_size=1024),
            ),
        ),
    )  # fmt: skip


def __getattr__(name: str) -> Project:
    """``PROJECT``, made when it is asked for: its timestamps are known where its files are."""
    if name != "PROJECT":
        raise AttributeError(name)
    return micro_video(*known_ends("MicroVideo1.7M_x1", *FILES))
