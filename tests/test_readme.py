"""The README's own commands and snippets, on three slices of the default project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exfm.state import ROOT

pytestmark = pytest.mark.xdist_group("readme")  # what all of them begin with is made once

BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text()
RANGE = "2026-01-01...2026-01-03"


def activated(state: Path) -> dict[str, str]:
    """`feast` and `dagster` are found as in an activated environment."""
    cleaned = {k: v for k, v in os.environ.items() if not k.startswith(("EXFM_", "DAGSTER_"))}
    return {**cleaned, "EXFM_STATE": str(state), "PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where a main job of three slices ran."""
    chosen = activated(tmp_path_factory.mktemp("state"))
    done = call(chosen, sys.executable, "-m", "exfm_assets.command", "run", "--range", RANGE)
    assert done.returncode == 0, done.stdout + done.stderr
    chosen["MAIN_JOB_SAID"] = done.stdout
    return chosen


def call(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def snippets() -> list[str]:
    """Those that run as they are, and the one that is pasted into a project."""
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


PASTED = next(text for text in snippets() if "student = Student(" in text)


@pytest.mark.slow
def test_the_main_job_prints_its_command_its_steps_and_a_row_a_student(environment: dict[str, str]) -> None:
    output = environment["MAIN_JOB_SAID"]
    command = "dagster asset materialize -m exfm_assets.definitions --select 'not group:\"studies\"'"
    assert f"{command} --partition-range {RANGE}" in output
    for word in ("teacher_large", "feed_click", "search_convert", "report.html"):
        assert word in output


@pytest.mark.slow
def test_the_log_of_a_run_ends_with_the_run(environment: dict[str, str]) -> None:
    """Not with pages about what was "leaked", which look like a crash."""
    (log,) = Path(environment["EXFM_STATE"]).glob("simulated/logs/run-*.log")
    assert "RUN_SUCCESS" in log.read_text(encoding="utf-8").splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("snippet", [snippet for snippet in snippets() if snippet != PASTED])
def test_snippets_run_and_show_what_they_did(environment: dict[str, str], snippet: str) -> None:
    done = call(environment, sys.executable, "-c", snippet)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
def test_a_pasted_student_runs_alone_and_is_seen(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PASTED, encoding="utf-8")
    chosen = {**environment, "EXFM_PROJECT": str(tmp_path / "mine.py")}
    done = call(
        chosen, sys.executable, "-m", "exfm_assets.command", "run", "--range", RANGE, "--student", "video_convert"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    assert re.search(r"video_convert +│ auxiliary head .* \d\.\d{4} ", done.stdout)
    assert "teacher_large" not in done.stdout  # nothing else ran
    services = call(chosen, "feast", "-c", "feature_repo", "feature-services", "list").stdout
    assert "video_convert_inputs" in services and "video_convert_supervision" in services


@pytest.mark.slow
def test_a_student_that_nobody_declared_is_refused(environment: dict[str, str]) -> None:
    done = call(environment, sys.executable, "-m", "exfm_assets.command", "run", "--student", "video_convert")
    assert done.returncode == 2
    assert "--student: 'video_convert' is not a declared student" in done.stdout


def test_the_learning_pages_declarations_load() -> None:
    page = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    declared: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(snippet, "docs/learning.md", "exec"), declared)
    kinds = {name: type(declared[name]).__name__ for name in ("history", "teacher", "ranking", "retrieval")}
    assert kinds == {"history": "HistoryView", "teacher": "Wukong", "ranking": "DCNv2", "retrieval": "TwoTower"}


@pytest.mark.slow
def test_feast_lists_the_views(environment: dict[str, str]) -> None:
    done = call(environment, "feast", "-c", "feature_repo", "feature-views", "list")
    assert done.returncode == 0, done.stderr
    assert "teacher_large" in done.stdout and "item_activity" in done.stdout


@pytest.mark.slow
def test_predictions_are_shown_by_one_command(environment: dict[str, str]) -> None:
    command = (sys.executable, "-m", "exfm_assets.command", "predictions")
    done = call(environment, *command)
    assert done.returncode == 0 and "click_probability" in done.stdout
    for wrong, sentence in (
        (["--teacher", "huge"], "'huge' is not a declared teacher"),
        (["--slice", "2026"], "not a sl"),
    ):
        refused = call(environment, *command, *wrong)
        assert refused.returncode == 2
        assert sentence in " ".join(refused.stdout.split())


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ({"EXFM_PROJECT": "nonsense"}, [], "EXFM_PROJECT: 'nonsense' is not a project"),
        ({"EXFM_PROJECT": "news"}, [], "EXFM_DATA: not set, and project 'news' reads a real log"),
        ({"EXFM_PROJECT": "news", "EXFM_DATA": "no/such"}, [], "EXFM_DATA: 'no/such' is not a folder"),
        ({}, ["--range", "2026-02-30...2026-03-01"], "slice: '2026-02-30' is not a slice of this stream"),
        ({}, ["--range", "2026-01-14...2026-01-15"], "slice: '2026-01-15' is not a slice of this stream"),
    ],
)
def test_what_cannot_run_is_said_in_one_sentence(
    tmp_path: Path, changes: dict[str, str], arguments: list[str], sentence: str
) -> None:
    done = call({**activated(tmp_path), **changes}, sys.executable, "-m", "exfm_assets.command", "run", *arguments)
    assert done.returncode == 2
    assert sentence in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_heading_that_exists(page: Path) -> None:
    for path, _, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE) if heading else []
        assert not heading or heading in [_anchor(title) for title in titles], (path, heading)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_readme_names_folders_that_exist() -> None:
    for folder in re.findall(r"`(\w+)/`", README):
        assert (
            folder in ("data", "exfm_data", "site", "impressions", "outcomes", "interactions")
            or (ROOT / folder).is_dir()
        )
