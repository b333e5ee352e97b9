"""A draft from raw files to models, as it was written; and the Open Bandit Dataset where it is at hand."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from exfm.source_views import SourceView
from exfm.state import ROOT
from tests.drafting.drafts import complaints, drafted
from tests.drafting.logs import clicks_apart
from tests.graph.runs import failed_checks, run, sentences

OBD = ROOT.parent / "shared" / "data" / "obd"


@pytest.mark.slow
def test_a_draft_runs_from_raw_files_to_models(tmp_path: Path) -> None:
    clicks_apart(tmp_path / "log")
    made = drafted(tmp_path / "log", tmp_path / "draft")
    work = made.workspace(tmp_path / "state")
    ran = run(work, first="2026-01-31", last="2026-02-06")
    assert ran.success and not failed_checks(ran), (sentences(ran), failed_checks(ran))
    slice_ = work.project.stream.slice_at(2)
    labels = work.table("labels").read([slice_])
    assert labels.height > 50 and 0 < labels["click"].sum() < labels.height
    inputs = work.table("logged_inputs").read([slice_])
    assert inputs["users__age"].null_count() == 0
    assert work.evaluations("all_click").read([work.project.stream.slice_at(3)]).height


@pytest.mark.slow
def test_the_commands_that_are_printed_go_on(tmp_path: Path) -> None:
    clicks_apart(tmp_path / "my log")
    exfm = [sys.executable, "-m", "exfm_assets.command"]
    drafting = [*exfm, "draft", str(tmp_path / "my log"), "--to", str(tmp_path / "mine.py")]
    said = subprocess.run(drafting, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    *variables, _, _, _ = shlex.split(said.splitlines()[-2])
    environment = ["env", *variables, f"EXFM_STATE={tmp_path / 'state'}"]
    plan = subprocess.run([*environment, *exfm, "run", "--plan"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert plan.returncode == 0 and "imported_log" in plan.stdout, plan.stdout + plan.stderr


@pytest.mark.slow
@pytest.mark.skipif(not OBD.is_dir(), reason="the Open Bandit Dataset is not here")
def test_the_open_bandit_dataset(tmp_path: Path) -> None:
    made = drafted(OBD, tmp_path / "draft")
    assert complaints(made.file) == ""
    stream, log = made.project.stream, made.project.log
    assert log is not None and log.impressions[0].paths == ("bts_*.csv.gz", "random_*.csv.gz")
    assert set(stream.surfaces) == {"men", "women"} and len(list(stream.slices(stream.first_slice, stream.until))) == 7  # type: ignore[arg-type]
    (items,) = (view for view in made.project.feature_views if isinstance(view, SourceView))
    assert items.entities == ("item_id",) and len(items.inputs) == 4
    (teacher,) = made.project.teachers
    assert {"position", "item_context", *(f"user_item_affinity_{k}" for k in range(46))} <= {*teacher.inputs}
    assert "propensity_score" not in teacher.inputs and "column_0" in made.draft.left_out
    (shown,) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined, shown.left_out) == (40_000, 0, 0)
