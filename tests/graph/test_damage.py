"""Stored files, damaged: the next run makes them again, or names a way out. EXFM_DAMAGE=all: in every way."""

import json
import os
import shutil
from pathlib import Path

import pytest

from feature_repo import opening, store
from pipeline.verify.tables_current import lines_of
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.graph.damage import DAMAGES, FILES, Step, spoil, step, ways_out
from tests.graph.runs import FIRST, LAST, left_by
from tests.tiny import tiny_workspace

pytestmark = pytest.mark.slow

WORDED = ("events.Failure: student/", "DataError: ", "CheckpointError: ", "RetrievalError: ", "DeclarationError: ")
QUICK = {
    ("labels", "flipped"),
    ("student's weights", "flipped"),
    ("current.json", "empty"),
    ("online store", "cut"),
}
EVERY = os.environ.get("EXFM_DAMAGE") == "all"  # else each kind of file in one way or two, each way of some kinds
MATRIX = [
    pytest.param(kind, damage, id=f"{kind}-{damage}", marks=() if (kind, damage) in QUICK else pytest.mark.long)
    for number, kind in enumerate(FILES)
    for way, damage in enumerate(DAMAGES)
    if EVERY or (kind, damage) in QUICK or (number + way) % 6 == 0
]


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Workspace:
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    store.apply(work.project, work.state)  # sources are absolute paths: a moved state is applied anew
    return work


def mended(work: Workspace) -> list[str]:
    """Run the newest slice, and do what is said until nothing is said any more; gives all that was said."""
    messages: list[str] = []
    for _ in range(5):
        daily = step(work)
        sentences = [*daily.errors] or lines_of(work)
        if daily.success and not sentences:
            return messages
        for sentence in sentences:
            assert sentence not in messages, f"said again after it was done: {sentence}"
        assert all(any(name in error for name in WORDED) for error in daily.errors), daily.errors
        messages += sentences
        reruns = list(dict.fromkeys(ways_out(sentences)))
        assert reruns, sentences
        for first, last, select in reruns:
            messages += _done(work, step(work, first, last, select))
    raise AssertionError(f"no end of it: {messages}")


def _done(work: Workspace, tried: Step) -> list[str]:
    """A way out may say what has to be done before."""
    for first, last, select in ways_out(tried.errors):
        assert step(work, first, last, select).success, tried.errors
    return list(tried.errors)


@pytest.mark.parametrize(("kind", "damage"), MATRIX)
def test_damage_is_made_good(ran: Ran, copy: Workspace, kind: str, damage: str) -> None:
    path = spoil(copy, kind, damage)
    opening._opened.clear()  # the next run is another process
    messages = mended(copy)
    if "sidecar" in kind:  # its file is read as it is, and gets another when it is made again
        assert step(copy, FIRST).success
    here, there = left_by(copy), left_by(ran.work)
    if "weights" in kind and damage == "missing":  # as retention drops them: they are made again when they are needed
        gone = str(path.relative_to(copy.state.folder))
        here, there = ({name: text for name, text in left.items() if name != gone} for left in (here, there))
    if messages and path.parent.parent.parent.name in ("student", "control"):
        here, there = (alone(left, str(path.parent.relative_to(copy.state.folder))) for left in (here, there))
    assert here == there, messages
    assert lines_of(copy) == []


def alone(left: dict[str, str], folder: str) -> dict[str, str]:
    """What is left but for the bits of one checkpoint: trained alone, they differ from those trained beside another."""
    manifest = json.loads(left[f"{folder}/manifest.json"])
    kept = {name: manifest[name] for name in ("version", "parent", "rows", "data_versions", "trained_until")}
    rest = {name: text for name, text in left.items() if not name.startswith(f"{folder}/")}
    return {**rest, folder: json.dumps(kept, sort_keys=True)}


def test_a_manifest_of_a_newer_version_may_say_more(ran: Ran, copy: Workspace) -> None:
    path = copy.state.checkpoints("student/feed_click") / "slice=2026-01-04" / "manifest.json"
    more = {**json.loads(path.read_text()), "of_tomorrow": [1]}
    path.write_text(json.dumps(more))
    assert step(copy).success
    assert json.loads(path.read_text()) == more


@pytest.mark.parametrize("name", ["weights", "version", "spec", "training"])
def test_a_manifest_that_lacks_something_is_made_again(ran: Ran, copy: Workspace, name: str) -> None:
    path = copy.state.checkpoints("control/feed_click") / f"slice={LAST}" / "manifest.json"
    plain = json.loads(path.read_text())
    del plain[name]
    path.write_text(json.dumps(plain))
    assert mended(copy) == []
    assert left_by(copy) == left_by(ran.work)


def test_weights_of_the_newest_slice_that_are_gone_are_made_again(ran: Ran, copy: Workspace) -> None:
    for model in ("teacher/large", "student/feed_click", "control/feed_click"):
        for path in (copy.state.checkpoints(model) / f"slice={LAST}").glob("*.safetensors"):
            path.unlink()
    assert any("its weights are missing" in line for line in lines_of(copy))
    assert mended(copy) == []
    assert left_by(copy) == left_by(ran.work)
