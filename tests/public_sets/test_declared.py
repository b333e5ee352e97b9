"""The declarations of public sets: found by name, and what is refused of a fixed split."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from exfm.errors import DeclarationError
from exfm.fixed_split import FixedSplit, SideTable
from exfm.inputs import Bag, Vector
from exfm.load import fixed_splits, load_fixed_split, load_project
from exfm.log_columns import Column
from exfm.log_files import EventTime, Files, From
from exfm.networks import DCNv2, TwoTower
from tests.public_sets import written

ROOT = Path(__file__).resolve().parents[2]
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
SPLITS = POINTS["exfm.fixed_splits"]


@pytest.mark.parametrize("name", SPLITS)
def test_a_fixed_split_is_found_and_has_figures(name: str) -> None:
    split = load_fixed_split(SPLITS[name])
    assert split.name == name and split.source and len(split.published) >= 8
    assert all(0.6 < each.auc < 0.95 and 0.1 < (each.log_loss or 0) < 0.6 for each in split.published)
    assert all((each.gauc is not None) == (split.group is not None) for each in split.published)


def test_installed_names_are_those_of_the_file() -> None:
    assert fixed_splits() == sorted(SPLITS)
    assert load_fixed_split("criteo_x4").name == "criteo_x4"
    with pytest.raises(DeclarationError, match=r"bars: 'criteo_x5' is not a declared fixed split \(did you mean"):
        load_fixed_split("criteo_x5")
    with pytest.raises(DeclarationError, match="bars: 'projects.avazu:PROJECT' is a Project, not a FixedSplit"):
        load_fixed_split("projects.avazu:PROJECT")


@pytest.mark.parametrize("name", ["criteo_x4", "projects.fixed_splits.criteo_x4:SPLIT"])
def test_a_fixed_split_is_no_project(name: str) -> None:
    with pytest.raises(DeclarationError, match=f"fixed split, whose rows have no time.*`exfm bars {name}` trains it"):
        load_project(name)


def test_streams_without_a_clock_ask_for_the_ends_of_their_timestamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("taobao_ad", "avazu"):
        assert load_project(POINTS["exfm.projects"][name]).name == name
    for name, micro in (("kuai_video", False), ("micro_video", True)):
        point = POINTS["exfm.projects"][name]
        monkeypatch.delenv("EXFM_DATA", raising=False)
        with pytest.raises(DeclarationError, match="EXFM_DATA: not set"):
            load_project(point)
        monkeypatch.setenv("EXFM_DATA", str(tmp_path / name))
        with pytest.raises(DeclarationError, match="run once python -m projects.order_clock .* train.csv test.csv"):
            load_project(point)
        written.videos(tmp_path / name, 20, micro=micro)
        from projects.order_clock import main

        assert main([str(tmp_path / name), "train.csv", "test.csv"]) == 0
        assert load_project(point).name == name


COLUMN = Column(name="item_id", rows=8)
SPLIT = FixedSplit(
    name="mine", train=Files(paths=("a.csv",)), test=Files(paths=("b.csv",)), label="click", columns=(COLUMN,),
    network=DCNv2(),
)  # fmt: skip
TABLE = SideTable(files=Files(paths=("c.csv",)), key="item_id", inputs=(Vector(name="image", width=2),))


@pytest.mark.parametrize(("change", "sentence"), [
    ({"columns": ()}, "declares no categorical column"),
    ({"columns": (COLUMN, COLUMN)}, "'item_id' is declared twice"),
    ({"label": "item_id"}, "'item_id' is declared twice"),
    ({"epochs": 0}, "epochs: 0 is too small"),
    ({"patience": 0}, "patience: 0 is too small"),
    ({"train": Files(paths=("a.csv",), time=EventTime(of="t"))}, "train: Files.time: a fixed split has no time"),
    ({"test": Files(paths=("a.csv",), id="t")}, "test: Files.id: a fixed split has no id"),
    ({"valid": Files(paths=("a.csv",), columns=(From(name="other", of="x"),))}, "'other' is not a declared column"),
    ({"bags": (Bag(name="tags", of="tag"),)}, "'tag' is not a declared categorical column"),
    ({"bags": (Bag(name="tags", rows=9, pooling="attention"),)}, "'attention' has no id to look at"),
    ({"bags": (Bag(name="tags", rows=9, beside=("more",)),)}, "not supported in a fixed split"),
    ({"tables": (replace(TABLE, key="user"),)}, "'user' is not a declared categorical column"),
    ({"tables": (replace(TABLE, files=Files(paths=("c",), time=EventTime(of="t"))),)}, "has no time: drop it"),
    ({"network": TwoTower()}, "a TwoTower is for retrieval"),
])  # fmt: skip
def test_what_does_not_fit_is_said(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        replace(SPLIT, **change)  # type: ignore[arg-type]
