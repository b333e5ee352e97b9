"""What joins the towers of a network in its project's views and columns, where no spec of a network can tell."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from exfm.inputs import Bucket, Number
from serving.retrievers import joined_by
from tests.serving.retrieval.towers import project_of

PRICE = Number(name="price", of_item=True)


def project() -> Any:
    made = project_of()
    both = replace(made.view("item_activity"), name="pair_activity", entities=("user_id", "item_id"))
    ranges = Bucket(name="ranges", of="price", edges=(1.0,))
    stream = replace(made.stream, numbers=(PRICE, Number(name="depth")), buckets=(ranges,))
    return replace(made, feature_views=(*made.feature_views, both), stream=stream)


@pytest.mark.parametrize(
    ("user", "item", "why"),
    [
        (("user_id", "country", "depth", "user_activity__clicks"), ("item_id", "price", "item_activity__x"), None),
        (("user_id", "pair_activity__x"), ("item_id",), "pair_activity__x is of a request and an item together"),
        (("user_id", "price"), ("item_id",), "price is of the item, and its network reads it beside the request"),
        (("user_id", "item_activity__x"), ("item_id",), "item_activity__x is of the item"),
        (("user_id",), ("item_id", "depth"), "depth is not of the item alone"),
        (("user_id",), ("item_id", "user_activity__x"), "user_activity__x is not of the item alone"),
        (("user_id",), ("item_id", "pair_activity__x"), "pair_activity__x is not of the item alone"),
    ],
)
def test_a_column_on_the_wrong_side_is_named(user: tuple[str, ...], item: tuple[str, ...], why: str | None) -> None:
    towers: Any = SimpleNamespace(
        **{side: SimpleNamespace(signature=SimpleNamespace(columns=columns)) for side, columns in
           (("user", user), ("item", item))}
    )  # fmt: skip
    said = joined_by(project(), towers)
    assert said is None if why is None else str(said).startswith(why)
