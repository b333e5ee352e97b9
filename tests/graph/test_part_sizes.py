"""Slices that are worked on in parts: the same tables, whatever a part's size, with the same counts reported."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipeline.drift.profile import profile_of
from pipeline.sidecar import SECONDS, sidecar_of
from pipeline.workspace import Workspace
from tests.graph.runs import run
from tests.tiny import tiny_workspace

pytestmark = pytest.mark.slow

PROFILE = "profile"
TABLES = '+key:"logged_inputs" or +key:"labels" or group:"features"'


def in_parts(folder: Path, rows: int) -> Workspace:
    work = tiny_workspace(folder)
    project = replace(work.project, stream=replace(work.project.stream, part_rows=rows))
    return Workspace(project, work.fixed_state, work.now)


def stored(work: Workspace) -> dict[str, tuple[pl.DataFrame, object]]:
    """Every table's rows, and what is noted of them but for seconds."""
    found = {}
    for path in sorted(work.state.folder.rglob("slice=*/part.parquet")):
        notes = json.loads(sidecar_of(path).read_text(encoding="utf-8"))["notes"]
        name = str(path.relative_to(work.state.folder))
        frame = pl.read_parquet(path, hive_partitioning=False)
        frame = frame.sort(pl.all()) if name.startswith("quarantine") else frame
        found[name] = frame, {key: value for key, value in notes.items() if key != SECONDS}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[pl.DataFrame, object]]:
    work = in_parts(tmp_path_factory.mktemp("whole"), 1 << 20)
    assert run(work, last="2026-01-03", select=TABLES).success
    stream = work.project.stream
    return {**stored(work), PROFILE: (profile_of(work, stream.slice_at(2), [stream.slice_at(1)]), {})}


@pytest.mark.parametrize("rows", [pytest.param(13, marks=pytest.mark.long), 150])
def test_tables_do_not_depend_on_the_size_of_parts(
    tmp_path: Path, whole: dict[str, tuple[pl.DataFrame, object]], rows: int
) -> None:
    work = in_parts(tmp_path, rows)
    assert run(work, last="2026-01-03", select=TABLES).success
    found = stored(work)
    assert found.keys() == whole.keys() - {PROFILE}
    for name, (frame, notes) in ((name, whole[name]) for name in found):
        assert found[name][0].equals(frame), name
        assert found[name][1] == notes, name
    stream = work.project.stream
    assert profile_of(work, stream.slice_at(2), [stream.slice_at(1)]).equals(whole[PROFILE][0])
    assert not [path for path in work.state.folder.rglob(".*") if path.is_dir()]
