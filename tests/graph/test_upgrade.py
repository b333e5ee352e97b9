"""State that another version of exfm wrote: what is newer is never overwritten, what is older is made again."""

import json
import shutil
from pathlib import Path

from models.manifest import FORMAT
from pipeline.registry.checkpoint_store import CheckpointStore
from tests.conftest import Ran
from tests.graph.runs import left_by, run, sentences
from tests.tiny import tiny_workspace


def manifests(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").rglob("manifest.json"))


def test_checkpoints_of_a_later_format_are_left_alone(ran: Ran, tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    paths = [path for path in manifests(work.state.folder) if "student/feed_click" in str(path)]
    for path in paths:
        plain = json.loads(path.read_text())
        path.write_text(json.dumps({**plain, "format": FORMAT + 1}))
    before = {path: path.read_bytes() for path in paths}
    result = run(work, select='key:"student/feed_click/checkpoint"')
    assert not result.success
    assert any(f"is of format {FORMAT + 1}, and this exfm reads up to {FORMAT}" in line for line in sentences(result))
    assert {path: path.read_bytes() for path in paths} == before


def test_what_was_trained_under_other_digests_is_made_again_as_if_it_had_never_been(ran: Ran, tmp_path: Path) -> None:
    """As after an upgrade that names declarations otherwise: one ordinary run ends as a first one."""
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    for path in manifests(work.state.folder):
        plain = json.loads(path.read_text())
        del plain["encoder"], plain["declared"]
        plain["training"].pop("type")
        path.write_text(json.dumps({**plain, "format": 1, "declaration": "0123456789ab", "version": "fedcba987654"}))
    student = work.project.students[0]
    assert not CheckpointStore.of(work, student).holds(work.project.stream.slice_at(0), "fedcba98765")
    assert run(work).success
    assert left_by(work) == left_by(ran.work)
