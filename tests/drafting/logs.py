"""Small logs of several shapes, as somebody else might have written them.

Belongs here: writing them. Not here: what a draft of them must be.
"""

import csv
import gzip
import io
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

START = datetime(2026, 1, 31, tzinfo=UTC)
ROWS = 600


def events(rows: int = ROWS, days: float = 8, seed: int = 0) -> list[dict[str, Any]]:
    """Impressions in the order of time: user, item, moment, price, click, device."""
    drawn = random.Random(seed)
    moments = sorted(drawn.random() * days for _ in range(rows))
    return [
        {
            "moment": START + timedelta(days=moment),
            "user": 1000 + drawn.randrange(40),
            "item": 1 + drawn.randrange(25),
            "price": round(drawn.expovariate(0.01), 2),
            "click": int(drawn.random() < 0.2),
            "device": drawn.choice(("phone", "tablet", "desktop")),
        }
        for moment in moments
    ]


def write_csv(path: Path, rows: list[dict[str, Any]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    binary = text.getvalue().encode()
    path.write_bytes(gzip.compress(binary) if path.suffix == ".gz" else binary)


def camel(folder: Path) -> None:
    """CSV with names in camel case, and milliseconds since 1970."""
    write_csv(folder / "log.csv", [
        {
            "impressionId": f"a{number:05}", "userId": each["user"], "itemId": each["item"],
            "eventTime": int(each["moment"].timestamp() * 1000),
            "deviceType": each["device"], "price": each["price"], "isClick": each["click"],
            "dwellSeconds": round(each["click"] * 7.5, 1), "clickTime": "2026-02-01 10:00:00" if each["click"] else "",
            "constant": "same", "nothing": "",
        }
        for number, each in enumerate(events())
    ])  # fmt: skip


def tabs(folder: Path) -> None:
    """Packed TSV, several files, lists cut at ``^``, texts of times, a column that only some files have."""
    rows = events()
    for part in range(3):
        write_csv(folder / f"part-{part}.tsv.gz", [
            {
                "visitor": f"v{each['user']}", "sku": f"s{each['item']}", "ts": f"{each['moment']:%Y-%m-%d %H:%M:%S}",
                "channel": ("web", "app")[each["item"] % 2], "tags": f"{each['item']}^{each['user']}^7",
                "buy": each["click"], **({"bid": each["price"]} if part else {}),
            }
            for each in rows[part::3]
        ], "\t")  # fmt: skip


def nested(folder: Path) -> None:
    """JSON lines with objects inside, lists, and a time with its zone; four days."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({
            "event_time": each["moment"].isoformat(), "uid": f"u-{each['user']}", "video_id": each["item"],
            "device": {"os": each["device"], "screen": {"width": 300 + each["user"] % 9}},
            "topics": ["a", each["device"]], "embedding": [each["price"] / 3 + 0.1, 0.25, -1.5],
            "like": bool(each["click"]), "request_id": f"r{number // 4}",
        })
        for number, each in enumerate(events(days=4))
    ]  # fmt: skip
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def folders(folder: Path) -> None:
    """Parquet in folders of days and hours, which alone say the time; ids of whole numbers; two more labels."""
    frame = pl.DataFrame([
        {
            "dt": f"{each['moment']:%Y-%m-%d}", "hour": each["moment"].hour, "user_id": each["user"],
            "ad_id": each["item"], "slot": ("top", "side")[each["item"] % 2], "bid": each["price"],
            "clk": each["click"],
            "purchase": int(each["click"] and each["item"] % 3 == 0), "watch_seconds": each["click"] * each["price"],
        }
        for each in events(1_500, days=3)
    ])  # fmt: skip
    for (dt, hour), part in frame.group_by("dt", "hour", maintain_order=True):
        path = folder / f"dt={dt}" / f"hour={hour}" / "part-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.drop("dt", "hour").write_parquet(path)


def clicks_apart(folder: Path) -> None:
    """Impressions with an id, clicks and purchases in files of their own, visits beside, profiles of users."""
    rows = events()
    shown = [
        {
            "impression_id": f"i{number}", "timestamp": int(each["moment"].timestamp()), "user_id": each["user"],
            "item_id": each["item"], "position": 1 + number % 5, "country": ("de", "fr")[number % 2],
        }
        for number, each in enumerate(rows)
    ]  # fmt: skip
    write_csv(folder / "impressions" / "2026.csv", shown)
    clicked = [
        {"impression_id": row["impression_id"], "click_time": row["timestamp"] + 20 + number % 300}
        for number, (row, each) in enumerate(zip(shown, rows, strict=True)) if each["click"]
    ]  # fmt: skip
    write_csv(folder / "clicks" / "2026.csv", clicked)
    write_csv(folder / "visits" / "2026.csv", [
        {"timestamp": row["timestamp"], "user_id": row["user_id"], "item_id": row["item_id"]} for row in shown
    ])  # fmt: skip
    write_csv(folder / "users.csv", [
        {"user_id": user, "age": 20 + user % 50, "city": f"c{user % 6}"} for user in range(1000, 1040)
    ])  # fmt: skip


def campaigns(folder: Path) -> None:
    """As the Open Bandit Dataset: no user, two kinds of files with items and affinities of their own."""
    for policy in ("bts", "random"):
        for kind, items in (("men", 4), ("women", 6)):
            write_csv(folder / f"{policy}_{kind}.csv.gz", [
                {
                    "": number, "timestamp": f"{each['moment'].isoformat(sep=' ')}", "item_id": each["item"] % items,
                    "position": 1 + number % 3, "click": each["click"], "propensity_score": 0.1 + number / 10_000,
                    "user_feature_0": f"{each['user'] % 3:032x}", "user_feature_1": f"{each['user'] % 5 + 9:032x}",
                    **{f"user-item_affinity_{item}": float(number % 7 == item) for item in range(items)},
                }
                for number, each in enumerate(events(300, seed=items + len(policy)))
            ])  # fmt: skip
    for kind, items in (("men", 4), ("women", 6)):
        write_csv(folder / f"item_context_{kind}.csv", [
            {"": item, "item_id": item, "item_feature_0": 0.3 * item - len(kind), "item_feature_1": f"{kind}{item % 2}"}
            for item in range(items)
        ])  # fmt: skip


def odd_names(folder: Path) -> None:
    """Names with blanks, accents, quotes and capital letters; semicolons; a date beside an hour; nulls of all kinds."""
    write_csv(folder / "My Log.csv", [
        {
            "Date": f"{each['moment']:%d/%m/%Y}", "Hour": each["moment"].hour, "User ID": f"{each['user']:08}",
            "Product": f"p{each['item']}", "Größe": 1.5 * (number % 7) if number % 9 else "NA",
            "it's \"so\"": each["device"],
            "日本": f"x{number % 3}", "Clicked": each["click"], "reason": f"why{number % 4}", "task": number % 3,
            "Page": ("home", "search", "NULL")[number % 3],
        }
        for number, each in enumerate(events(days=20))
    ], ";")  # fmt: skip


def compact_times(folder: Path) -> None:
    """Hours as YYMMDDHH, ids in hexadecimal, a column of free text."""
    write_csv(folder / "train.csv", [
        {
            "id": f"{number:016x}", "click": each["click"], "hour": f"{each['moment']:%y%m%d%H}",
            "banner_pos": number % 2, "site_id": f"{number % 3:08x}", "device_id": f"{each['user']:08x}",
            "C14": each["item"],
            "app_id": f"{each['item']:08x}", "title": f"a rather long text about item {each['item']} and more",
        }
        for number, each in enumerate(events(days=10))
    ])  # fmt: skip


def months_first(folder: Path) -> None:
    """Month before day, both small; a text and an object about the log beside it; names that are numbers."""
    start = datetime(2026, 4, 2, tzinfo=UTC)
    write_csv(folder / "log.csv", [
        {
            "user_id": each["user"], "item_id": each["item"],
            "time": f"{start + (each['moment'] - START):%m/%d/%Y %I:%M:%S %p}", "click": each["click"],
            **{str(number): each["price"] / (1 + number) for number in range(3)},
        }
        for each in events(days=7)
    ])  # fmt: skip
    (folder / "README.txt").write_text("A log, a small one, a made one\nof clicks\n")
    (folder / "meta.json").write_text('{\n  "rows": 600,\n  "of": [\n    1\n  ]\n}\n')


SHAPES = {
    each.__name__: each
    for each in (camel, tabs, nested, folders, clicks_apart, campaigns, odd_names, compact_times, months_first)
}
