"""The page about inputs: its block declares a project that loads, and its table names every kind that there is."""

import re
from typing import get_args

import polars as pl

from exfm.computed_views import SqlView
from exfm.inputs import LogInput
from exfm.online import View
from exfm.project import Project
from exfm.state import ROOT
from pipeline.transforms.computed import computed

PAGE = (ROOT / "docs" / "inputs.md").read_text()


def test_the_block_is_a_project() -> None:
    names: dict[str, object] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)), names)
    project = names["project"]
    assert isinstance(project, Project)
    columns = project.columns_of(project.students[0].inputs, where="")
    assert columns.vectors == ("image",) and columns.bags == ("tags", "recent_items")
    assert "catalogue__category" in columns.ids and "catalogue__price" in columns.numbers


def test_every_kind_has_a_row() -> None:
    rows = "".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for kind in (*get_args(LogInput), *get_args(View)):
        assert f"`{kind.__name__}" in rows, kind


def test_the_query_is_one() -> None:
    """On a log of the tiny project: clicks a day and distinct items, by a loop."""
    from tests.transforms.test_computed import log_of

    names: dict[str, object] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)), names)
    view, (stream, shown, happened, visits) = names["spent"], log_of()
    assert isinstance(view, SqlView)
    start = stream.slice_at(1).start
    rows = computed(view, stream, shown.lazy(), happened.lazy(), visits.lazy(), start, start + view.every)
    seen = shown.filter(pl.col("event_timestamp") < start + view.every)
    expected = seen.group_by("user_id").agg(items=pl.col("item_id").n_unique())
    assert rows.height > 50 and rows.sort("user_id")["items"].to_list() == expected.sort("user_id")["items"].to_list()
    assert 0 < rows["clicks_a_day"].sum() < seen.height
