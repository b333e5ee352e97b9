"""The main job over Taobao's four raw files in small: read in, joined, taught, distilled and released."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from exfm.learning import Gate, Training
from exfm.networks import DCNv2
from exfm.project import Project
from exfm.state import State
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace
from projects.taobao_ad import PROJECT
from tests.graph.runs import failed_checks, made_by, run, sentences
from tests.public_sets import written

DAY = timedelta(days=1)
DAYS, A_DAY = 4, 600
FIRST, LAST = "2017-05-06", "2017-05-09"


def small() -> Project:
    """The declared project over its first days, with small networks and tables."""
    stream = replace(
        PROJECT.stream,
        until=PROJECT.stream.first_slice + DAYS * DAY,
        user=replace(PROJECT.stream.user, rows=2**10),
        item=replace(PROJECT.stream.item, rows=2**10),
    )
    network, training = DCNv2(embedding=4, hidden=(16,)), Training(batch_size=128)
    gate = Gate(tolerance=1.0, judged_rows=100, calibration=10.0, rows=100)
    return replace(
        PROJECT,
        stream=stream,
        teachers=(replace(PROJECT.teachers[0], network=network, training=training),),
        students=tuple(replace(student, network=network, training=training, gate=gate) for student in PROJECT.students),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("taobao")
    written.taobao_raw(folder / "files", A_DAY, DAYS)
    made = Workspace(small(), State(folder=folder / "state", log=folder / "state" / "log", files=folder / "files"))
    ran = run(made, FIRST, LAST)
    assert ran.success, sentences(ran)
    assert not [check for check in failed_checks(ran) if "drift" not in check], failed_checks(ran)
    yield made


@pytest.mark.slow
def test_every_impression_is_in_the_slice_of_its_day_with_what_was_known(work: Workspace) -> None:
    stream = work.project.stream
    stored = {each.key: work.table("impressions").read([each]) for each in stream.all_slices or ()}
    assert sum(frame.height for frame in stored.values()) == DAYS * A_DAY + 2
    for key, frame in stored.items():
        local = frame["event_timestamp"].dt.convert_time_zone("Asia/Shanghai").dt.date()
        assert {str(day) for day in local} == {key}
    met = pl.read_csv(work.state.data / "behavior_log.csv", schema_overrides={"cate": pl.String})
    for index, slice_ in enumerate(stream.all_slices or ()):
        logged = work.table("logged_inputs").read([slice_])
        assert logged.filter(pl.col("user_id") == 0)["profile__age_level"].null_count() > 0
        assert logged.filter(pl.col("user_id") != 0)["profile__age_level"].null_count() == 0
        assert logged["ads__price"].null_count() == 0 and logged["ads__brand"].null_count() > 0
        start = int(slice_.start.timestamp())
        before = met.filter(pl.col("time_stamp") < start, pl.col("time_stamp") >= start - 86_400)
        for user, categories in logged.select("user_id", "behaviours__categories").unique("user_id").iter_rows():
            mine = before.filter(pl.col("user") == user)["cate"].to_list()
            # What was before the stream is seen by nothing.
            assert sorted(categories or []) == (sorted(mine) if index else []), (index, user)


@pytest.mark.slow
def test_students_of_both_places_learnt_and_a_second_run_makes_nothing(work: Workspace) -> None:
    last_but_one = work.project.stream.slice_at(DAYS - 2)
    for student in work.project.students:
        assert CheckpointStore.of(work, student).manifest(last_but_one).slice == last_but_one.key
        evaluations = work.evaluations(student.name)
        assert not evaluations.read(evaluations.stored(work.project.stream)).is_empty()
    assert not made_by(run(work, FIRST, LAST))
