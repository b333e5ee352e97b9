"""Mobile ads of Avazu (Avazu_x4): ten days of October 2014, UTC; the three files of the random split make one log.

The set says the hour alone, so rows of one hour have one moment. It names no user and no ad. Users are told apart by
``device_id``, or where that is the one of devices without any, by address and model; an ad is ``C14``. Both, and which
site means that the ad stood in an app, is how the set's Kaggle competition was commonly read.
"""

from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Column,
    DCNv2,
    EventTime,
    FeatureView,
    Files,
    From,
    HistoryView,
    Log,
    Project,
    Stream,
    Student,
    Task,
    Teacher,
    Training,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2014, 10, 21, tzinfo=UTC)
UPPER = ("C1", "C15", "C16", "C17", "C18", "C19", "C20", "C21")
ROWS = {"device_ip": 2**22, "device_id": 2**20, "device_model": 2**14}
CONTEXT = (
    "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
    "device_ip", "device_model", "device_type", "device_conn_type", *(name.lower() for name in UPPER),
)  # fmt: skip
NO_DEVICE, IN_APP = "a99f214a", "85f751fd"
INPUTS = ("user_id", "item_id", "hour_of_day", *CONTEXT, "user_activity", "item_activity")

LOG = Log(
    impressions=(
        Files(
            paths=("train.csv", "valid.csv", "test.csv"),
            time=EventTime(of="hour", format="%y%m%d%H"),
            id="id",
            columns=(
                From(
                    name="user_id",
                    sql=f"CASE WHEN device_id = '{NO_DEVICE}' THEN device_ip || '-' || device_model ELSE device_id END",
                ),
                From(name="item_id", of="C14"),
                From(name="surface", sql=f"CASE WHEN site_id = '{IN_APP}' THEN 'app' ELSE 'site' END"),
                *(From(name=name.lower(), of=name) for name in UPPER),
            ),
        ),
    )
)
STREAM = Stream(
    first_slice=FIRST,
    slice_length=DAY,
    until=FIRST + 10 * DAY,
    user=Column(name="user_id", rows=2**22, dtype=str),
    item=Column(name="item_id", rows=2**13),
    surface=Column(name="surface", rows=16, dtype=str),
    surfaces=("app", "site"),
    context=tuple(Column(name=name, rows=ROWS.get(name, 2**13), dtype=str) for name in CONTEXT),
    calendar=("hour_of_day",),
    tasks=(Task(name="clicked", window=HOUR, label="click"),),
)


def _activity(name: str, entity: str) -> FeatureView:
    return FeatureView(
        name=name, entities=(entity,), counts=("impressions", "clicked"), rates=("clicked",), windows=(DAY, 3 * DAY),
        every=DAY,
    )  # fmt: skip


PROJECT = Project(
    name="avazu",
    log=LOG,
    stream=STREAM,
    feature_views=(
        _activity("user_activity", "user_id"),
        _activity("item_activity", "item_id"),
        HistoryView(
            name="seen", entity="user_id", of="item_id", source="impressions", length=20, window=3 * DAY, every=HOUR,
            online=False,
        ),
    ),
    teachers=(
        Teacher(
            name="large", tasks=("clicked",), inputs=(*INPUTS, "surface", "seen"),
            network=DCNv2(embedding=16, cross=3, hidden=(256, 128), experts=4), training=Training(batch_size=4096),
        ),
    ),
    students=tuple(
        Student(
            name=f"{surface}_click", surface=surface, task="clicked", inputs=INPUTS,
            network=DCNv2(embedding=8, hidden=(64, 32)), teacher="large", distillation=AuxiliaryHead(weight=4.0),
            training=Training(batch_size=1024),
        )
        for surface in STREAM.surfaces
    ),
)  # fmt: skip
