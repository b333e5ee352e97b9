"""The page about inputs: its block declares a project that loads, and its table names every kind that there is."""

import re
from typing import get_args

from exfm.inputs import LogInput
from exfm.online import View
from exfm.project import Project
from exfm.state import ROOT

PAGE = (ROOT / "docs" / "inputs.md").read_text()


def test_the_block_is_a_project() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    project = names["project"]
    assert isinstance(project, Project)
    columns = project.columns_of(project.students[0].inputs, where="")
    assert columns.vectors == ("image",) and columns.bags == ("tags", "recent_items")
    assert "catalogue__category" in columns.ids and "catalogue__price" in columns.numbers


def test_every_kind_has_a_row() -> None:
    for kind in (*get_args(LogInput), *get_args(View)):
        assert f"| `{kind.__name__}" in PAGE, kind
