"""Inputs of the log that can't be, or that a network can't read.

Belongs here: cases, each with the field that its sentence must name. Not here: the test (test_wrong.py).
"""

from dataclasses import replace
from typing import Any

from exfm.computed_views import PythonView, SqlView
from exfm.inputs import Bag, Bucket, Cross, Number, Vector
from exfm.log_columns import Column
from exfm.networks import TwoTower
from exfm.project import Project
from exfm.source_views import SourceView
from projects.simulated import PROJECT
from tests.declarations.base import DAY, IDS, NAN, Wrong, project, stream, student

PRICE, BRAND = Number(name="price"), Column(name="brand", rows=9, dtype=str)


def reading(*inputs: str, network: Any = None, **declared: Any) -> Project:
    """A student that reads some of what the stream declares."""
    more = {} if network is None else {"network": network}
    return project(stream=stream(**declared), students=(student(inputs=inputs, **more),))


def bag(**changes: Any) -> Bag:
    return Bag(**{"name": "tags", "rows": 9, **changes})


def source(**changes: Any) -> SourceView:
    plain = {"name": "catalogue", "entities": ("item_id",), "inputs": (PRICE,), "path": "catalogue"}
    return SourceView(**{**plain, **changes})


def with_source(**changes: Any) -> Project:
    return project(feature_views=(*PROJECT.feature_views, source(**changes)))


def query(**changes: Any) -> SqlView:
    plain = {
        "name": "mine",
        "entities": ("user_id",),
        "inputs": (PRICE,),
        "sql": "SELECT 1",
        "reach": DAY,
        "every": DAY,
    }
    return SqlView(**{**plain, **changes})


def function(**changes: Any) -> PythonView:
    plain = {
        "name": "mine",
        "entities": ("user_id",),
        "inputs": (PRICE,),
        "function": "a:b",
        "reach": DAY,
        "every": DAY,
    }
    return PythonView(**{**plain, **changes})


INPUTS: list[Wrong] = [
    ("SqlView(mine).sql", lambda: query(sql=" ")),
    ("SqlView(mine).reach", lambda: query(reach=DAY / 2)),
    ("SqlView(mine).every", lambda: query(every=0 * DAY)),
    ("SqlView(mine).reads", lambda: query(reads=())),
    ("SqlView(mine).reads", lambda: query(reads=("labels",))),
    ("SqlView(mine).reads", lambda: query(reads=("impressions", "impressions"))),
    ("SqlView(mine).delay", lambda: query(delay=DAY)),
    ("SqlView(mine).entities", lambda: project(feature_views=(query(entities=("campaign",)),))),
    ("PythonView(mine).function", lambda: function(function="a.b")),
    ("PythonView(mine).function", lambda: function(function="/home/me/a.py:b")),
    ("PythonView(mine).version", lambda: function(version=0)),
    ("SourceView(catalogue).entities", lambda: source(entities=())),
    ("SourceView(catalogue).entities", lambda: with_source(entities=("campaign",))),
    ("SourceView(catalogue).entities", lambda: with_source(entities=("hour_of_day",))),
    ("SourceView(catalogue).inputs", lambda: source(inputs=())),
    ("SourceView(catalogue).inputs", lambda: source(inputs=(PRICE, PRICE))),
    ("SourceView(catalogue).inputs", lambda: source(inputs=(Number(name="item_id"),))),
    ("SourceView(catalogue).inputs", lambda: source(inputs=(Number(name="event_timestamp"),))),
    ("SourceView(catalogue).inputs", lambda: source(inputs=(Cross(name="both", of=("a", "b"), rows=9),))),
    ("SourceView(catalogue).path", lambda: source(path=None)),
    ("SourceView(catalogue).path", lambda: source(feast="repo")),
    ("SourceView(catalogue).view", lambda: source(view="other")),
    ("SourceView(catalogue).timestamp", lambda: source(path=None, feast="repo", timestamp="at")),
    ("SourceView(catalogue).timestamp", lambda: source(timestamp="Valid From")),
    ("SourceView(catalogue).expires", lambda: source(expires=0 * DAY)),
    ("SourceView(catalogue).delay", lambda: source(expires=DAY, delay=DAY)),
    ("SourceView(catalogue).pushed", lambda: source(pushed=True, online=False)),
    ("Project.feature_views", lambda: project(feature_views=(source(), source()))),
    ("Bag(tags).of", lambda: with_source(inputs=(bag(rows=None, of="campaign"),))),
    ("Bag(tags).of", lambda: with_source(inputs=(bag(rows=None, of="catalogue:price"), PRICE))),
    ("Bag(tags).of", lambda: with_source(inputs=(bag(rows=None, of="catalogue:brands"), BRAND))),
    ("Bag(tags).of", lambda: with_source(inputs=(bag(rows=None, of="item_activity:click_1d"), BRAND))),
    ("Bag(tags).dtype", lambda: with_source(inputs=(bag(rows=None, of="catalogue:brand"), BRAND))),
    ("Bag(tags).target", lambda: bag(target="item_id")),
    ("Bag(tags).target", lambda: with_source(inputs=(bag(pooling="attention", target="catalogue:price"), PRICE))),
    ("Bag(tags).target", lambda: reading(*IDS, "tags", bags=(bag(pooling="attention", target="campaign"),))),
    (
        "Student(feed_click).inputs",
        lambda: reading(*IDS, "tags", bags=(bag(pooling="attention", target="device"),)),
    ),
    (
        "Student(feed_click).inputs",
        lambda: replace(
            with_source(inputs=(bag(pooling="attention", target="catalogue:brand"), BRAND)),
            students=(student(inputs=(*IDS, "catalogue:tags")),),
        ),
    ),
    (
        "Student(feed_click).inputs",
        lambda: replace(
            with_source(inputs=(bag(rows=None, of="catalogue:brand", dtype=str), BRAND)),
            students=(student(inputs=(*IDS, "catalogue:tags")),),
        ),
    ),
    (
        "Student(feed_click).inputs",
        lambda: replace(with_source(online=False), students=(student(inputs=(*IDS, "catalogue")),)),
    ),
    (
        "Student(feed_click).inputs",
        lambda: replace(with_source(), students=(student(inputs=(*IDS, "catalogue:prices")),)),
    ),
    ("Number(price).treatment", lambda: Number(name="price", treatment="log")),
    ("Number(price).null", lambda: Number(name="price", null="mean")),
    ("Number.name", lambda: Number(name="Price")),
    ("Vector(image).width", lambda: Vector(name="image", width=0)),
    ("Vector(image).width", lambda: Vector(name="image", width=100_000)),
    ("Bag(tags).rows", lambda: Bag(name="tags")),
    ("Bag(tags).rows", lambda: bag(of="item_id")),
    ("Bag(tags).rows", lambda: bag(rows=1)),
    ("Bag(tags).dtype", lambda: bag(dtype=bool)),
    ("Bag(tags).pooling", lambda: bag(pooling="max")),
    ("Bag(tags).length", lambda: bag(length=0)),
    ("Bag(tags).of", lambda: stream(bags=(bag(rows=None, of="hour_of_day"),))),
    ("Bag(tags).of", lambda: stream(bags=(bag(rows=None, of="campaign"),))),
    ("Cross(both).of", lambda: Cross(name="both", of=("user_id",), rows=9)),
    ("Cross(both).of", lambda: Cross(name="both", of=("user_id", "user_id"), rows=9)),
    ("Cross(both).rows", lambda: Cross(name="both", of=("user_id", "device"), rows=0)),
    ("Cross(both).of", lambda: stream(crosses=(Cross(name="both", of=("user_id", "campaign"), rows=9),))),
    ("Bucket(ranges).edges", lambda: Bucket(name="ranges", of="price", edges=())),
    ("Bucket(ranges).edges", lambda: Bucket(name="ranges", of="price", edges=(2.0, 1.0))),
    ("Bucket(ranges).edges", lambda: Bucket(name="ranges", of="price", edges=(1.0, 1.0))),
    ("Bucket(ranges).edges", lambda: Bucket(name="ranges", of="price", edges=(NAN,))),
    ("Bucket(ranges).quantiles", lambda: Bucket(name="ranges", of="price", quantiles=1)),
    ("Bucket(ranges).quantiles", lambda: Bucket(name="ranges", of="price", quantiles=5, edges=(1.0,))),
    ("Bucket(ranges).of", lambda: stream(buckets=(Bucket(name="ranges", of="price", edges=(1.0,)),))),
    ("Stream.numbers", lambda: stream(numbers=(PRICE, PRICE))),
    ("Column(user_id).name", lambda: stream(numbers=(Number(name="user_id"),))),
    ("Column(created_timestamp).name", lambda: stream(numbers=(Number(name="created_timestamp"),))),
    ("FeatureView(item_activity).name", lambda: project(stream=stream(numbers=(Number(name="item_activity"),)))),
    ("Student(feed_click).inputs", lambda: reading(*IDS, "prices", numbers=(PRICE,))),
    ("Student(feed_click).inputs", lambda: reading("user_id", "tags", bags=(bag(pooling="attention"),))),
    ("Student(feed_click).inputs", lambda: reading("user_id", "tags", bags=(bag(rows=None, of="item_id"),))),
    (
        "Student(feed_click).inputs",
        lambda: reading(*IDS, "tags", bags=(bag(pooling="attention"),), network=TwoTower()),
    ),
    (
        "Student(feed_click).inputs",
        lambda: reading(
            *IDS, "both", crosses=(Cross(name="both", of=("device", "item_id"), rows=9),), network=TwoTower()
        ),
    ),
    (
        "Student(feed_click).inputs",
        lambda: reading("item_id", "price", numbers=(Number(name="price", of_item=True),), network=TwoTower()),
    ),
    ("Student(feed_click).network", lambda: reading(*IDS, "tags", bags=(bag(rows=10**13),))),
]
