"""The page about logs: its block declares a project that loads, and files as it describes them are read in."""

import gzip
import json
import re
from pathlib import Path

from exfm.project import Project
from exfm.state import ROOT, State
from pipeline.imports.run import import_log
from pipeline.workspace import Workspace
from tests.imports.logs import rows

PAGE = (ROOT / "docs" / "logs.md").read_text()


def test_the_block_reads_the_files_that_the_page_describes(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)), names)
    project = names["project"]
    assert isinstance(project, Project)
    inside = tmp_path / "files/shown/dt=2026-01-31/hour=7"
    inside.mkdir(parents=True)
    header = "requestId,ts,userId,ad,placement,price,is_test"
    shown = f"{header}\na-1,1769842800123,7,x9,Feed,250,false\na-2,1769842800124,7,x8,Search,NULL,true\n"
    (inside / "part-0.csv.gz").write_bytes(gzip.compress(shown.encode()))
    (tmp_path / "files/clicks-1.jsonl").write_text(json.dumps({"at": "2026-01-31 08:00:05", "request": {"id": "a-1"}}))
    work = Workspace(project, State(folder=tmp_path, log=tmp_path / "log", files=tmp_path / "files"))
    account = import_log(work)
    assert [(table.kept, table.left_out) for table in account.tables] == [(1, 1), (1, 0)]
    ((shown_id, user, item, surface, price),) = (
        rows(work).select("impression_id", "user_id", "item_id", "surface", "price").rows()
    )
    assert (user, item, surface, price) == (7, "x9", "feed", 2.5)
    ((clicked_id, task, at),) = rows(work, "outcomes").rows()
    assert (clicked_id, task, at.isoformat()) == (shown_id, "click", "2026-01-31T07:00:05+00:00")
