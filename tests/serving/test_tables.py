"""Tables in bfloat16 and int8: how far rows and scores are from float32, that torch and the server read the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import load_checkpoint
from models.learner import Learner
from models.tables import SCALE, TABLE, as_served, kept, whole
from pipeline.transforms.inputs import tensors_for
from serving.errors import ReleaseError
from serving.model import ServedModel
from serving.tables import mapped
from tests.serving.worlds import SPEC, columns_of, released, rows_of

KINDS = ("float32", "bfloat16", "int8")
OF_A_NUMBER = {"bfloat16": 2**-8, "int8": 1 / 254}  # of itself; of the largest number of its row
OF_A_SCORE = {"float32": 1e-6, "bfloat16": 2e-3, "int8": 4e-3}


def table_of(rows: int = 500, width: int = 16) -> torch.Tensor:
    """Rows of all sizes, zeros, and numbers that no kind has room for among them."""
    draws = torch.Generator().manual_seed(5)
    table = torch.randn(rows, width, generator=draws) * torch.logspace(-30, 3, rows).unsqueeze(1)
    table[3], table[4, 0], table[5] = 0.0, 1e30, 1e-40
    return table


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_no_number_is_further_off_than_its_kind_says(kind: str) -> None:
    table = table_of()
    read = whole(kept({TABLE: table}, kind))[TABLE]
    largest = table.abs() if kind == "bfloat16" else table.abs().amax(dim=1, keepdim=True).expand_as(table)
    off = (read.double() - table.double()).abs()
    assert (off <= largest.double() * OF_A_NUMBER[kind] * 1.001 + 1e-38).all()
    assert (off > 0).any()  # else nothing was rounded
    assert (read[3] == 0).all() and read.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_reads_the_bits_that_torch_reads(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = kept({TABLE: table_of(), "other": torch.ones(3)}, kind)
    save_file(state, tmp_path / "f")
    rows, expected = mapped(tmp_path / "f", TABLE), whole(state)[TABLE].numpy()
    for asked in (np.array([], dtype=np.int64), np.array([7]), np.array([[4, 4], [499, 0]]), np.arange(500)):
        read = rows[asked]
        assert read.dtype == np.float32 and np.array_equal(read, expected[asked])
    assert rows.shape == (500, 16)


def test_a_table_of_another_kind_or_without_its_scale_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({TABLE: torch.ones(2, 2, dtype=torch.float64)}, tmp_path / "f")
    with pytest.raises(ReleaseError, match="table.weight is F64, not one of F32, BF16, I8: release it again"):
        mapped(tmp_path / "f", TABLE)
    save_file({TABLE: torch.ones(2, 2, dtype=torch.int8)}, tmp_path / "f")
    with pytest.raises(ReleaseError, match=f"can't be read .*{SCALE}.*: release it again"):
        mapped(tmp_path / "f", TABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_torch_and_near_those_of_float32(kind: str, tmp_path: Path) -> None:
    learner, _ = released(tmp_path / "v1", table=kind)
    frame = rows_of(300).with_columns(event_timestamp=rows_of(1)["event_timestamp"].first())
    now = frame["event_timestamp"][0].timestamp()
    scores = ServedModel(tmp_path / "v1").score(columns_of(frame), frame.height, now)
    again, manifest = load_checkpoint(tmp_path / "v1")

    def of(model: Learner) -> np.ndarray:
        predicted: np.ndarray = torch.sigmoid(model.predict(tensors_for(manifest, frame))[:, 0]).numpy()
        return predicted

    exact = of(learner)
    assert np.abs(scores - of(again)).max() < 1e-4  # of what was released, as the server answers
    assert 0 < np.abs(scores - exact).max() < 1e-4 + OF_A_SCORE[kind]
    assert exact.std() > 0.02
    assert np.array_equal(of(as_served(learner, kind)), of(again))  # what a gate judges is what is released


def test_files_are_as_small_as_said(tmp_path: Path) -> None:
    sizes = {}
    for kind in KINDS:
        released(tmp_path / kind, slices=1, table=kind)
        with (tmp_path / kind / "serving.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        parts = (header[name]["data_offsets"] for name in (TABLE, SCALE) if name in header)
        sizes[kind] = sum(end - begin for begin, end in parts)
    assert sizes["bfloat16"] == sizes["float32"] // 2
    rows = sizes["float32"] // 4 // SPEC.network.embedding
    assert sizes["int8"] == sizes["float32"] // 4 + 4 * rows  # a scale a row
