"""Checkpoints that hold what a slice changed: the same bits come back, in a fraction of the bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import weights
from models.changes import ROWS, applied, changes, table_of
from models.checkpoint import load_checkpoint, save_checkpoint, save_serving
from models.errors import CheckpointError, DamagedError
from models.formats import FORMAT_OF_PARTS
from models.learner import Learner
from models.manifest import load_manifest
from models.parts import CHANGES, WEIGHTS
from models.state import learner_state
from models.weights import drop_parts, drop_weights, part_file
from tests.models.test_checkpoint import ADAPTED, FIELDS
from tests.models.worlds import learner, slice_tensors


def chain(model: Path, length: int = 4, rows: int = 30) -> tuple[Learner, list[dict[str, torch.Tensor]]]:
    """A learner over some slices, each saved after the one before it; and its states."""
    mine, states = learner(ADAPTED), []
    for index in range(length):
        mine.fit(slice_tensors(rows=rows, seed=index), f"slice {index}")
        after = model / f"slice={index - 1}" if index else None
        fields: dict[str, Any] = {**FIELDS, "slice": str(index), "version": f"v{index}"}
        fields["parent"] = f"v{index - 1}" if index else None
        save_checkpoint(model / f"slice={index}", mine, after=after, **fields)
        states.append({name: value.clone() for name, value in learner_state(mine).items()})
    return mine, states


@pytest.fixture(autouse=True)
def rows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a network so small most bytes are dense weights."""
    monkeypatch.setattr("models.changes.MOST", 0.99)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_each_slice_comes_back_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    mine, states = chain(tmp_path)
    own = [sorted(path.name for path in (tmp_path / f"slice={at}").glob("*.safetensors")) for at in range(4)]
    assert own == [[WEIGHTS], [CHANGES], [CHANGES], [CHANGES]]
    for index, state in enumerate(states):
        back, manifest = load_checkpoint(tmp_path / f"slice={index}")
        assert same(learner_state(back), state)
        assert [part.slice for part in manifest.parts] == [str(at) for at in range(index)]
        plain = json.loads((tmp_path / f"slice={index}" / "manifest.json").read_text())
        assert (plain["format"] == FORMAT_OF_PARTS) == ("parts" in plain) == (index > 0)
    back, _ = load_checkpoint(tmp_path / "slice=3")
    for model in (mine, back):
        model.fit(slice_tensors(seed=9), "next")
    assert same(learner_state(back), learner_state(mine))


def test_a_table_in_memory_gives_the_same_bytes_as_one_that_is_read(tmp_path: Path) -> None:
    mine, states = chain(tmp_path, 2)
    table = table_of(states[1])
    mine.fit(slice_tensors(rows=30, seed=7), "more")
    fields: dict[str, Any] = {**FIELDS, "slice": "2", "version": "v2", "parent": "v1"}
    for name, known in (("slice=2", None), ("slice=3", table)):
        save_checkpoint(tmp_path / name, mine, after=tmp_path / "slice=1", table=known, **fields)
    read, kept = ((tmp_path / name / CHANGES).read_bytes() for name in ("slice=2", "slice=3"))
    assert read == kept


def test_a_whole_state_again_every_so_many_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WHOLE_EVERY", 3)
    _, states = chain(tmp_path, 7)
    is_whole = [(tmp_path / f"slice={at}" / WEIGHTS).is_file() for at in range(7)]
    assert is_whole == [True, False, False, True, False, False, True]
    for index, state in enumerate(states):
        assert same(learner_state(load_checkpoint(tmp_path / f"slice={index}")[0]), state)


def test_most_of_it_changed_or_another_parent_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = chain(tmp_path, 2)
    fields: dict[str, Any] = {**FIELDS, "parent": "another", "version": "v2"}
    save_checkpoint(tmp_path / "slice=2", mine, after=tmp_path / "slice=1", **fields)
    assert (tmp_path / "slice=2" / WEIGHTS).is_file()
    fields["parent"] = "v1"
    save_checkpoint(tmp_path / "slice=2", mine, after=tmp_path / "slice=1", **fields)
    assert not (tmp_path / "slice=2" / WEIGHTS).exists()
    monkeypatch.setattr("models.changes.MOST", 0.0)
    save_checkpoint(tmp_path / "slice=2", mine, after=tmp_path / "slice=1", **fields)
    assert (tmp_path / "slice=2" / WEIGHTS).is_file() and not (tmp_path / "slice=2" / CHANGES).exists()


def test_retention_drops_a_slice_and_leaves_those_after_it_whole(tmp_path: Path) -> None:
    _, states = chain(tmp_path)
    folders = [tmp_path / f"slice={at}" for at in range(4)]
    for folder in folders[:3]:
        drop_weights(folder)
    drop_parts(tmp_path, folders)
    assert same(learner_state(load_checkpoint(folders[3])[0]), states[3])
    with pytest.raises(CheckpointError, match="dropped by retention"):
        load_checkpoint(folders[2])
    assert len(list((tmp_path / "parts").iterdir())) == 3
    save_checkpoint(folders[3], load_checkpoint(folders[3])[0], **FIELDS)  # whole again: nobody needs parts now
    drop_parts(tmp_path, folders)
    assert not list((tmp_path / "parts").iterdir())


def test_parts_of_a_manifest_that_cannot_be_read_stay(tmp_path: Path) -> None:
    chain(tmp_path, 3)
    (tmp_path / "slice=2" / "manifest.json").write_text("{")
    drop_parts(tmp_path, [tmp_path / f"slice={at}" for at in range(3)])
    assert len(list((tmp_path / "parts").iterdir())) == 2


def test_a_slice_that_is_trained_again_leaves_those_after_it_readable(tmp_path: Path) -> None:
    _, states = chain(tmp_path)
    other = learner(ADAPTED)
    other.fit(slice_tensors(seed=77), "another")
    save_checkpoint(tmp_path / "slice=0", other, **{**FIELDS, "slice": "0", "version": "w0"})
    assert same(learner_state(load_checkpoint(tmp_path / "slice=3")[0]), states[3])


@pytest.mark.parametrize("how", ["cut", "missing", "other bits"])
def test_a_damaged_part_is_named_by_its_slice_and_mended_by_writing_it_again(tmp_path: Path, how: str) -> None:
    mine, states = chain(tmp_path, 3)
    part = part_file(tmp_path / "slice=2", load_manifest(tmp_path / "slice=2").parts[1])
    data = part.read_bytes()
    if how == "missing":
        part.unlink()
    else:
        part.write_bytes(data[:-8] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"checkpoint .*/slice=1: .* train it again"):
        load_checkpoint(tmp_path / "slice=2")
    (tmp_path / "slice=1" / CHANGES).unlink()
    (tmp_path / "slice=1" / CHANGES).write_bytes(data)  # as training it again writes it
    fields: dict[str, Any] = {**FIELDS, "slice": "2", "version": "v2", "parent": "v1"}
    save_checkpoint(tmp_path / "slice=2", mine, after=tmp_path / "slice=1", **fields)
    assert same(learner_state(load_checkpoint(tmp_path / "slice=2")[0]), states[2])


def test_a_release_is_whole(tmp_path: Path) -> None:
    mine, _ = chain(tmp_path)
    save_serving(tmp_path / "r", load_checkpoint(tmp_path / "slice=3")[0], load_manifest(tmp_path / "slice=3"))
    served, manifest = load_checkpoint(tmp_path / "r")
    assert manifest.parts == [] and torch.equal(served.predict(slice_tensors()), mine.predict(slice_tensors()))


ODD = [0.0, -0.0, 1.0, float("nan"), float("inf"), 1e-45]


@given(st.lists(st.tuples(st.sampled_from(ODD), st.sampled_from(ODD)), min_size=1, max_size=30))
def test_any_values_come_back_bit_for_bit(pairs: list[tuple[float, float]]) -> None:
    """Zeros of either sign, NaN, infinity; a row counts where any of its tensors changed."""

    def state(side: int) -> dict[str, torch.Tensor]:
        column = torch.tensor([pair[side] for pair in pairs])
        weight = torch.stack([torch.zeros(len(pairs)), column], dim=1)
        return {"table.weight": weight, "table.accumulator": column.flip(0), "network.x": column[:1]}

    before, after = state(0), state(1)
    found = changes(before, after)
    if found is None:
        return
    assert found[ROWS].numel() <= len(pairs)
    back = applied(before, found)
    assert back.keys() == after.keys()
    assert all(torch.equal(back[name].view(torch.int32), after[name].view(torch.int32)) for name in after)
