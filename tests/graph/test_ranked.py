"""Evaluations of order: by user always, by request where the log names requests; and those of an earlier exfm."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from exfm.log_columns import Request
from exfm_assets import metadata_keys as keys
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.summary import summary
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.streams.accounts import Account, SliceAccount
from pipeline.streams.layout import log_files
from pipeline.tables import write_parquet
from pipeline.workspace import Workspace
from tests.graph.runs import FIRST, LAST, run
from tests.tiny import tiny_project, tiny_workspace
from tests.whole import shown_of, tensors_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("ranked"),
]  # what all of them begin with is made once

TOP = 2
REST = 'not (group:"studies" or key:"simulated_log")'


@pytest.fixture(scope="module", params=[int, str])
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    tiny = tiny_project()
    named = replace(tiny.stream, request=Request(name="page", dtype=request.param, top=TOP))
    work = tiny_workspace(tmp_path_factory.mktemp("ranked"), replace(tiny, stream=named))
    assert run(work, FIRST, LAST).success
    yield work


def test_gauc_and_ndcg_are_those_of_each_users_and_each_requests_rows(work: Workspace) -> None:
    student = work.project.students[0]
    rows = evaluations_of(work, student)
    judged = rows.filter(pl.col("model") == "student").row(-1, named=True)
    until = datetime.fromisoformat(str(judged["trained_until"])).astimezone(UTC)
    trained = work.project.stream.slice_at(work.project.stream.index_at(until))
    slice_ = work.project.stream.slice_of(judged["slice"])
    learner, manifest = CheckpointStore.of(work, student).load(trained, "cpu")
    assert manifest.version == judged["checkpoint"]
    inputs = SliceInputs(work, slice_, "cpu", with_labels=True, columns=students_columns(work.project, [student]))
    labels = tensors_of(inputs).labels[:, tensors_of(inputs).task_names.index(student.task)].numpy()
    logits = learner.predict(tensors_of(inputs))[:, 0].numpy()
    shown = work.table("impressions").read([slice_], columns=["impression_id", "user_id", "page"])
    mine = (shown_of(inputs)["surface"] == student.surface).to_numpy() & np.isfinite(labels)
    frame = shown_of(inputs).select("impression_id").join(shown, on="impression_id", maintain_order="left").filter(mine)
    frame = frame.with_columns(label=labels[mine], logit=logits[mine])
    assert frame.height == judged["rows"] and frame["page"].n_unique() < frame.height
    by_user = [
        (roc_auc_score(part["label"], part["logit"]), part.height)
        for _, part in frame.group_by("user_id")
        if part["label"].n_unique() == 2
    ]
    assert judged["gauc"] == pytest.approx(_mean(by_user), abs=1e-9)
    pages = [part for _, part in frame.group_by("page") if part["label"].max()]
    each = [ndcg_score([p["label"]], [p["logit"]], k=TOP) if p.height > 1 else 1.0 for p in pages]
    assert judged["ndcg"] == pytest.approx(np.mean(each), abs=1e-9)
    assert judged["recall"] == pytest.approx(np.mean([_recalled(page) for page in pages]), abs=1e-9)
    assert {"gauc_student", "ndcg_control", "recall_student"} <= set(summary(work).columns)


def _recalled(page: pl.DataFrame) -> float:
    """Of a page's clicks, those among the first, where rows that score alike have a share of the last places."""
    ranked = page.group_by("logit").agg(pl.len().alias("rows"), pl.col("label").sum()).sort("logit", descending=True)
    left, found = TOP, 0.0
    for row in ranked.iter_rows(named=True):
        found += row["label"] * min(left, row["rows"]) / row["rows"]
        left -= min(left, row["rows"])
    return found / float(page["label"].sum())


def _mean(weighted: list[tuple[float, int]]) -> float:
    return sum(value * rows for value, rows in weighted) / sum(rows for _, rows in weighted)


def test_models_do_not_read_the_request(work: Workspace) -> None:
    assert "page" in work.table("impressions").read([work.project.stream.slice_at(1)]).columns
    assert "page" not in work.table("logged_inputs").read([work.project.stream.slice_at(1)]).columns
    manifest = CheckpointStore.of(work, work.project.students[0]).manifest(work.project.stream.slice_at(1))
    assert "page" not in str(manifest.declared)


@pytest.mark.long
@pytest.mark.slow
def test_declaring_a_request_judges_again_and_trains_nothing(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    assert run(work, FIRST, LAST).success
    student, stream = work.project.students[0], work.project.stream
    table, slice_ = work.evaluations(student.name), stream.slice_at(4)
    before = evaluations_of(work, student)
    assert before["ndcg"].is_null().all() and before["gauc"].is_not_null().any()
    versions = [CheckpointStore.of(work, student).version_at(stream.slice_at(index)) for index in range(5)]
    # As an exfm wrote it that had none of these: it stands, and is read beside newer ones.
    made_of = table.sidecar(slice_)
    assert made_of is not None
    table.write(slice_, table.read([slice_]).drop("gauc", "ndcg", "recall"), made_of.made_of)
    stored = evaluations_of(work, student)
    assert stored.columns == before.columns and stored.filter(pl.col("slice") == LAST)["gauc"].is_null().all()
    assert stored.drop("gauc").equals(before.drop("gauc"))
    ran = run(work, FIRST, LAST, select=REST)
    assert ran.success and evaluations_of(work, student).equals(stored)
    # The request is a new column of the log: evaluations are made again, and no model.
    named = replace(work.project, stream=replace(stream, request=Request(name="page", top=TOP)))
    for path in sorted(work.state.log.glob("impressions/*/*.parquet")):
        shown = pl.read_parquet(path, glob=False)
        write_parquet(shown.with_columns(page=pl.col("user_id").cast(pl.String)), path)
    work = Workspace(named, work.state)
    assert run(work, FIRST, LAST, select=REST).success
    after = evaluations_of(work, student)
    assert after["ndcg"].is_not_null().any() and after.filter(pl.col("slice") == LAST)["gauc"].is_not_null().any()
    assert after["ne"].equals(before["ne"])
    assert [CheckpointStore.of(work, student).version_at(stream.slice_at(index)) for index in range(5)] == versions


def test_a_request_that_the_log_names_from_some_day_on_is_unknown_before(tmp_path: Path) -> None:
    """And rows that name none are counted in the run's account."""
    tiny = tiny_project()
    plain = tiny_workspace(tmp_path)
    assert run(plain, FIRST, LAST, select='key:"simulated_log"').success
    last = sorted(plain.state.log.glob("impressions/*/*.parquet"))[-1]
    shown = pl.read_parquet(last, glob=False)
    page = pl.when(pl.col("impression_id") % 2 == 0).then(pl.col("user_id").cast(pl.String))
    write_parquet(shown.with_columns(page=page), last)
    work = Workspace(replace(tiny, stream=replace(tiny.stream, request=Request(name="page", top=TOP))), plain.state)
    assert run(work, FIRST, LAST, select=REST).success
    stored = [work.table("impressions").read([slice_])["page"] for slice_ in work.project.stream.all_slices or ()]
    assert all(values.is_null().all() for values in stored[:-1])
    assert 0.4 < stored[-1].null_count() / len(stored[-1]) < 0.6
    alone = sum(values.null_count() for values in stored)
    account = Account(log_files(work, "impressions"), work.project.stream)
    for slice_ in work.project.stream.all_slices or ():
        sidecar = work.table("impressions").sidecar(slice_)
        assert sidecar is not None
        account.add(SliceAccount(**sidecar.notes[keys.ACCOUNT]))
    assert f"{alone:,} rows name no page, so NDCG and recall leave them out" in account.sentence()[0]
    ndcg = evaluations_of(work, work.project.students[0]).filter(pl.col("model") == "student")["ndcg"]
    assert ndcg.is_nan().any() and ndcg.tail(1).is_finite().all()
