"""Avazu_x4 in the protocol of the benchmark, beside its stream (projects/avazu.py): ten days in random order.

Of ``hour`` (``YYMMDDHH``) the hour of the day, the weekday and whether that is of the weekend are read; ``id`` is not.
"""

from exfm import Column, DCNv2, Files, FixedSplit, From, Training
from projects.fixed_splits.figures import AVAZU, PROTOCOL

ROWS = {"device_ip": 2**22, "device_id": 2**20}
NAMES = (
    "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
    "device_ip", "device_model", "device_type", "device_conn_type", *(f"C{number}" for number in range(14, 22)),
)  # fmt: skip
DAY = "isodow(try_strptime(hour[1:6], '%y%m%d'))"


def _files(name: str) -> Files:
    return Files(
        paths=(name,),
        columns=(
            From(name="hour_of_day", sql="hour[7:8]"),
            From(name="weekday", sql=DAY),
            From(name="weekend", sql=f"({DAY} > 5)"),
            *(From(name=name.lower(), of=name) for name in NAMES if name != name.lower()),
        ),
    )


SPLIT = FixedSplit(
    name="avazu_x4",
    train=_files("train.csv"),
    valid=_files("valid.csv"),
    test=_files("test.csv"),
    label="click",
    columns=(
        *(Column(name=name, rows=64) for name in ("hour_of_day", "weekday", "weekend")),
        *(Column(name=name.lower(), rows=ROWS.get(name, 2**14), dtype=str) for name in NAMES),
    ),
    network=DCNv2(embedding=16, cross=3, hidden=(512, 256, 128)),
    training=Training(batch_size=8192, learning_rate=1e-3, table_learning_rate=0.02),
    published=AVAZU,
    source=PROTOCOL,
)
