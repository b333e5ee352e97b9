"""TaobaoAd_x1: display ads of Taobao, a week to train on and the day after it to test on.

The files have no time, so no stream is made of them (projects/taobao_ad.py reads the raw ones, whose ids are others:
don't join the two). ``0`` is a missing value. It was dropped from each of the three histories apart, so they differ in
length and don't stand beside each other; each is a bag of its own. ``btag`` is always 1.
"""

from exfm import Bag, Column, DCNv2, Files, FixedSplit, From, Number, Training
from projects.fixed_splits.figures import BY_TEST, TAOBAO_AD

# Distinct ids with 10 rows or more, of the large columns, and room: others share rows by their hash.
ROWS = {
    "userid": 2**20, "brand": 2**19, "adgroup_id": 2**19, "campaign_id": 2**18, "customer": 2**18, "cate_id": 2**14,
}  # fmt: skip
IDS = (
    "userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level",
    "occupation", "new_user_class_level", "adgroup_id", "cate_id", "campaign_id", "customer", "brand", "pid", "btag",
)  # fmt: skip
HISTORIES = {"cate_his": "cate_id", "brand_his": "brand", "btag_his": "btag"}


def _files(name: str) -> Files:
    return Files(paths=(name,), columns=tuple(From(name=each, of=each, split="^") for each in HISTORIES))


SPLIT = FixedSplit(
    name="taobao_ad_x1",
    train=_files("train.csv"),
    test=_files("test.csv"),
    label="clk",
    group="userid",
    columns=tuple(Column(name=name, rows=ROWS.get(name, 2**9), dtype=str) for name in IDS),
    numbers=(Number(name="price", treatment="log1p"),),
    bags=tuple(
        Bag(name=name, of=of, pooling="mean" if of == "btag" else "attention", length=50)
        for name, of in HISTORIES.items()
    ),
    network=DCNv2(embedding=32, cross=2, hidden=(512, 256, 128)),
    training=Training(batch_size=8192, learning_rate=1e-3, table_learning_rate=0.02),
    published=TAOBAO_AD,
    source=BY_TEST,
)
