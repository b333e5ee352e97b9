"""Small files in exactly the forms of public sets, with what is odd in each.

Belongs here: writing them. Not here: what a test expects.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

MIDNIGHT = int(datetime(2017, 5, 5, 16, tzinfo=UTC).timestamp())  # of the 6th of May in Shanghai
DAY = 86_400
PIDS = ("430548_1007", "430539_1007")


def lines(path: Path, header: str, rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def effects(count: int, seed: int, scale: float = 1.2) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(count)


def clicks(logits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return (random.uniform(size=len(logits)) < 1 / (1 + np.exp(-logits))).astype(int)


def taobao_raw(folder: Path, a_day: int = 300, days: int = 8, users: int = 60, ads: int = 30) -> int:
    """The four raw files; a user without a profile, blanks, NULL brands, a space in a header, rows at midnight.

    Returns:
        How many impressions there are.
    """
    random, rows = np.random.default_rng(5), []
    of_users, of_ads = effects(users, 1), effects(ads, 2)
    for day in range(days):
        who, what = random.integers(0, users, a_day), random.integers(0, ads, a_day)
        moments = MIDNIGHT + day * DAY + random.integers(0, DAY, a_day)
        clicked = clicks(of_users[who] + of_ads[what] - 1, random)
        rows += [
            f"{user},{moment},{ad + 1},{PIDS[index % 2]},{1 - click},{click}"
            for index, (user, ad, moment, click) in enumerate(zip(who, what, moments, clicked, strict=True))
        ]
    rows += [  # the last second of the 6th and the first of the 7th; another pid; a text for a time
        f"7,{MIDNIGHT + DAY - 1},1,{PIDS[0]},1,0", f"7,{MIDNIGHT + DAY},1,{PIDS[0]},0,1",
        f"7,{MIDNIGHT + DAY},1,430000_1,0,1", f"7,soon,1,{PIDS[0]},0,1",
    ]  # fmt: skip
    lines(folder / "raw_sample.csv", "user,time_stamp,adgroup_id,pid,nonclk,clk", rows)
    lines(
        folder / "ad_feature.csv",
        "adgroup_id,cate_id,campaign_id,customer,brand,price",
        [f"{ad + 1},{ad % 7},{ad},{ad % 5},{'NULL' if ad % 3 == 0 else 100 + ad},{9.5 + ad}" for ad in range(ads)],
    )
    lines(
        folder / "user_profile.csv",
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
        "new_user_class_level ",
        [
            f"{user},{user % 9},{user % 4},1,{user % 6},{'' if user % 2 else 2},3,0,{'' if user % 3 else 4}"
            for user in range(1, users)  # user 0 has none
        ],
    )
    met = [
        f"{random.integers(users)},{MIDNIGHT + random.integers(-9 * DAY, days * DAY)},"
        f"{('pv', 'cart', 'fav', 'buy')[at % 4]},{random.integers(1, 9)},{random.integers(100, 130)}"
        for at in range((days + 9) * 150)
    ]
    lines(folder / "behavior_log.csv", "user,time_stamp,btag,cate,brand", met)
    return len(rows)


def videos(folder: Path, rows: int = 1_000, *, micro: bool = False) -> int:
    """``train.csv`` and ``test.csv`` of KuaiVideo_x1 or MicroVideo1.7M_x1, by time; empty lists among the histories."""
    random = np.random.default_rng(9)
    users, items = 40, 60
    of_users, of_items = effects(users, 3), effects(items, 4)
    stamps = np.sort(random.integers(761_000_000_000, 761_100_000_000, rows))
    made = []
    for stamp in stamps:
        user, item = int(random.integers(users)), int(random.integers(items))
        click = int(clicks(np.array([of_users[user] + of_items[item]]), random)[0])
        first, second = ("^".join(map(str, random.integers(0, items, count))) for count in random.integers(0, 6, 2))
        if micro:
            second = "^".join(str(int(each) % 5) for each in first.split("^") if each)
            made.append(f"{user},{item},{item % 5},{click},{stamp},{first},{second}")
        else:
            made.append(f"{stamp},{user},{item},{click},{click * (item % 2)},{int(item == 3)},{first},{second}")
    header = "timestamp,user_id,item_id,is_click,is_like,is_follow,pos_items,neg_items"
    if micro:
        header = "user_id,item_id,cate_id,is_click,timestamp,clicked_items,clicked_categories"
    lines(folder / "train.csv", header, made[: rows * 8 // 10])
    lines(folder / "test.csv", header, made[rows * 8 // 10 :])
    return rows


AVAZU = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,device_ip,"
    "device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)


def avazu(folder: Path, rows: int = 900) -> int:
    """The three files of Avazu_x4, rows of ten days in random order; ids above 2^63, one moment an hour."""
    random, made = np.random.default_rng(11), []
    of_sites, of_ads = effects(12, 5), effects(20, 6)
    for index in range(rows):
        hour = datetime(2014, 10, 21) + timedelta(hours=int(random.integers(240)))
        site, ad = int(random.integers(12)), int(random.integers(20))
        click = int(clicks(np.array([of_sites[site] + of_ads[ad] - 0.5]), random)[0])
        in_app = index % 2 == 0
        made.append(
            f"{10_000_000_000_000_000_000 + index},{click},{hour:%y%m%d%H},1005,{index % 2},"
            f"{'85f751fd' if in_app else f'{site:08x}'},c4e18dd6,50e219e0,{f'{site:08x}' if in_app else 'ecad2386'},"
            f"7801e8d9,07d7df22,{'a99f214a' if index % 3 else f'{index:08x}'},{index % 50:08x},{index % 7:08x},1,0,"
            f"{15_700 + ad},320,50,1722,0,35,-1,79"
        )
    for name, start, end in (("train", 0, 8), ("valid", 8, 9), ("test", 9, 10)):
        lines(folder / f"{name}.csv", AVAZU, made[rows * start // 10 : rows * end // 10])
    return rows


TAOBAO_X1 = (
    "clk,btag_his,cate_his,brand_his,userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,"
    "shopping_level,occupation,new_user_class_level,adgroup_id,cate_id,campaign_id,customer,brand,price,pid,btag"
)


def taobao_x1(folder: Path, train: int = 4_000, test: int = 1_000) -> None:
    """``train.csv`` and ``test.csv`` of TaobaoAd_x1: histories of differing length, some empty; 0 where missing."""
    random = np.random.default_rng(13)
    of_users, of_ads = effects(100, 7), effects(50, 8)
    for name, rows in (("train", train), ("test", test)):
        made = []
        for _ in range(rows):
            user, ad = int(random.integers(100)), int(random.integers(50))
            click = int(clicks(np.array([of_users[user] + of_ads[ad] - 1]), random)[0])
            cates, brands, tags = (
                "^".join(map(str, random.integers(1, 9, count))) for count in random.integers(0, 5, 3)
            )
            made.append(
                f"{click},{tags},{cates},{brands},{user},{user % 9},{user % 4},1,{user % 6},0,3,0,0,{ad},{ad % 7},{ad},"
                f"{ad % 5},{ad % 11},{9.5 + ad},{PIDS[ad % 2]},1"
            )
        lines(folder / f"{name}.csv", TAOBAO_X1, made)


def amazon_x1(folder: Path, train: int = 3_000, test: int = 600) -> None:
    """A positive and a negative row in turn; histories of the user's likes, some empty."""
    random = np.random.default_rng(17)
    for name, rows in (("train", train), ("test", test)):
        made = []
        for index in range(rows):
            user, label = int(random.integers(50)), (index + 1) % 2
            liked = [int(user % 6 + 6 * random.integers(10)) for _ in range(int(random.integers(0, 6)))]
            item = int(user % 6 + 6 * random.integers(10)) if label else int(random.integers(60))
            made.append(
                f"{label},{user},{item},{item % 6},{'^'.join(map(str, liked))},{'^'.join(str(i % 6) for i in liked)}"
            )
        lines(folder / f"{name}.csv", "label,user_id,item_id,cate_id,item_history,cate_history", made)


def criteo_x4(folder: Path, rows: int = 4_000) -> None:
    """Three files; blanks in counts and ids, a count below 0."""
    random = np.random.default_rng(19)
    of_ids, made = effects(40, 9), []
    for _ in range(rows):
        count, id_ = int(random.integers(-2, 3_000)), int(random.integers(40))
        label = int(clicks(np.array([of_ids[id_] + 0.5 * np.log1p(max(count, 0)) - 3]), random)[0])
        counts = ["" if random.uniform() < 0.2 else str(random.integers(0, 50)) for _ in range(12)]
        ids = ["" if random.uniform() < 0.2 else f"{random.integers(0, 30):08x}" for _ in range(25)]
        made.append(",".join([str(label), str(count), *counts, f"{id_:08x}", *ids]))
    header = ",".join(["Label", *(f"I{at}" for at in range(1, 14)), *(f"C{at}" for at in range(1, 27))])
    for name, start, end in (("train", 0, 8), ("valid", 8, 9), ("test", 9, 10)):
        lines(folder / f"{name}.csv", header, made[rows * start // 10 : rows * end // 10])
