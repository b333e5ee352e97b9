"""State that another version of exfm wrote: what is newer is never overwritten, what is older is made again."""

import json
import logging
import shutil
import sqlite3
import zlib
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from models.formats import FORMAT
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.verify.online_current import online_faults
from tests.conftest import Ran
from tests.graph.runs import left_by, made_by, run, sentences
from tests.graph.test_changes import grown_teacher, planned
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


@pytest.mark.slow
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
    assert not CheckpointStore.of(work, student).holds(work.project.stream.slice_at(0), "anything")
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, instance=instance)
    assert result.success
    assert left_by(work) == left_by(ran.work)
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if int(entry.level) == logging.WARNING]
    for name in ("teacher/large", "student/feed_click", "control/feed_click"):
        said = [line for line in logged if line.startswith(f"{name}/slice=2026-01-01: ")]
        assert any("by an earlier exfm" in line and "it is trained again" in line for line in said), (name, logged)


@pytest.mark.slow
def test_a_changed_declaration_says_what_changed_when_it_trains_again(ran: Ran, tmp_path: Path) -> None:
    first, *others = ran.work.project.students
    changed = replace(first, network=replace(first.network, hidden=(12,)))
    work = tiny_workspace(tmp_path, replace(ran.work.project, students=(changed, *others)))
    shutil.copytree(ran.work.state.folder, work.state.folder)
    instance = dg.DagsterInstance.ephemeral()
    result = run(work, select=f'group:"{first.name}"', instance=instance)
    assert result.success
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if int(entry.level) == logging.WARNING]
    (line,) = [line for line in logged if line.startswith(f"student/{first.name}/slice=2026-01-01: ")]
    assert "(model.network.hidden: [8] is now [12]): it is trained again" in line


@pytest.mark.long
@pytest.mark.slow
def test_an_upgrade_to_digests_of_columns_trains_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then a checkpoint named the whole table; nor does a column more that comes after the upgrade."""
    work = tiny_workspace(tmp_path)
    with monkeypatch.context() as earlier:
        for module in ("sidecar", "column_digests"):
            earlier.setattr(f"pipeline.{module}.column_digests", lambda frame: {})
        assert run(work).success
    first = work.project.stream.slice_at(0)
    manifest = CheckpointStore.of(work, work.project.teachers[0]).manifest(first)
    assert manifest.data_versions["logged_inputs"] == work.table("logged_inputs").digest(first)
    assert planned(work).is_empty
    grown = replace(work, project=grown_teacher(work, monkeypatch))
    result = run(grown)
    assert result.success
    made = {key.to_user_string() for key, slice_ in made_by(result) if slice_ != first.key}
    assert made == {"features/device_activity", "logged_inputs"}
    assert planned(grown).is_empty
    assert CheckpointStore.of(work, work.project.teachers[0]).manifest(first) == manifest


def test_an_online_store_of_feasts_layout_is_loaded_again(ran: Ran, tmp_path: Path) -> None:
    """An earlier exfm kept a row for each feature of each entity."""
    work = tiny_workspace(tmp_path)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    path = work.state.feast / "online.json"
    note = json.loads(path.read_text())
    del note["layout"]
    path.write_text(json.dumps(note, indent=1))
    with sqlite3.connect(work.state.feast / "online.db") as connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%item_opinion:rows'").fetchone()
        before = connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
        connection.execute(f'DROP TABLE "{table}"')
        connection.execute(
            f'CREATE TABLE "{table.removesuffix(":rows")}" (entity_key BLOB, feature_name TEXT, value BLOB, '
            "value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key))"
        )
        connection.execute(f"PRAGMA user_version = {zlib.crc32(path.read_bytes()) & 0x7FFFFFFF}")
    faults = [fault.why for fault in online_faults(work)]
    assert faults == ["online.db is of an earlier exfm, which kept a row a feature: it is loaded again"]
    assert "online_store" in {step.key.to_user_string() for step in planned(work).steps}
    assert run(work, select='key:"online_store"').success
    assert not list(online_faults(work))
    with sqlite3.connect(work.state.feast / "online.db") as connection:
        assert connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall() == before and len(before) > 10
        assert not connection.execute("SELECT name FROM sqlite_master WHERE name = ?", (table[:-5],)).fetchall()
