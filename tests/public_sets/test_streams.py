"""Public sets as streams: each row of their files is in the log, in the quarantine, or left out, as what it is."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from exfm.project import Project
from exfm.state import State
from pipeline.imports.run import import_log
from pipeline.imports.sources import source_rows
from pipeline.registry.specs import member_of
from pipeline.streams.contract import sound_rules
from pipeline.transforms.computed import computed, sees_no_future
from pipeline.workspace import Workspace
from projects import avazu, taobao_ad
from projects.kuai_video import kuai_video
from projects.micro_video import micro_video
from projects.order_clock import find_ends, main
from tests.public_sets import written

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def read_in(project: Project, folder: Path, state: Path) -> tuple[Workspace, pl.DataFrame, list[str]]:
    work = Workspace(project, State(folder=state, log=state / "log", files=folder))
    account = import_log(work)
    for table in account.tables:
        assert table.read == table.kept + table.quarantined + table.left_out
    parts = [pl.read_parquet(path, glob=False) for path in sorted(work.state.log.glob("impressions/day=*/*.parquet"))]
    return work, pl.concat(parts), account.sentences()


def test_taobaos_raw_files_are_a_stream_of_shanghais_days(tmp_path: Path) -> None:
    rows = written.taobao_raw(tmp_path / "files")
    work, log, said = read_in(taobao_ad.PROJECT, tmp_path / "files", tmp_path / "state")
    assert said[0] == f"impressions: 1 file, {rows:,} rows = {rows - 1:,} in the log + 1 quarantined " + (
        "(event_timestamp is no time 1)"
    )
    stream = work.project.stream
    met = pl.read_csv(tmp_path / "files" / "behavior_log.csv")["time_stamp"]
    early = (met < written.MIDNIGHT - 7 * written.DAY).sum()
    assert early > 100
    assert said[1] == (
        f"interactions: 1 file, {len(met):,} rows = {len(met) - early:,} in the log + 0 quarantined + {early:,} left "
        "out by Files.where"
    )
    first = datetime(2017, 4, 29)
    assert [slice_.key for slice_ in stream.all_slices or ()] == [f"{first + day * DAY:%Y-%m-%d}" for day in range(15)]
    border = log.filter(pl.col("user_id") == 7, pl.col("item_id") == "1").sort("event_timestamp")
    keys = {
        moment: stream.slice_at(stream.index_at(moment)).key
        for moment in border["event_timestamp"]
        if moment.minute in (0, 59) and moment.second in (0, 59)
    }
    assert keys == {
        datetime(2017, 5, 6, 15, 59, 59, tzinfo=UTC): "2017-05-06", datetime(2017, 5, 6, 16, tzinfo=UTC): "2017-05-07",
    }  # fmt: skip
    assert Counter(log["place"].to_list()).keys() == {*stream.surfaces, "430000_1"}
    refused = log.with_columns(_day=pl.col("event_timestamp").dt.date())
    reasons = [
        refused.with_columns(why=why).filter(broken)["why"] for broken, why in sound_rules(stream, "impressions")
    ]
    assert pl.concat(reasons).to_list() == ["unknown surface: 430000_1"]
    raw = pl.read_csv(tmp_path / "files" / "raw_sample.csv", infer_schema=False)
    assert log["clk"].sum() == (raw["clk"] == "1").sum() - 1  # of the row without a time


def test_taobaos_profiles_and_ads_have_nulls_where_nothing_is_known(tmp_path: Path) -> None:
    written.taobao_raw(tmp_path)
    stream = taobao_ad.PROJECT.stream
    profile, ads = taobao_ad.PROJECT.feature_views[:2]
    assert stream.until is not None
    read = [
        source_rows(view, stream, tmp_path, stream.first_slice, stream.until).frame  # type: ignore[arg-type]
        for view in (profile, ads)
    ]
    people, catalogue = read
    assert 0 not in people["user_id"] and people["user_id"].n_unique() == people.height == 59
    assert people["pvalue_level"].to_list() == [None if user % 2 else 2 for user in people["user_id"]]
    assert people["new_user_class_level"].to_list() == [None if user % 3 else 4 for user in people["user_id"]]
    expected = [None if (int(ad) - 1) % 3 == 0 else str(99 + int(ad)) for ad in catalogue["item_id"]]
    assert catalogue["brand"].to_list() == expected
    assert catalogue["price"].to_list() == [8.5 + int(ad) for ad in catalogue["item_id"]]


def test_taobaos_behaviours_are_no_ads_and_come_apart_again(tmp_path: Path) -> None:
    written.taobao_raw(tmp_path / "files")
    work, log, _ = read_in(taobao_ad.PROJECT, tmp_path / "files", tmp_path / "state")
    stream = work.project.stream
    paths = sorted(work.state.log.glob("interactions/day=*/*.parquet"))
    met = pl.concat(pl.read_parquet(path, glob=False) for path in paths)
    assert not {*met["item_id"]} & {*log["item_id"]}
    assert stream.impressions_from is not None
    start, end = stream.impressions_from, stream.impressions_from + 2 * DAY
    nothing = pl.DataFrame(
        schema={"impression_id": pl.Int64, "task": pl.String, "outcome_timestamp": log.schema["event_timestamp"]}
    )
    view = taobao_ad.BEHAVIOURS
    rows = computed(view, stream, log.lazy(), nothing.lazy(), met.lazy(), start, end)
    raw = pl.read_csv(tmp_path / "files" / "behavior_log.csv", schema_overrides={"brand": pl.String})
    for row in rows.iter_rows(named=True):
        stamp = int(row["event_timestamp"].timestamp())
        mine = raw.filter(
            pl.col("user") == row["user_id"],
            pl.col("time_stamp") < stamp,
            pl.col("time_stamp") >= stamp - 86_400,
        )
        seen = sorted(zip(row["actions"], row["categories"], row["brands"], strict=True))
        assert seen == sorted(mine.select("btag", "cate", "brand").iter_rows())
        if mine["time_stamp"].n_unique() == mine.height:
            assert row["categories"] == mine.sort("time_stamp", descending=True)["cate"].to_list()
    assert rows.height > 100
    spec = member_of(taobao_ad.PROJECT, taobao_ad.PROJECT.teachers[0]).spec
    assert [(bag.name.removeprefix("behaviours__"), bag.of, bag.target) for bag in spec.bags] == [
        ("categories", "ads__cate_id", "ads__cate_id"), ("brands", "ads__brand", None), ("actions", None, None),
    ]  # fmt: skip
    assert sees_no_future(view, stream, log, nothing, met, start, end)


def test_videos_are_a_stream_of_their_order_without_lists_that_know_the_future(tmp_path: Path) -> None:
    for micro, made, labels in (
        (False, kuai_video, ("is_click", "is_like", "is_follow")), (True, micro_video, ("is_click",)),
    ):  # fmt: skip
        folder = tmp_path / f"{micro}"
        rows = written.videos(folder, micro=micro)
        paths = [folder / name for name in ("train.csv", "test.csv")]
        first, last = find_ends(paths, "timestamp")
        work, log, said = read_in(made(first, last), folder, tmp_path / f"state {micro}")
        assert said == [f"impressions: 2 files, {rows:,} rows = {rows:,} in the log + 0 quarantined"]
        raw = pl.concat(pl.read_csv(path) for path in paths)
        assert not {"pos_items", "neg_items", "clicked_items", "clicked_categories"} & {*log.columns}
        for label in labels:
            assert log[label].sum() == raw[label].sum()
        ordered = log.sort("event_timestamp")["item_id"].to_list()
        assert ordered == raw.sort("timestamp", maintain_order=True)["item_id"].to_list()
        stream = work.project.stream
        places = Counter(stream.index_at(moment) for moment in log["event_timestamp"])
        assert sorted(places) == list(range(10)) and min(places.values()) > rows / 20


def test_timestamps_outside_the_known_ends_have_no_place(tmp_path: Path) -> None:
    written.videos(tmp_path / "files", 100)
    assert main([str(tmp_path / "files"), "train.csv"]) == 0
    first, last = map(float, (tmp_path / "files" / "times.txt").read_text().split())
    work, log, said = read_in(kuai_video(first, last), tmp_path / "files", tmp_path / "state")
    assert log.height == 80 and said[0].endswith("80 in the log + 20 quarantined (null event_timestamp 20)")
    (tmp_path / "empty.csv").write_text("timestamp\nno\n")
    assert main([str(tmp_path), "empty.csv"]) == 2
    assert main([str(tmp_path), "empty.csv", "--column", "time"]) == 2


def test_avazus_three_files_are_one_log(tmp_path: Path) -> None:
    rows = written.avazu(tmp_path / "files")
    work, log, said = read_in(avazu.PROJECT, tmp_path / "files", tmp_path / "state")
    assert said == [f"impressions: 3 files, {rows:,} rows = {rows:,} in the log + 0 quarantined"]
    raw = pl.concat(
        pl.read_csv(tmp_path / "files" / f"{name}.csv", infer_schema=False) for name in ("train", "valid", "test")
    ).with_columns(impression_id=pl.col("id").cast(pl.UInt64).reinterpret(signed=True))
    both = log.join(raw, on="impression_id", suffix="_raw")
    assert both.height == rows and log["impression_id"].n_unique() == rows
    hours = both["event_timestamp"].dt.strftime("%y%m%d%H").to_list()
    assert hours == both["hour"].to_list()
    assert both["surface"].to_list() == ["app" if site == "85f751fd" else "site" for site in both["site_id"]]
    assert both["item_id"].cast(pl.String).to_list() == both["C14"].to_list()
    assert both["c21"].to_list() == both["C21"].to_list()
    nameless = pl.col("device_id") == "a99f214a"
    expected = pl.when(nameless).then(pl.concat_str("device_ip", pl.lit("-"), "device_model")).otherwise("device_id")
    assert both["user_id"].to_list() == both.select(expected).to_series().to_list()
    one_hour = replace(work.project.stream, slice_length=HOUR)
    assert {one_hour.index_at(moment) for moment in log["event_timestamp"]} <= set(range(240))
