"""Columns and features in words: each that exfm names has some, in Dagster's catalogue and in Feast's registry."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from exfm.described import described, words_of
from exfm.errors import DeclarationError
from exfm.state import ROOT, State
from exfm_assets.definitions import build_defs
from feature_repo.project_views import objects_of
from feature_repo.store import apply
from pipeline.slices.predictions import prediction_schema
from pipeline.streams.contract import schema_of
from tests.graph.test_kills import free_port
from tests.tiny import tiny_project, tiny_workspace

OWNERS = ("team:ads", "eve@example.org")


def test_each_name_that_is_ours_is_described() -> None:
    project = tiny_project()
    own = {column.name for column in project.stream.id_columns} | set(project.stream.task_names)
    names = {name for view in project.all_views for name in view.features}
    names |= {
        name for table in ("impressions", "outcomes", "interactions") for name in schema_of(project.stream, table)
    }
    names |= set(prediction_schema(project.teachers[0])) | set(project.logged_columns.of_views)
    names |= set(project.teacher_feature_columns.features)
    assert len(names) > 80
    words = {name: said for view in project.all_views for name, said in words_of(view).items()}
    assert {name for name in names - own if not described(name, words)} == set()
    assert described("at") is None and "seconds since 1970" in str(described("at", words))
    assert described("click_rate_3d") == "Share of impressions of the last 3 days with the outcome click, smoothed"
    assert described("item_activity__click_1d") == "Count of click in the last day; from view item_activity"
    assert described("colour") is None


def test_what_feast_is_told() -> None:
    project = tiny_project(owners=OWNERS)
    objects = objects_of(project, State(folder=Path("x"), log=Path("x")))
    for thing in objects.all():
        assert thing.description and thing.owner == "team:ads, eve@example.org", thing.name
        assert thing.tags["project"] == "tiny"
    assert all(field.description for view in objects.views.values() for field in view.features)


def test_owners_stand_on_every_asset_and_nonsense_is_refused(tmp_path: Path) -> None:
    specs = build_defs(tiny_workspace(tmp_path, tiny_project(owners=OWNERS))).resolve_all_asset_specs()
    assert specs and all(list(spec.owners) == list(OWNERS) for spec in specs)
    with pytest.raises(DeclarationError, match=r"Project.owners: 'ads' is no owner: use team:<name> or an e-mail"):
        tiny_project(owners=("ads",))
    assert all(isinstance(spec, dg.AssetSpec) for spec in specs)


@pytest.mark.slow
def test_feasts_own_ui_starts_from_the_projects_environment(tmp_path: Path) -> None:
    work = tiny_workspace(tmp_path, tiny_project())
    apply(work.project, work.state)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXFM_")}
    port = free_port()
    command = [sys.executable, "-m", "exfm_assets.command", "feast", "ui", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**kept, "EXFM_PROJECT": "tests.tiny:PROJECT", "EXFM_STATE": str(tmp_path)}
    log = tmp_path / "ui.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        views = _asked(f"http://127.0.0.1:{port}/api/v1/feature_views?project=exfm")
        assert "item_activity" in json.dumps(views), log.read_text()
        assert "Counts and rates by item_id" in json.dumps(views)
    finally:
        for pid in _of_session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, 15)
        process.wait(30)


def _asked(url: str) -> Any:
    for _ in range(60):
        with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
        time.sleep(1)
    return None


def _of_session(session: int) -> list[int]:
    from tests.graph.processes import members

    return members(session)
