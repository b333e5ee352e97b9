"""Names: columns that differ in case alone, versions of a view, paths with what elsewhere are wildcards."""

import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from feast.types import Int64

from feast_asof import locations
from feast_asof.errors import RetrievalError
from feast_asof.locations import place_of
from tests.feature_repo.test_asof_types import ENGINES, both, entity_rows, view_of, write
from tests.feature_repo.worlds import at, make_store


def test_names_that_differ_in_case(tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.parquet", 1, [1, 2], clicks=[1, 2], Clicks=[10, 20])
    write(tmp_path / "f" / "b.parquet", 2, [2], Clicks=[200], clicks=[3])  # in another order
    write(tmp_path / "f" / "c.parquet", 3, [3], clicks=[7], Clicks=[70], CLICKS=[700])
    fields = {"clicks": Int64, "Clicks": Int64}
    store = make_store(tmp_path / "repo", [view_of(tmp_path / "f", fields)])
    given = entity_rows([1, 2, 3], CLICKS=[-1, -2, -3], USER_ID=[3, 2, 1])
    answer = both(store, given, ["v:clicks", "v:Clicks"])
    assert answer.column_names[2:] == ["CLICKS", "USER_ID", "clicks", "Clicks"]
    assert [answer[name].to_pylist() for name in answer.column_names[2:]] == [
        [-1, -2, -3],
        [3, 2, 1],
        [1, 3, 7],
        [10, 200, 70],
    ]
    assert both(store, entity_rows([2]), ["v:Clicks"])["Clicks"].to_pylist() == [200]
    for latest in (True, False):
        store.config.materialization_config.pull_latest_features = latest
        store.materialize(at(0), at(9))
        online = store.get_online_features(["v:clicks", "v:Clicks"], [{"user_id": 1}, {"user_id": 2}]).to_dict()
        assert (online["clicks"], online["Clicks"]) == ([1, 3], [10, 200])


@pytest.mark.parametrize("engine", ENGINES)
def test_names_that_sql_can_not_tell_apart_are_refused(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.parquet", 1, [1], x=[1])
    write(tmp_path / "given.parquet", 2, [1], label=[1], Label=[2])
    store = make_store(tmp_path / "repo", [view_of(tmp_path / "f", {"x": Int64})])
    store.config.offline_store.engine = engine
    with pytest.raises(RetrievalError, match=r"columns \['Label', 'label'\].*differ in case alone"):
        store.get_historical_features(tmp_path / "given.parquet", ["v:x"]).to_arrow()


def test_two_versions_of_a_view(tmp_path: Path) -> None:
    write(tmp_path / "old" / "a.parquet", 1, [1, 2], x=[1, 2])
    write(tmp_path / "new" / "a.parquet", 1, [1, 2], x=[100, 200])
    store = make_store(tmp_path / "repo", [view_of(tmp_path / "old", {"x": Int64})])
    changed = view_of(tmp_path / "new", {"x": Int64, "y": Int64})
    changed.batch_source.name = "new"
    write(tmp_path / "new" / "a.parquet", 1, [1, 2], x=[100, 200], y=[0, 0])
    store.config.registry.enable_online_feature_view_versioning = True
    store.registry.enable_online_versioning = True
    store.apply([changed])
    answer = both(store, entity_rows([2, 1]), ["v@v0:x", "v@v1:x", "v:x"], full_feature_names=True)
    assert answer.select(["v@v0__x", "v@v1__x", "v__x"]).to_pylist() == [
        {"v@v0__x": 2, "v@v1__x": 200, "v__x": 200},
        {"v@v0__x": 1, "v@v1__x": 100, "v__x": 100},
    ]
    assert both(store, entity_rows([2, 1]), ["v@v0:x"])["x"].to_pylist() == [2, 1]


NAMES = ["data[v2]", "what?", "data*", "a**b", "[", "100%", "a b", "it's", "dätä"]


@pytest.mark.parametrize("name", [*NAMES[:3], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[3:])])
def test_a_path_that_exists_is_meant(name: str, tmp_path: Path) -> None:
    for folder in (name, "datav", "data2", "whats", "a-b", "data[v2]x"):  # what a pattern would find beside it
        write(tmp_path / folder / "f" / f"{name}.parquet", 1, [1], x=[5 if folder == name else 6])
    directory, file = tmp_path / name / "f", tmp_path / name / "f" / f"{name}.parquet"
    for path in (
        directory,
        file,
        directory / "*.parquet",
        directory / "**" / "*.parquet",
        tmp_path / name / "?" / "*.parquet",
    ):
        store = make_store(tmp_path / "repo", [view_of(path, {"x": Int64})])
        assert both(store, entity_rows([1]), ["v:x"])["x"].to_pylist() == [5], path
    given = both(store, file, ["v:x"], full_feature_names=True)
    assert given.num_rows == 1 and given["x"].to_pylist() == given["v__x"].to_pylist() == [5]
    job = store.get_historical_features(entity_rows([1]), ["v:x"])
    assert job.to_parquet(tmp_path / name / f"{name}-out.parquet") == 1
    assert (tmp_path / name / f"{name}-out.parquet").is_file()
    for path in (directory, directory / "*.parquet"):
        store = make_store(tmp_path / "repo", [view_of(path, {"x": Int64})])
        store.write_to_offline_store("v", entity_rows([1], 3, x=[7]).to_pandas())
        assert both(store, entity_rows([1]), ["v:x"])["x"].to_pylist() == [7]
        assert {path.parents[1].name for path in tmp_path.rglob("pushed-*")} == {name}


def test_what_is_hidden_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may be removing it: looking there raised, although nothing of it was wanted."""
    write(tmp_path / "slice=1" / "a.parquet", 1, [1])
    write(tmp_path / ".shares-1-x" / "part=0" / "b.parquet", 1, [1])
    write(tmp_path / "_x=1" / "c.parquet", 1, [1])
    looked, scan = list[str](), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or scan(path))
    found = place_of(str(tmp_path)).find()
    assert [Path(file.path).name for file in found] == ["c.parquet", "a.parquet"]
    assert looked and not any(".shares" in folder for folder in looked)


def test_a_remote_path_that_exists_is_meant(tmp_path: Path) -> None:
    for folder in ("data[v2]", "datav"):
        write(tmp_path / folder / "a.parquet", 1, [1])
    for path in ("data[v2]", "data[v2]/*.parquet", "data[v2]/a.parquet", "*[[]v2]/a.parquet"):
        files = locations._location(f"{tmp_path}/{path}", pafs.LocalFileSystem(), "s3:/").find()
        assert [file.path for file in files] == [f"s3:/{tmp_path}/data[v2]/a.parquet"]
