"""``exfm bars``: what it reads, learns and says, on small files with a planted signal."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from exfm.fixed_split import FixedSplit
from exfm.inputs import Number
from exfm.learning import Training
from exfm.load import load_fixed_split
from exfm.networks import DCNv2
from exfm_assets.command import main
from pipeline.bars import reading
from pipeline.bars import shards as shards_module
from pipeline.bars.reading import SplitReader
from pipeline.bars.training import Trained, train
from pipeline.tables import DataError
from tests.public_sets import written

WRITERS: dict[str, Callable[[Path], object]] = {
    "taobao_ad_x1": written.taobao_x1, "amazon_electronics_x1": written.amazon_x1, "criteo_x4": written.criteo_x4,
    "avazu_x4": lambda folder: written.avazu(folder, 4_000),
    "kuai_video_x1": lambda folder: (written.videos(folder, 4_000), vectors(folder / "item_visual.parquet")),
    "micro_video_x1": lambda folder: (
        written.videos(folder, 4_000, micro=True), vectors(folder / "item_image.parquet")
    ),
}  # fmt: skip


def vectors(path: Path) -> None:
    """Of all items but one."""
    values = np.random.default_rng(0).standard_normal((59, 64)).astype(np.float32)
    pl.DataFrame({"item_id": range(59), "image": values.tolist()}).write_parquet(path)


def small(name: str, **changes: object) -> FixedSplit:
    """A set in a size that a test trains in a second: fewer rows of tables, a small network."""
    split = load_fixed_split(f"projects.fixed_splits.{name}:SPLIT")
    columns = tuple(replace(column, rows=min(column.rows, 2**12)) for column in split.columns)
    network, training = DCNv2(embedding=8, hidden=(32,)), Training(batch_size=256, table_learning_rate=0.1)
    chosen = {"network": network, "training": training, "columns": columns, "epochs": 6, **changes}
    return replace(split, **chosen)  # type: ignore[arg-type]


def gauc_by_loop(trained: Trained) -> float:
    scores, sums, weights = trained.scores, 0.0, 0
    assert scores.groups is not None
    for group in np.unique(scores.groups[scores.groups >= 0]):
        mine = scores.groups == group
        if 0 < scores.labels[mine].mean() < 1:
            sums += metrics.roc_auc_score(scores.labels[mine], scores.logits[mine]) * mine.sum()
            weights += mine.sum()
    return sums / weights


@pytest.mark.parametrize("name", WRITERS)
def test_each_set_is_learnt_and_its_figures_are_those_of_scikit_learn(name: str, tmp_path: Path) -> None:
    data, split = tmp_path / "data", small(name)
    WRITERS[name](data)
    trained = train(split, data, tmp_path / "work")
    assert trained.test.auc > 0.6 and trained.test.rows == len(trained.scores.labels)
    scores = trained.scores
    chances = 1 / (1 + np.exp(-scores.logits.astype(np.float64)))
    assert trained.test.auc == pytest.approx(metrics.roc_auc_score(scores.labels, scores.logits), abs=1e-12)
    assert trained.test.log_loss == pytest.approx(metrics.log_loss(scores.labels, chances), abs=1e-9)
    if split.group is None:
        assert np.isnan(trained.test.gauc)
    else:
        assert trained.test.gauc == pytest.approx(gauc_by_loop(trained), abs=1e-12)
    raw = pl.read_csv(data / "test.csv", infer_schema=False)
    label = {"label": "Label"}.get(split.label, split.label) if name == "criteo_x4" else split.label
    assert scores.labels.sum() == (raw[label] == "1").sum() and len(scores.labels) == raw.height
    assert all(file.quarantined == 0 and file.rows == file.used for file in trained.files)
    read = {file.name: file.rows for file in trained.files if file.part != "table"}
    for file, rows in read.items():
        assert rows == pl.read_csv(data / file, infer_schema=False).height
    assert trained.held_back == (split.valid is None)
    if trained.held_back:
        assert (trained.train_rows, trained.valid.rows) == (
            read["train.csv"] - read["train.csv"] // 10,
            read["train.csv"] // 10,
        )
    assert not list((tmp_path / "work").iterdir())  # shards are gone


def test_test_rows_choose_nothing(tmp_path: Path) -> None:
    """Turned labels, or other rows, in test.csv: the same epochs, the same weights, the same figures on validation."""
    written.taobao_x1(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    rows = (tmp_path / "a" / "test.csv").read_text().splitlines()
    turned = [f"{1 - int(row[0])}{row[1:]}" for row in rows[1:]]
    (tmp_path / "b" / "test.csv").write_text("\n".join([rows[0], *turned]) + "\n")
    split = small("taobao_ad_x1", patience=1, epochs=30)
    one, other = (train(split, tmp_path / each, tmp_path / "work") for each in "ab")
    assert (one.best, one.epochs, one.valid) == (other.best, other.epochs, other.valid)
    assert np.array_equal(one.scores.logits, other.scores.logits)
    assert one.test.auc == pytest.approx(1 - other.test.auc) and one.epochs < 30


def test_the_held_back_rows_are_the_last_tenth_and_none_is_trained_on(tmp_path: Path) -> None:
    written.taobao_x1(tmp_path / "data", train=1_000)
    (tmp_path / "aside").mkdir()
    reader = SplitReader(small("taobao_ad_x1"), tmp_path / "data", tmp_path / "aside")
    learnt, judged = reader.read_train()
    places = [
        sorted(place for shard in shards.used for place in shards.read(shard).places.tolist())
        for shards in (learnt, judged)
    ]
    assert places == [list(range(900)), list(range(900, 1_000))]


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    written.taobao_x1(tmp_path / "data", train=1_500)
    split = small("taobao_ad_x1", epochs=40, training=Training(batch_size=64, table_learning_rate=0.5))
    trained = train(split, tmp_path / "data", tmp_path / "work")
    assert trained.epochs == trained.best + split.patience < 40
    again = train(replace(split, epochs=trained.best), tmp_path / "data", tmp_path / "work")
    assert np.array_equal(again.scores.logits, trained.scores.logits)


def test_many_shards_hold_the_same_rows_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.taobao_x1(tmp_path / "data")
    whole = train(small("taobao_ad_x1"), tmp_path / "data", tmp_path / "work")
    monkeypatch.setattr(shards_module, "SHARD_ROWS", 300)
    monkeypatch.setattr(reading, "BATCH", 700)
    cut = train(small("taobao_ad_x1"), tmp_path / "data", tmp_path / "work")
    assert cut.train_rows == whole.train_rows and cut.test.rows == whole.test.rows
    assert cut.scores.labels.sum() == whole.scores.labels.sum()
    assert cut.test.auc > 0.7 and abs(cut.test.auc - whole.test.auc) < 0.05


def test_lists_and_counts_are_read_as_they_stand(tmp_path: Path) -> None:
    """By plain Python: histories of differing length cut at ``^``, Criteo's ranges, Avazu's hours."""
    written.taobao_x1(tmp_path / "t", train=200)
    frame = staged(small("taobao_ad_x1"), tmp_path / "t")
    raw = pl.read_csv(tmp_path / "t" / "train.csv", infer_schema=False)
    for name in ("btag_his", "cate_his", "brand_his"):
        assert [each or [] for each in frame[name].to_list()] == [
            (cell or "").split("^") if cell else [] for cell in raw[name]
        ]
    assert frame["pid"].to_list() == raw["pid"].to_list()
    written.criteo_x4(tmp_path / "c", rows=300)
    counts = pl.read_csv(tmp_path / "c" / "train.csv", infer_schema=False)["I1"]
    expected = [int(np.floor(np.log(int(x)) ** 2)) if int(x or 0) > 2 else int(x or 0) for x in counts]
    assert staged(small("criteo_x4"), tmp_path / "c")["i1"].to_list() == expected
    written.avazu(tmp_path / "a", rows=300)
    texts = pl.read_csv(tmp_path / "a" / "train.csv", infer_schema=False)["hour"]
    hours = (texts + "00").str.to_datetime("%y%m%d%H%M")
    read = staged(small("avazu_x4"), tmp_path / "a")
    assert read["hour_of_day"].to_list() == hours.dt.hour().to_list()
    assert read["weekday"].to_list() == hours.dt.weekday().to_list()
    assert read["weekend"].to_list() == [int(day > 5) for day in hours.dt.weekday()]


def staged(split: FixedSplit, data: Path) -> pl.DataFrame:
    """The training rows as they are read, in their order."""
    aside = data / "aside"
    aside.mkdir()
    ((path, _),) = SplitReader(split, data, aside).stage("train")
    return pl.read_parquet(path)


def test_rows_that_are_none_are_counted_with_the_reason(tmp_path: Path) -> None:
    written.taobao_x1(tmp_path / "data")
    path = tmp_path / "data" / "train.csv"
    header, first, *rest = path.read_text().splitlines()
    broken = [first.replace(first[0], each, 1) for each in ("2", "", "x")]
    cells = first.split(",")
    cells[18] = "dear"
    path.write_text("\n".join([header, *rest, first, *broken, ",".join(cells), "1,2,3"]) + "\n")
    trained = train(small("taobao_ad_x1", epochs=1), tmp_path / "data", tmp_path / "work")
    (file,) = (each for each in trained.files if each.part == "train")
    assert (file.rows, file.used, file.quarantined) == (4_005, 4_000, 5)
    assert file.reasons == {
        "clk is no label": 1, "null label": 1, "price is no number": 1, "the label is neither 0 nor 1": 1,
        "no row of a CSV": 1,
    }  # fmt: skip


def test_no_row_to_use_is_said_with_the_reasons(tmp_path: Path) -> None:
    written.taobao_x1(tmp_path / "data", train=20, test=20)
    path = tmp_path / "data" / "train.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"7{row[1:]}" for row in rows)]) + "\n")
    with pytest.raises(DataError, match=r"train: 20 rows leave none to use: .*the label is neither 0 nor 1': 20"):
        train(small("taobao_ad_x1"), tmp_path / "data", tmp_path / "work")


def test_the_command_prints_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written.taobao_x1(tmp_path / "data", train=600, test=200)
    monkeypatch.setenv("EXFM_STATE", str(tmp_path / "state"))
    monkeypatch.setitem(sys.modules, "small_split", type(sys)("small_split"))
    sys.modules["small_split"].SPLIT = small("taobao_ad_x1", numbers=(Number(name="price"),))  # type: ignore[attr-defined]
    given = ["bars", "small_split:SPLIT", "--data", str(tmp_path / "data"), "--epochs", "2", "--seed", "3"]
    assert main([*given, "--model", "DeepFM"]) == 0
    said = capsys.readouterr().out
    assert "DeepFM here, seed 3" in said and "DIEN" in said and "0.6529" in said
    assert "600 │  600 │           0 │" in said and "Stopped by the last tenth of the training rows (60)" in said
    assert main([*given, "--model", "BERT"]) == 2
    assert "--model: 'BERT' is not a declared model" in capsys.readouterr().out


@pytest.mark.parametrize(("missing", "sentence"), [
    ("train.csv", "FixedSplit(kuai_video_x1).train: Files.paths 'train.csv' names no file below"),
    ("test.csv", "FixedSplit(kuai_video_x1).test: Files.paths 'test.csv' names no file below"),
    ("item_visual.parquet", "python -m projects.convert_vectors item_visual_emb_dim64.h5 item_visual.parquet"),
])  # fmt: skip
def test_a_file_that_is_missing_is_said_before_any_is_read(tmp_path: Path, missing: str, sentence: str) -> None:
    WRITERS["kuai_video_x1"](tmp_path / "data")
    (tmp_path / "data" / missing).unlink()
    said: list[str] = []
    with pytest.raises(DataError) as refused:
        train(small("kuai_video_x1"), tmp_path / "data", tmp_path / "work", tell=said.append)
    assert sentence in str(refused.value) and said == []


def test_what_is_wrong_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXFM_DATA", raising=False)
    name = "projects.fixed_splits.taobao_ad_x1:SPLIT"
    for arguments, sentence in (
        ((name,), "--data: not given, and EXFM_DATA is not set: name the folder that holds train.csv"),
        ((name, "--data", str(tmp_path / "none")), "is not a folder: name the one that holds train.csv"),
        (("taobao", "--data", str(tmp_path)), "bars: 'taobao' is not a declared fixed split"),
        ((name, "--data", str(tmp_path), "--epochs", "0"), "epochs: 0 is too small"),
    ):
        assert main(["bars", *arguments]) == 2
        assert sentence in " ".join(capsys.readouterr().out.split())
    written.taobao_x1(tmp_path / "data", train=50, test=50)
    path = tmp_path / "data" / "test.csv"
    path.write_text(path.read_text().replace("adgroup_id", "ad_group", 1))
    with pytest.raises(
        DataError, match=r"test.adgroup_id: test.csv has no column 'adgroup_id' \(did you mean 'ad_group'"
    ):
        train(small("taobao_ad_x1"), tmp_path / "data", tmp_path / "work")
