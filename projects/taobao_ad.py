"""Display ads of Taobao (Tianchi 56, the four raw files): eight days of Shanghai from the 6th of May 2017 on.

``behavior_log.csv`` has categories and brands, not ads: 22 days of what users looked at, put in their cart, marked and
bought. An interaction's item is therefore not an ad. It is written as ``action:category:brand``, which is no ad's
number, and the view ``behaviours`` takes it apart again: a user's last categories with brands and actions beside them,
of the day before the slice. Categories and brands share the embeddings of the ad's own, which the view ``ads`` has, and
attention looks for the ad's category in the list.

The stream begins a week before impressions do, so that on their first day users have a history, and a week of it is
counted; the 7 days of behaviour before that are left out, and counted, too. Profiles and ads have no time: they may
tell of later than the impression. About 6 % of impressions have no profile.
"""

from datetime import UTC, datetime, timedelta

from exfm import (
    AuxiliaryHead,
    Bag,
    Column,
    DCNv2,
    EventTime,
    FeatureView,
    Files,
    From,
    HistoryView,
    Log,
    Number,
    Project,
    SourceView,
    SqlView,
    Stream,
    Student,
    Task,
    Teacher,
    Training,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHOWN = datetime(2017, 5, 5, 16, tzinfo=UTC)  # midnight of the 6th of May in Shanghai
FIRST = SHOWN - 7 * DAY
PLACES = ("430548_1007", "430539_1007")
CLOCK = EventTime(of="time_stamp", unit="s")
PROFILE = (
    "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level", "occupation",
    "new_user_class_level",
)  # fmt: skip
INPUTS = ("user_id", "item_id", "hour_of_day", "profile", "ads", "user_activity", "item_activity")
MET = "btag || ':' || cate || ':' || coalesce(nullif(brand, 'NULL'), '')"

LOG = Log(
    impressions=(
        Files(
            paths=("raw_sample.csv",),
            time=CLOCK,
            columns=(
                From(name="user_id", of="user"),
                From(name="item_id", of="adgroup_id"),
                From(name="place", of="pid"),
            ),
        ),
    ),
    interactions=(
        Files(
            paths=("behavior_log.csv",),
            time=CLOCK,
            where=f"coalesce(try_cast(time_stamp AS BIGINT) >= {int(FIRST.timestamp())}, true)",
            columns=(From(name="user_id", of="user"), From(name="item_id", sql=MET)),
        ),
    ),
)
STREAM = Stream(
    first_slice=FIRST,
    slice_length=DAY,
    time_zone="Asia/Shanghai",
    impressions_from=SHOWN,
    until=SHOWN + 8 * DAY,
    user=Column(name="user_id", rows=2**21),
    item=Column(name="item_id", rows=2**20, dtype=str),
    surface=Column(name="place", rows=16, dtype=str),
    surfaces=PLACES,
    calendar=("hour_of_day",),
    tasks=(Task(name="click", window=HOUR, label="clk"),),
)
BEHAVIOURS = SqlView(
    name="behaviours",
    entities=("user_id",),
    inputs=(
        Bag(
            name="categories",
            of="ads:cate_id",
            pooling="attention",
            target="ads:cate_id",
            length=50,
            beside=("brands", "actions"),
        ),
        Bag(name="brands", of="ads:brand", dtype=str, length=50),
        Bag(name="actions", rows=64, dtype=str, length=50),
    ),
    reads=("interactions",),
    reach=DAY,  # a day has 33 million of them, which are in memory at once
    every=DAY,
    online=False,
    sql="""
        SELECT user_id, list(try_cast(split_part(item_id, ':', 2) AS BIGINT) ORDER BY place) AS categories,
            list(nullif(split_part(item_id, ':', 3), '') ORDER BY place) AS brands,
            list(split_part(item_id, ':', 1) ORDER BY place) AS actions
        FROM (
            SELECT user_id, item_id,
                row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC, item_id) AS place
            FROM interactions
        )
        WHERE place <= 50
        GROUP BY user_id
    """,
)


def _activity(name: str, entity: str, *more: str) -> FeatureView:
    return FeatureView(
        name=name, entities=(entity,), counts=(*more, "impressions", "click"), rates=("click",),
        windows=(DAY, 3 * DAY, 7 * DAY), every=DAY,
    )  # fmt: skip


PROJECT = Project(
    name="taobao_ad",
    log=LOG,
    stream=STREAM,
    feature_views=(
        SourceView(
            name="profile", entities=("user_id",), inputs=tuple(Column(name=name, rows=256) for name in PROFILE),
            files=Files(paths=("user_profile.csv",), columns=(From(name="user_id", of="userid"),)),
        ),
        SourceView(
            name="ads", entities=("item_id",),
            inputs=(
                Column(name="cate_id", rows=2**14), Column(name="campaign_id", rows=2**19),
                Column(name="customer", rows=2**18), Column(name="brand", rows=2**18, dtype=str),
                Number(name="price", treatment="log1p"),
            ),
            files=Files(
                paths=("ad_feature.csv",), columns=(From(name="item_id", of="adgroup_id"),), nulls=("", "NULL")
            ),
        ),
        _activity("user_activity", "user_id", "interactions"),
        _activity("item_activity", "item_id"),
        HistoryView(
            name="clicked", entity="user_id", of="item_id", source="click", length=20, window=7 * DAY, every=HOUR,
            online=False,
        ),
        BEHAVIOURS,
    ),
    teachers=(
        Teacher(
            name="large", tasks=("click",), inputs=(*INPUTS, "place", "clicked", "behaviours"),
            network=DCNv2(embedding=32, cross=2, hidden=(512, 256, 128), experts=2),
            training=Training(batch_size=4096, learning_rate=1e-3, table_learning_rate=0.02),
        ),
    ),
    students=tuple(
        Student(
            name=f"place_{place.partition('_')[0]}_click", surface=place, task="click", inputs=INPUTS,
            network=DCNv2(embedding=8, hidden=(64, 32)), teacher="large", distillation=AuxiliaryHead(weight=4.0),
            training=Training(batch_size=1024),
        )
        for place in PLACES
    ),
)  # fmt: skip
