"""Ids as hashes: a missing id is one of its own, large ids keep their bits, and no path is a pattern."""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch

from exfm.columns import Columns
from exfm.encoding import COUNT, NUMBER, id_encoding, list_encoding
from exfm.names import inputs_service
from models.hashing import NULL_HASH, stable_hash
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.tables import DataError
from pipeline.transforms.inputs import hashed_ids, numbers, rows_of, slice_tensors, tensors_for
from pipeline.transforms.lists import hashed_lists
from projects.simulated import STREAM
from tests.conftest import Ran
from tests.whole import tensors_of

LARGE = 2**53 + 1  # the first integer that a double can't hold
ODD_NAMES = ("a[b]c", "a*c", "a?c", "a%20c", "a#c", "a:c", "a b", "ünï ☃", "it's", 'say "x"', "a{b,c}d")


def ids(column: pl.Series) -> list[int]:
    encoder = {"id": id_encoding("id", str if column.dtype == pl.String else int)}
    hashed: list[int] = hashed_ids(pl.DataFrame({"id": column}), ["id"], encoder)[:, 0].tolist()
    return hashed


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Int8, pl.UInt32])
def test_a_missing_integer_is_an_id_of_its_own(dtype: type[pl.DataType]) -> None:
    whole, holed = ids(pl.Series([7, 8, 0], dtype=dtype)), ids(pl.Series([7, None, 0], dtype=dtype))
    assert holed == [whole[0], NULL_HASH, whole[2]]
    assert NULL_HASH not in whole


def test_a_missing_string_is_an_id_of_its_own() -> None:
    assert ids(pl.Series(["feed", None, ""])) == stable_hash(["feed", None, ""], "id").tolist()


@pytest.mark.parametrize("value", [LARGE, -LARGE, 2**63 - 1, -(2**63)])
def test_large_ids_keep_their_bits_beside_a_missing_one(value: int) -> None:
    alone = stable_hash(np.array([value]), "id").tolist()
    assert ids(pl.Series([value, None], dtype=pl.Int64)) == [*alone, NULL_HASH]
    assert ids(pl.Series([value], dtype=pl.Int64)) == alone


def test_histories_hold_missing_and_large_ids() -> None:
    lists = pl.DataFrame({"h": [[LARGE, None], None, [], [3]]}, schema={"h": pl.List(pl.Int64)})
    values, offsets = hashed_lists(lists, ["h"], {"h": list_encoding("item_id", int)})["h"]
    large, small = stable_hash(np.array([LARGE, 3]), "item_id").tolist()
    assert values.tolist() == [large, NULL_HASH, small]
    assert offsets.tolist() == [0, 2, 2, 2, 3]


def test_a_slice_with_missing_ids_becomes_tensors() -> None:
    frame = pl.DataFrame({"impression_id": [1, 2], "device": [None, LARGE]}, schema_overrides={"device": pl.Int64})
    columns = Columns(ids=("device",), features=())
    tensors = slice_tensors(frame, None, columns, STREAM.task_names, {"device": id_encoding("device", int)})
    assert tensors.ids[:, 0].tolist() == [NULL_HASH, *stable_hash(np.array([LARGE]), "device").tolist()]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Float32, pl.UInt8])
def test_a_count_is_a_count_whatever_type_it_comes_in(dtype: type[pl.DataType]) -> None:
    """pandas makes floats of integers beside nulls: the declaration says what they are, not the type."""
    frame = pl.DataFrame({"n": pl.Series([200, None, 0], dtype=dtype)})
    assert numbers(frame, ["n"], {"n": COUNT})[:, 0].tolist() == pytest.approx([np.log1p(200), 0, 0])
    rate = pl.DataFrame({"n": pl.Series([0.5, None, float("nan")])})
    assert numbers(rate, ["n"], {"n": NUMBER})[:, 0].tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)


def test_integer_ids_that_came_as_floats_are_the_same_ids() -> None:
    encoder = {"id": id_encoding("id", int)}

    def hashed(values: pl.Series) -> list[int]:
        return list(hashed_ids(pl.DataFrame({"id": values}), ["id"], encoder)[:, 0])

    assert hashed(pl.Series([7.0, float("nan"), None])) == hashed(pl.Series([7, None, None], dtype=pl.Int64))
    for wrong in (7.5, 2.0**53, float("inf")):
        with pytest.raises(DataError, match=r"^id: .* as a float is no integer id"):
            hashed(pl.Series([1.0, wrong]))


def test_the_declared_encoder_is_that_of_every_stored_column(ran: Ran) -> None:
    """Of tables that the graph wrote, a type would have said the same: no stored number changes."""
    project, (first, *_) = ran.work.project, ran.work.table("logged_inputs").stored(ran.work.project.stream)
    for table, columns in (("logged_inputs", project.logged_columns),
                           ("logged_teacher_features", project.teacher_feature_columns)):  # fmt: skip
        schema, encoder = ran.work.table(table).read([first]).schema, project.encoder(columns)
        assert set(encoder) == {*columns.ids, *columns.of_views}
        for name, encoding in encoder.items():
            dtype = schema[name]
            lists = "ages" if name.endswith("__at") else "ids"
            kind = lists if isinstance(dtype, pl.List) else "id" if name in columns.ids else None
            assert encoding.kind == (kind or ("count" if dtype.is_integer() else "number")), name
            if encoding.dtype is not None:
                inner = dtype.inner if isinstance(dtype, pl.List) else dtype
                assert (encoding.dtype == "int") == inner.is_integer(), name


def test_a_checkpoint_reads_rows_from_feast_as_it_read_them_when_it_trained(ran: Ran) -> None:
    """Its manifest's encoder makes the same tensors of what pandas made of the columns."""
    work, student = ran.work, ran.work.project.students[0]
    slice_ = work.project.stream.slice_at(3)
    learner, manifest = CheckpointStore.of(work, student).load(slice_, "cpu")
    columns = students_columns(work.project, [student])
    logged = SliceInputs(work, slice_, "cpu", False, columns)
    entities = (
        work.table("logged_inputs")
        .read([slice_])
        .select("impression_id", "event_timestamp", *work.project.logged_columns.ids)
    )
    features = work.store.get_feature_service(inputs_service(student.name))
    job = work.store.get_historical_features(entity_df=entities.to_pandas(), features=features, full_feature_names=True)
    counts = [name for name, encoding in manifest.encoder.items() if encoding.kind == "count"]
    answer = job.to_df().astype(dict.fromkeys(counts, "float64"))  # what pandas does as soon as one is missing
    assert counts
    rows = entities.select("impression_id").join(pl.from_pandas(answer), on="impression_id", maintain_order="left")
    mine, theirs = learner.predict(tensors_for(manifest, rows)), learner.predict(tensors_of(logged))
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_is_read_as_it_is_written(tmp_path: Path, name: str) -> None:
    for folder, value in ((name, 1), ("abc", 2), ("axc", 3), ("ac", 4)):
        (tmp_path / folder).mkdir(exist_ok=True)
        pl.DataFrame({"x": [value]}).write_parquet(tmp_path / folder / "part.parquet")
    assert duckdb.sql(rows_of(tmp_path / name / "part.parquet", "x")).fetchall() == [(1,)]


@pytest.mark.filterwarnings("error")
def test_tensors_are_no_views_of_the_frames_they_come_from() -> None:
    """PyTorch warns of memory that it may not write, and would write into the table's."""
    frame = pl.DataFrame({"impression_id": [1, 2], "price": pl.Series([1.0, 2.0], dtype=pl.Float32)})
    labels = pl.DataFrame({"impression_id": [1, 2], "watch": pl.Series([1.0, 0.5], dtype=pl.Float32)})
    columns = Columns(ids=(), features=(), numbers=("price",))
    tensors = slice_tensors(frame, labels, columns, ("watch",), {"price": NUMBER})
    tensors.numbers[0], tensors.labels[0] = 9.0, 9.0
    assert frame["price"].to_list() == [1.0, 2.0] and labels["watch"].to_list() == [1.0, 0.5]
