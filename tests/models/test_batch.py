"""The hash by golden values and properties, and the slice's contract."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.batch import pick
from models.errors import LearningError
from models.hashing import NULL_HASH, stable_hash
from tests.models.worlds import slice_tensors


def test_hashes_are_what_every_machine_and_version_computes() -> None:
    assert stable_hash(np.array([0, 1, -1]), "user_id").tolist() == [
        2423814948115742065,
        -4273027978011003492,
        -7344567286217119536,
    ]
    assert stable_hash(["feed", None, ""], "surface").tolist() == [
        4124806836068806674,
        -9223372036854775808,
        946973158069262235,
    ]


def test_kinds_of_the_same_integers_hash_alike() -> None:
    expected = stable_hash(np.array([1, 2, 300]), "item").tolist()
    assert stable_hash(np.array([1, 2, 300], dtype=np.uint16), "item").tolist() == expected
    assert stable_hash([1, None, 300], "item").tolist() == [expected[0], NULL_HASH, expected[2]]
    nulls = np.array([False, True, False])
    assert stable_hash(np.array([1, 2, 300]), "item", nulls).tolist() == [expected[0], NULL_HASH, expected[2]]


def test_integers_never_collide_and_columns_differ() -> None:
    column = np.arange(-50_000, 50_000)
    assert len(np.unique(stable_hash(column, "a"))) == len(column)
    assert not np.intersect1d(stable_hash(column, "a"), stable_hash(column, "b")).size


def test_rows_spread_evenly_and_are_never_negative() -> None:
    rows = torch.remainder(torch.from_numpy(stable_hash(np.arange(64_000), "user")), 64)
    assert int(rows.min()) == 0
    counts = rows.bincount(minlength=64)
    assert len(counts) == 64
    assert 850 < int(counts.min()) <= int(counts.max()) < 1150  # 1000 each, +-5 standard deviations


def test_float_ids_are_refused() -> None:
    with pytest.raises(LearningError, match="column user: ids of type float"):
        stable_hash(np.array([1.0, np.nan]), "user")


def test_a_shape_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(LearningError, match=r"SliceTensors.numbers: \(3, 1\) torch.float32 .* pass \(300, 1\)"):
        replace(slice_tensors(), numbers=torch.zeros(3, 1))
    with pytest.raises(LearningError, match=r"SliceTensors.ids: .* torch.int32"):
        replace(slice_tensors(), ids=slice_tensors().ids.int())


def test_rows_and_columns_are_taken_alike_from_all_tensors() -> None:
    whole = slice_tensors(tasks=("click", "buy"))
    part = whole.take(torch.tensor([7, 2]))
    assert torch.equal(part.ids, whole.ids[[7, 2]])
    assert torch.equal(part.teachers["large"].nan_to_num(9), whole.teachers["large"][[7, 2]].nan_to_num(9))
    swapped = pick(whole.labels, whole.task_names, ("buy", "click"), "task")
    assert torch.equal(swapped.nan_to_num(9), whole.labels.flip(1).nan_to_num(9))
    with pytest.raises(LearningError, match="task 'share' is not among"):
        pick(whole.labels, whole.task_names, ("share",), "task")
