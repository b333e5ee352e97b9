"""Ids of an answer's places: against plain whole numbers, all different, and spread over all bits."""

from uuid import UUID, uuid4

import numpy as np
import pytest

from serving.impression_ids import impression_ids

BITS = 2**63 - 1


def mixed(value: int) -> int:
    value &= BITS
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ (value >> shift)) * factor & BITS
    return value ^ (value >> 31)


def plainly(request: UUID, places: int) -> list[int]:
    first = mixed((request.int >> 64) ^ mixed(request.int & (2**64 - 1)))
    return [max(mixed(first + place), 1) for place in range(places)]


@pytest.mark.parametrize("request_id", [UUID(int=0), UUID(int=2**128 - 1), UUID(int=2**64), uuid4()])
def test_they_are_what_plain_whole_numbers_give(request_id: UUID) -> None:
    ids = impression_ids(request_id, 300)
    assert ids.dtype == np.int64 and ids.tolist() == plainly(request_id, 300)
    assert (ids > 0).all() and len(set(ids.tolist())) == 300


def test_those_of_many_answers_are_different_and_even_in_every_bit() -> None:
    requests = [UUID(int=(number << 66) | number, version=4) for number in range(1, 501)]  # alike in most bits
    ids = np.concatenate([impression_ids(request, 100) for request in requests])
    assert len(np.unique(ids)) == 50_000
    set_ = ((ids[:, None] >> np.arange(63)) & 1).mean(axis=0)
    assert abs(set_ - 0.5).max() < 0.015  # six standard errors


def test_no_answer_no_ids() -> None:
    assert impression_ids(uuid4(), 0).shape == (0,)
