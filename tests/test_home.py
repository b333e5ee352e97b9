"""Dagster's home beside the state: all of it inside, whatever the folder is called, or a sentence that says why not."""

import os
from pathlib import Path

import dagster as dg
import pytest
import yaml

from exfm.errors import DeclarationError
from exfm.writing import StateError
from exfm_assets.home import COMMITTED, dagster_home

NAMES = ("a b", "a: b", "a #b", "{a}", "a'b", 'a"b', "ü ☃ 😀", "100%", "a&b", "- !a", "a\\b", "$HOME @a")


@pytest.mark.parametrize("name", NAMES)
def test_all_that_dagster_keeps_lies_in_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("EXFM_STATE", str(tmp_path / name / "state"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = dagster_home()
    assert home == tmp_path / name / "state" / "dagster_home"
    moved, committed = (
        yaml.safe_load((folder / "dagster.yaml").read_text(encoding="utf-8")) for folder in (home, COMMITTED)
    )
    assert moved["storage"]["custom"]["config"]["base_dir"] == str(tmp_path / name / "state" / "dagster")
    assert moved["compute_logs"]["config"]["base_dir"] == str(tmp_path / name / "state" / "dagster" / "logs")
    assert moved["concurrency"] == committed["concurrency"]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs() == []
    assert (tmp_path / name / "state" / "dagster" / "history" / "runs.db").exists()
    assert os.listdir(tmp_path) == [name]
    assert sorted(os.listdir(tmp_path / name / "state")) == ["dagster", "dagster_home"]


@pytest.mark.parametrize("name", ["what?", "a%20b", "a?b=c", "[a]", "a*"])
def test_a_path_that_would_send_dagster_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("EXFM_STATE", str(tmp_path / name))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(DeclarationError, match="has '(\\?|%20|\\[|\\*)' in it.*: use another folder, or set DAG"):
        dagster_home()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "own"))
    assert dagster_home() == tmp_path / "own"
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_no_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXFM_STATE", str(tmp_path / "file"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(StateError, match="dagster.yaml can't be written .*: a file lies where a folder should be"):
        dagster_home()
