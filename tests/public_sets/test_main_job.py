"""The main job over public sets in small: read in, joined, taught, distilled."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.learning import Gate, Training
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import State
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from projects import avazu, taobao_ad
from projects.kuai_video import kuai_video
from projects.micro_video import micro_video
from tests.graph.runs import failed_checks, made_by, run, sentences
from tests.public_sets import written

DAY = timedelta(days=1)
DAYS, A_DAY = 4, 600
FIRST, SHOWN, LAST = "2017-04-29", "2017-05-06", "2017-05-09"


def small(project: Project, days: int = DAYS) -> Project:
    """A declared project over its first days, with small networks and tables."""
    stream = project.stream
    few = {column.name: replace(column, rows=2**8) for column in stream.context}
    stream = replace(
        stream,
        until=(stream.impressions_from or stream.first_slice) + days * DAY,
        user=replace(stream.user, rows=2**10),
        item=replace(stream.item, rows=2**10),
        context=tuple(few.values()),
    )
    network, training = DCNv2(embedding=4, hidden=(16,)), Training(batch_size=128)
    gate = Gate(tolerance=1.0, judged_rows=100, calibration=10.0, rows=100)
    return replace(
        project,
        stream=stream,
        teachers=(replace(project.teachers[0], network=network, training=training),),
        students=tuple(replace(student, network=network, training=training, gate=gate) for student in project.students),
    )


def workspace(project: Project, folder: Path) -> Workspace:
    return Workspace(project, State(folder=folder / "state", log=folder / "state" / "log", files=folder / "files"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("taobao")
    written.taobao_raw(folder / "files", A_DAY, DAYS)
    made = workspace(small(taobao_ad.PROJECT), folder)
    ran = run(made, FIRST, LAST)
    assert ran.success, sentences(ran)
    assert not [check for check in failed_checks(ran) if "drift" not in check], failed_checks(ran)
    yield made


@pytest.mark.slow
def test_every_impression_is_in_the_slice_of_its_day_with_what_was_known(work: Workspace) -> None:
    stream = work.project.stream
    stored = {each.key: work.table("impressions").read([each]) for each in stream.all_slices or ()}
    assert sum(frame.height for frame in stored.values()) == DAYS * A_DAY + 2
    assert {key for key, frame in stored.items() if not frame.is_empty()} == {f"2017-05-0{day}" for day in range(6, 10)}
    for key, frame in stored.items():
        if frame.is_empty():
            continue
        local = frame["event_timestamp"].dt.convert_time_zone("Asia/Shanghai").dt.date()
        assert {str(day) for day in local} == {key}
    met = pl.read_csv(work.state.data / "behavior_log.csv")
    for slice_ in stream.slices_between(SHOWN, LAST):
        logged = work.table("logged_inputs").read([slice_])
        assert logged.filter(pl.col("user_id") == 0)["profile__age_level"].null_count() > 0
        assert logged.filter(pl.col("user_id") != 0)["profile__age_level"].null_count() == 0
        assert logged["ads__price"].null_count() == 0 and logged["ads__brand"].null_count() > 0
        start = int(slice_.start.timestamp())
        before = met.filter(pl.col("time_stamp") < start, pl.col("time_stamp") >= start - 86_400)
        assert before.height > 100  # also before the first day with impressions
        for user, categories in logged.select("user_id", "behaviours__categories").unique("user_id").iter_rows():
            mine = before.filter(pl.col("user") == user)["cate"].to_list()
            assert sorted(categories or []) == sorted(mine), (slice_.key, user)


@pytest.mark.slow
def test_students_of_both_places_learnt_and_a_second_run_makes_nothing(work: Workspace) -> None:
    stream = work.project.stream
    last_but_one = stream.slice_at(stream.index_at(stream.slice_of(LAST).start) - 1)
    for student in work.project.students:
        assert CheckpointStore.of(work, student).manifest(last_but_one).slice == last_but_one.key
        evaluations = work.evaluations(student.name)
        assert not evaluations.read(evaluations.stored(work.project.stream)).is_empty()
    assert not made_by(run(work, FIRST, LAST))


def write_videos(folder: Path, *, micro: bool) -> None:
    written.videos(folder, 3_000, micro=micro)
    values = np.random.default_rng(0).standard_normal((59, 64)).astype(np.float32)
    vectors = pl.DataFrame({"item_id": range(59), "image": values.tolist()})
    vectors.write_parquet(folder / ("item_image.parquet" if micro else "item_visual.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avazu", "kuai_video", "micro_video"])
def test_the_others_run_over_their_first_days(name: str, tmp_path: Path) -> None:
    if name == "avazu":
        project = avazu.PROJECT
        written.avazu(tmp_path / "files", 6_000)
    else:
        project = (kuai_video if name == "kuai_video" else micro_video)(761_000_000_000.0, 761_100_000_000.0)
        write_videos(tmp_path / "files", micro=name == "micro_video")
    work = workspace(small(project), tmp_path)
    stream = work.project.stream
    ran = run(work, stream.slice_at(0).key, stream.slice_at(DAYS - 1).key)
    assert ran.success, sentences(ran)
    assert not [check for check in failed_checks(ran) if "drift" not in check], failed_checks(ran)
    inputs = work.table("logged_inputs").read([stream.slice_at(DAYS - 1)])
    listed = "seen__last" if name == "avazu" else "clicked__last"
    assert inputs[listed].list.len().max() and inputs.height > 100
    for student in work.project.students:
        evaluations = work.evaluations(student.name)
        assert not evaluations.read(evaluations.stored(stream)).is_empty()
