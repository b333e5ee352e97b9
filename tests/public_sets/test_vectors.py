"""HDF5 vectors become parquet that a source view reads, chunk by chunk."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.imports.sources import source_rows
from projects import convert_vectors
from projects.kuai_video import kuai_video

h5py = pytest.importorskip("h5py")


def write(path: Path, keys: np.ndarray, values: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["key"], file["value"] = keys, values
    return path


def test_vectors_are_those_that_a_source_view_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_vectors, "CHUNK", 7)
    values = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    source = write(tmp_path / "item_visual_emb_dim64.h5", np.arange(50), values)
    assert convert_vectors.main([str(source), str(tmp_path / "item_visual.parquet")]) == 0
    project = kuai_video(0.0, 10.0)
    stream, view = project.stream, project.view("visual")
    assert stream.until is not None
    rows = source_rows(view, stream, tmp_path, stream.first_slice, stream.until).frame  # type: ignore[arg-type]
    assert rows["item_id"].to_list() == list(range(50))
    assert np.array_equal(np.array(rows["image"].to_list(), dtype=np.float32), values)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("keys", [np.array([b"7", b"8"]), np.array(["7", "8"], dtype=object)])
def test_keys_that_are_texts_stay_texts(tmp_path: Path, keys: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("key", data=keys, dtype=h5py.string_dtype() if keys.dtype == object else keys.dtype)
        file["value"] = np.ones((2, 3), dtype=np.float16)
    assert convert_vectors.convert(tmp_path / "a.h5", tmp_path / "a.parquet", "ad", "text") == 2
    assert pl.read_parquet(tmp_path / "a.parquet").to_dict(as_series=False) == {
        "ad": ["7", "8"],
        "text": [[1.0] * 3] * 2,
    }


def test_what_is_no_set_of_vectors_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = np.ones((3, 2), dtype=np.float32)
    for keys, values, sentence in (
        (np.arange(2), good, "2 keys beside 3 vectors"), (np.arange(3), good[:, 0], "'value' has the shape (3,)"),
    ):  # fmt: skip
        source = write(tmp_path / "a.h5", keys, values)
        assert convert_vectors.main([str(source), str(tmp_path / "a.parquet")]) == 2
        assert sentence in capsys.readouterr().err
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["keys"] = np.arange(3)
    assert convert_vectors.main([str(tmp_path / "b.h5"), str(tmp_path / "a.parquet")]) == 2
    assert "it has keys, and no data set 'key'" in capsys.readouterr().err
    (tmp_path / "c.h5").write_bytes(b"no HDF5")
    assert convert_vectors.main([str(tmp_path / "c.h5"), str(tmp_path / "a.parquet")]) == 2
    assert not (tmp_path / "a.parquet").exists()
