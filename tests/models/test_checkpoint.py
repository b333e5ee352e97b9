"""Checkpoints: what comes back, what is refused, and that nobody sees half of one."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from exfm.distillation import AuxiliaryHead, Distillation, KnowledgeDistillation, StudentAdapter
from models import checkpoint
from models.checkpoint import load_checkpoint, save_checkpoint, save_serving
from models.errors import CheckpointError, DamagedError
from models.formats import FORMAT
from models.learner import Learner
from models.manifest import load_manifest
from models.state import learner_state
from models.weights import drop_weights
from tests.models.worlds import learner, slice_tensors

ADAPTED = AuxiliaryHead(weight=4.0, gradient_scale=0.5, adapter=StudentAdapter())
FIELDS: dict[str, Any] = {
    "version": "0123456789ab",
    "model": "student/feed_click",
    "slice": "2026-01-02",
    "declaration": "abc",
    "parent": None,
    "trained_until": "2026-01-02T23:59:59+00:00",
    "rows": 270,
    "data_versions": {"labels": "d1"},
    "teacher_checkpoints": ["ffffffffffff"],
    "metrics": {"loss": 0.5, "ne": None},
}


def saved(folder: Path, distillation: Distillation = ADAPTED) -> Learner:
    mine = learner(distillation)
    mine.fit(slice_tensors(), "a")
    save_checkpoint(folder, mine, **FIELDS)
    return mine


@pytest.mark.parametrize("distillation", [None, KnowledgeDistillation(weight=2.0), AuxiliaryHead(), ADAPTED])
def test_what_was_saved_comes_back_and_goes_on_bit_for_bit(tmp_path: Path, distillation: Distillation) -> None:
    mine = saved(tmp_path / "c", distillation)
    back, manifest = load_checkpoint(tmp_path / "c", declaration="abc")
    assert (back.members, back.training) == (mine.members, mine.training)
    assert {name: getattr(manifest, name) for name in FIELDS} == FIELDS
    assert load_manifest(tmp_path / "c") == manifest
    for model in (mine, back):
        model.fit(slice_tensors(seed=2), "b")
    theirs = learner_state(back)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in learner_state(mine).items())


def test_an_untrained_network_is_a_checkpoint_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", learner(), **{**FIELDS, "trained_until": None})
    back, manifest = load_checkpoint(tmp_path / "c")
    assert manifest.trained_until is None
    assert torch.equal(back.predict(slice_tensors()), learner().predict(slice_tensors()))


def test_a_release_scores_alike_and_holds_only_what_serves(tmp_path: Path) -> None:
    mine = saved(tmp_path / "c")
    save_serving(tmp_path / "r", mine, load_manifest(tmp_path / "c"))
    served, manifest = load_checkpoint(tmp_path / "r")
    assert torch.equal(served.predict(slice_tensors(seed=3)), mine.predict(slice_tensors(seed=3)))
    assert (manifest.distillation, manifest.spec.teachers, manifest.version) == (None, (), FIELDS["version"])


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["cut", "one bit"])
def test_damaged_weights_are_refused(tmp_path: Path, how: str) -> None:
    saved(tmp_path / "c")
    spoil(tmp_path / "c" / "weights.safetensors", how)
    with pytest.raises(CheckpointError, match="weights.safetensors is damaged"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1"}', "null"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    saved(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="manifest.json is damaged"):
        load_checkpoint(tmp_path / "c")


def test_what_is_missing_dropped_or_of_another_declaration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no manifest.json"):
        load_checkpoint(tmp_path / "c")
    saved(tmp_path / "c")
    with pytest.raises(CheckpointError, match="trained under declaration abc, the project now declares def"):
        load_checkpoint(tmp_path / "c", declaration="def")
    for _ in range(2):  # dropping again is safe
        drop_weights(tmp_path / "c")
    assert load_manifest(tmp_path / "c").version == FIELDS["version"]
    with pytest.raises(CheckpointError, match="dropped by retention"):
        load_checkpoint(tmp_path / "c")


def test_a_manifest_of_another_network_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    plain = json.loads(path.read_text())
    plain["spec"]["network"]["embedding"] = 8
    path.write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match="saved by another network"):
        load_checkpoint(tmp_path / "c")


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    first = load_manifest(tmp_path / "c").weights
    saved(tmp_path / "c")
    assert load_manifest(tmp_path / "c").weights == first
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_save_that_fails_leaves_the_old_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = saved(tmp_path / "c")

    def broken(path: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "sha256", broken)
        with pytest.raises(CheckpointError, match="No space left on device.: make room on its disk, and run again"):
            save_checkpoint(tmp_path / "c", mine, **{**FIELDS, "version": "ba9876543210"})
    assert load_checkpoint(tmp_path / "c")[1].version == FIELDS["version"]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


KEPT = Path(__file__).parent / "kept"  # written by earlier versions, and never written again


@pytest.mark.parametrize("folder", sorted(path.name for path in KEPT.iterdir() if path.is_dir()))
def test_checkpoints_of_earlier_versions_score_as_they_did_and_go_on(folder: str) -> None:
    back, manifest = load_checkpoint(KEPT / folder, declaration="abc")
    assert {name: getattr(manifest, name) for name in FIELDS} == FIELDS
    logits = json.loads((KEPT / "logits.json").read_text(encoding="utf-8"))
    assert back.predict(slice_tensors(rows=8, seed=5))[:, 0].tolist() == pytest.approx(logits, abs=1e-5)
    assert back.fit(slice_tensors(seed=2), "b").error is None


def test_what_an_adapter_was_told_is_its_context_now(tmp_path: Path) -> None:
    shutil.copytree(KEPT / "format-1", tmp_path / "c")

    def as_then(plain: dict[str, Any]) -> None:
        plain["distillation"]["adapter"]["told"] = ["staleness"]

    changed(tmp_path / "c", as_then)
    distillation = load_manifest(tmp_path / "c").distillation
    assert isinstance(distillation, AuxiliaryHead) and isinstance(distillation.adapter, StudentAdapter)
    assert distillation.adapter.context == ("staleness",)


def changed(folder: Path, change: Any) -> None:
    plain = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(plain)
    (folder / "manifest.json").write_text(json.dumps(plain), encoding="utf-8")


def test_what_a_later_version_says_in_the_same_format_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    before = load_manifest(tmp_path / "c")

    def said_more(plain: dict[str, Any]) -> None:
        parts = (plain, plain["spec"], plain["spec"]["network"], plain["training"], plain["distillation"])
        for part in (*parts, plain["distillation"]["adapter"]):
            part["note"] = "x"

    changed(tmp_path / "c", said_more)
    after = load_manifest(tmp_path / "c")
    assert replace(after, unknown={}) == before
    save_serving(tmp_path / "r", load_checkpoint(tmp_path / "c")[0], after)
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["note"] == "x"  # kept where a release is made


def test_a_later_format_is_not_taken_for_damage(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    changed(tmp_path / "c", lambda plain: plain.update(format=FORMAT + 1))
    with pytest.raises(
        CheckpointError, match=f"is of format {FORMAT + 1}, and this exfm reads up to {FORMAT}"
    ) as refused:
        load_checkpoint(tmp_path / "c")
    assert not isinstance(refused.value, DamagedError)


def test_what_changed_in_a_declaration_is_named(tmp_path: Path) -> None:
    then = {
        "model": {"type": "Student", "network": {"type": "DCNv2", "hidden": [64]}},
        "views": [{"name": "v", "every": 60}],
    }
    now = {
        "model": {"type": "Student", "network": {"type": "DCNv2", "cross": 2}},
        "views": [{"name": "v", "every": 30}],
    }
    save_checkpoint(tmp_path / "c", learner(), **{**FIELDS, "declared": then})
    with pytest.raises(CheckpointError) as refused:
        load_manifest(tmp_path / "c", "def", now)
    assert "(model.network.hidden: [64] is now left at the default, views[v].every: 60 is now 30, " in str(
        refused.value
    )
    assert "model.network.cross: 2, it was the default)" in str(refused.value)
    with pytest.raises(CheckpointError, match="what it means in the code has changed"):
        load_manifest(tmp_path / "c", "def", then)


@pytest.mark.parametrize("change", [
    {"format": 0}, {"format": True}, {"format": 2.5}, {"format": "2"}, {"format": float("inf")}, {"rows": "5"},
    {"rows": None}, {"spec": None}, {"encoder": {"user": {"kind": "colour"}}}, {"training": {"type": "Gate"}},
])  # fmt: skip
def test_a_manifest_that_says_nonsense_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    saved(tmp_path / "c")
    changed(tmp_path / "c", lambda plain: plain.update(change))
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged \(.*\): train it again$"):
        load_manifest(tmp_path / "c")


def test_an_adapter_of_another_size_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    changed(tmp_path / "c", lambda plain: plain["distillation"]["adapter"].update(hidden=3))
    with pytest.raises(CheckpointError, match="it was saved by another adapter"):
        load_checkpoint(tmp_path / "c")


def test_a_checkpoint_of_an_earlier_exfm_is_said_to_be_one() -> None:
    with pytest.raises(CheckpointError, match="by an earlier exfm, which named declarations otherwise"):
        load_manifest(KEPT / "format-1", "def")
