"""Bags of the ids of a view's feature, and what attention looks for in them."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from exfm.inputs import Bag
from exfm.log_columns import Column
from exfm.project import Project
from exfm.source_views import SourceView
from models.hashing import stable_hash
from models.network import Networks
from pipeline.registry.lineage import declaration_digest
from pipeline.registry.specs import encoder_of, member_of
from pipeline.streams.contract import schema_of
from pipeline.streams.simulated_inputs import log_inputs
from pipeline.streams.world import World
from pipeline.transforms.lists import hashed_lists
from tests.tiny import tiny_project

ADS = SourceView(
    name="ads", entities=("item_id",), path="ads",
    inputs=(Column(name="category", rows=64), Column(name="brand", rows=32, dtype=str)),
)  # fmt: skip
SEEN = Bag(
    name="seen", of="ads:category", pooling="attention", target="ads:category", beside=("brands",), length=3
)  # fmt: skip
BRANDS = Bag(name="brands", of="ads:brand", dtype=str, length=3)


def project_of(*bags: Bag, inputs: tuple[str, ...] = ("seen", "ads")) -> Project:
    tiny = tiny_project()
    return replace(
        tiny,
        stream=replace(tiny.stream, bags=bags),
        feature_views=(*tiny.feature_views, ADS),
        students=(replace(tiny.students[0], inputs=("user_id", "item_id", *inputs)),),
    )


def test_a_bag_shares_the_rows_of_a_views_feature_and_is_looked_through_for_it() -> None:
    project = project_of(SEEN, BRANDS)
    spec = member_of(project, project.students[0]).spec
    assert spec.bags[0].of == spec.bags[0].target == "ads__category" and not spec.bags[0].rows
    assert [(side.name, side.of, side.rows) for side in spec.sides] == [("brands", "ads__brand", 0)]
    assert dict(spec.lists)["seen"] == "ads__category" and "seen" not in dict(spec.table)
    encoder = encoder_of(project, project.students[0])
    rows = pl.DataFrame({"seen": [[5, 6]], "brands": [["x", None]]})
    rows = rows.with_columns(event_timestamp=pl.lit(datetime(2026, 1, 1, tzinfo=UTC)))
    hashed = hashed_lists(rows, ["seen", "brands"], encoder)
    for listed, of in (("seen", "ads__category"), ("brands", "ads__brand")):
        values, id_ = rows[listed][0].to_list(), encoder[of]
        assert hashed[listed][0].tolist() == stable_hash(values, id_.salt).tolist()


def test_the_log_has_the_ids_of_a_views_feature_as_the_bag_says() -> None:
    stream = project_of(SEEN, BRANDS).stream
    schema = schema_of(stream, "impressions")
    assert (schema["seen"], schema["brands"]) == (pl.List(pl.Int64), pl.List(pl.String))
    simulation = tiny_project().simulation
    assert simulation is not None
    drawn = log_inputs(World(simulation, stream), stream.slice_at(0), np.arange(50))
    types = [{type(id_) for ids in drawn[bag.name] if ids for id_ in ids} for bag in (SEEN, BRANDS)]
    assert types == [{int}, {str}]


def test_what_a_model_is_made_of_has_the_rows_of_a_feature_that_it_does_not_read() -> None:
    seen = Bag(name="seen", rows=64, beside=("brands",), length=3)
    project = project_of(seen, BRANDS, inputs=("seen",))
    category, brand = ADS.inputs
    other = replace(ADS, inputs=(category, replace(brand, rows=64)))  # type: ignore[type-var]
    larger = replace(project, feature_views=(*project.feature_views[:-1], other))
    digests = {declaration_digest(each, each.students[0]) for each in (project, larger)}
    assert len(digests) == 2


def test_a_side_of_a_feature_that_is_not_read_has_rows_of_its_own() -> None:
    project = project_of(SEEN, BRANDS, inputs=("seen", "ads:category"))
    spec = member_of(project, project.students[0]).spec
    assert [(side.name, side.of, side.rows) for side in spec.sides] == [("brands", None, 32)]


@pytest.mark.parametrize(("target", "found"), [(None, "item_id"), ("user_id", "user_id"), ("ads:brand", "ads__brand")])
def test_attention_looks_at_what_is_declared_and_else_at_the_item(target: str | None, found: str) -> None:
    project = project_of(Bag(name="seen", rows=16, pooling="attention", target=target))
    spec = member_of(project, project.students[0]).spec
    networks = Networks(1, spec, 0, {}, {})
    assert [spec.id_names[index] for index in networks.targets] == [found]
