"""What stands beside the ids of lists: place by place, ages as of the row, and what is not aligned is said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from exfm.encoding import ages_encoding, list_encoding
from exfm.errors import DeclarationError
from exfm.history_views import HistoryView
from exfm.inputs import Bag
from exfm.list_sides import lists_of_sides, side_rows
from exfm.project import Project
from exfm.stream import Stream
from models.hashing import stable_hash
from pipeline.registry.specs import encoder_of, member_of
from pipeline.streams.contract import sound_rules
from pipeline.tables import DataError
from pipeline.transforms.lists import hashed_lists
from pipeline.transforms.quarantine import part
from projects.simulated import STREAM
from tests.tiny import tiny_project

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENCODER = {
    "h": list_encoding("item_id", int, 2),
    "kind": replace(list_encoding("kind", str, 2), of=("h",)),
    "at": replace(ages_encoding("at"), of=("h",), length=2),
}


def rows(**columns: Any) -> pl.DataFrame:
    given = {"h": [[7, 8, 9], None, []], "kind": [["a", None, "b"], [], None], "at": [[0, 1, 2], None, []]} | columns
    types = {"h": pl.List(pl.Int64), "kind": pl.List(pl.String), "at": pl.List(pl.Int64)}
    return pl.DataFrame(given, schema=types).with_columns(event_timestamp=pl.lit(NOW, pl.Datetime("us", "UTC")))


def test_lists_beside_each_other_are_cut_alike() -> None:
    hashed = hashed_lists(rows(), ["h", "kind", "at"], ENCODER)
    assert {name: offsets.tolist() for name, (_, offsets) in hashed.items()} == dict.fromkeys(ENCODER, [0, 2, 2, 2])
    assert hashed["kind"][0].tolist() == stable_hash(["a", None], "kind").tolist()


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, 0), (1, 2), (3, 4), (59, 11), (3_600, 23), (86_400, 32), (-5, 0), (30 * 86_400, 42)]
)
def test_an_age_is_how_many_half_octaves_of_a_second_ago(seconds: int, bucket: int) -> None:
    frame = rows(at=[[int(NOW.timestamp()) - seconds], None, None])
    hashed, _ = hashed_lists(frame, ["at"], {"at": ages_encoding("at")})["at"]
    assert hashed.tolist() == stable_hash(np.array([bucket]), "at").tolist()


def test_a_list_that_is_not_aligned_is_named() -> None:
    for kinds in ([["a"], [], None], [["a", "b", "c"], ["d"], None], [None, None, None]):
        with pytest.raises(DataError, match=r"^kind is not as long as h: \d beside \d in row \d: pass them place by"):
            hashed_lists(rows(kind=kinds), ["h", "kind"], ENCODER)


def with_bags(*bags: Bag) -> Stream:
    return replace(STREAM, bags=bags)


def test_rows_of_the_log_that_are_not_aligned_are_quarantined() -> None:
    stream = with_bags(
        Bag(name="seen", of="item_id", beside=("kinds",), pooling="attention"), Bag(name="kinds", rows=9)
    )
    lists = {"seen": [[1, 2], [1], None, [], [3]], "kinds": [[5, 6], [], None, None, None]}
    frame = pl.DataFrame(lists, schema={name: pl.List(pl.Int64) for name in lists}).with_columns(
        impression_id=pl.int_range(pl.len()), user_id=1, item_id=1, device=1, surface=pl.lit("feed"),
        country=pl.lit("de"), event_timestamp=pl.lit(NOW, pl.Datetime("us", "UTC")), _day=pl.lit(NOW.date()),
    )  # fmt: skip
    kept, broken = part(frame, sound_rules(stream, "impressions"))
    assert kept["impression_id"].to_list() == [0, 2, 3]
    assert broken["reason"].to_list() == [
        "kinds is not as long as seen: 0 beside 1", "kinds is not as long as seen: 0 beside 1"
    ]  # fmt: skip


SEEN, KINDS = Bag(name="seen", of="item_id", beside=("kinds",)), Bag(name="kinds", rows=9)


@pytest.mark.parametrize(
    ("bags", "message"),
    [
        ((SEEN,), r"^Bag\(seen\).beside: 'kinds' is not a declared bag"),
        ((replace(SEEN, beside=("seen",)),), r"^Bag\(seen\).beside: 'seen' is not a declared bag"),
        ((SEEN, replace(KINDS, length=9)), r"^Bag\(kinds\).length: 9 is not that of 'seen', beside which it stands"),
        ((SEEN, replace(SEEN, name="carted"), KINDS), r"'kinds' is beside 'seen' already: drop one of them"),
        ((SEEN, replace(KINDS, beside=("more",)), Bag(name="more", rows=9)), r"'kinds' is a list with others beside"),
    ],
)
def test_bags_that_can_not_stand_beside_others_are_refused(bags: tuple[Bag, ...], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        with_bags(*bags)


def project_of(inputs: tuple[str, ...], *bags: Bag) -> Project:
    tiny = tiny_project()
    history = HistoryView(
        name="met", entity="user_id", of="item_id", source=("click", "convert"), beside=("surface", "device"),
        since=True, window=timedelta(days=2), every=timedelta(days=1),
    )  # fmt: skip
    return replace(
        tiny,
        stream=replace(tiny.stream, bags=bags),
        feature_views=(*tiny.feature_views, history),
        students=(replace(tiny.students[0], inputs=("user_id", "item_id", *inputs)),),
    )


def sides_of(project: Project) -> dict[str, tuple[str, str | None, int]]:
    member = member_of(project, project.students[0])
    return {side.name: (side.list, side.of, side.rows) for side in member.spec.sides}


def test_a_history_brings_what_is_beside_it_and_shares_the_rows_of_what_is_read() -> None:
    project = project_of(("met", "device"))
    rows = {column.name: column.rows for column in project.stream.id_columns}
    assert sides_of(project) == {
        "met__surface": ("met__last", None, rows["surface"]),
        "met__device": ("met__last", "device", 0),
        "met__action": ("met__last", None, 16),
        "met__at": ("met__last", None, 512),
    }
    encoder = encoder_of(project, project.students[0])
    assert encoder["met__device"].salt == "device" and encoder["met__at"].kind == "ages"
    assert {encoder[name].of for name in sides_of(project)} == {("met__last",)}
    assert sides_of(project_of(("met:last", "met:at"))).keys() == {"met__at"}
    assert not sides_of(project_of(("met:last",)))


def test_a_bag_brings_what_is_beside_it() -> None:
    alone, both = project_of(("seen",), SEEN, KINDS), project_of(("seen", "kinds"), SEEN, KINDS)
    assert sides_of(alone) == {"kinds": ("seen", None, 9)}
    assert sides_of(both) == {"kinds": ("seen", "kinds", 0)}  # it is a field of its own, too, of the same rows
    columns = both.columns_of(both.students[0].inputs, where="")
    assert columns.of_log.count("kinds") == 1 and columns.lists == ("seen", "kinds")
    of_items = project_of(("seen",), SEEN, Bag(name="kinds", of="surface"))
    assert sides_of(of_items)["kinds"] == ("seen", None, 16)
    assert {"seen", "kinds"} <= {*of_items.logged_columns.of_log}
    assert lists_of_sides(both, columns) == {"kinds": "seen"}
    assert side_rows(both, columns, "kinds") == ("kinds", 0)


def test_a_side_without_its_list_is_refused() -> None:
    with pytest.raises(DeclarationError, match="'met:at' says something of each id of 'met:last', which is no input"):
        project_of(("met:at",))
